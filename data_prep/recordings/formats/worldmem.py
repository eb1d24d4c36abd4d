"""WorldMem's MineDojo recordings (xizaoqu/WorldMem, data_generator.py): ``**/<6 digits>.mp4 + .npz``, 10 frames per second.

``actions`` of the npz: integers (T, 8) in MineDojo's terms, row t led to frame t, row 0 does nothing:

    0  1 forward, 2 back      3  pitch in steps of 15 degrees from 12, more is down       6, 7  what to craft or hold
    1  1 left, 2 right        4  yaw in steps of 15 degrees from 12, more is right
    2  1 jump, 2 sneak, 3 sprint        5  1 use, 2 drop, 3 attack, 4 craft, 5 equip, 6 place, 7 destroy

``poses``: (T, 5) x, y, z, pitch, yaw; the height of row 0 is wrong; a file with one row fewer lacks that of frame 0. The first
100 frames are left out, as by WorldMem's own reader, and so are recordings whose height changes by 2 or more. Two things
differ from that reader: it stores a step of 15 degrees as the largest turn (1.0; the quantiser says 0.85), and use and place
as "drop". Here both are "use", and destroy is "attack". Craft and equip have no entry in the action vector.
"""

import numpy as np

from data_prep.recordings.actions import vectors
from data_prep.recordings.files import Arrays
from data_prep.recordings.recording import BadRecording, Candidate, Recording, Source, unknown_pose

SOURCE = Source("worldmem", "WorldMem (MineDojo)", 10, (".mp4", ".npz"), skip=100)
NO_TURN, DEGREES = 12, 15.0
LARGEST = (2, 2, 3, 24, 24, 7)  # of the first six columns
HEIGHT_RANGE = 2.0  # blocks
BUTTONS = {
    "forward": (0, (1,)),
    "back": (0, (2,)),
    "left": (1, (1,)),
    "right": (1, (2,)),
    "jump": (2, (1,)),
    "sneak": (2, (2,)),
    "sprint": (2, (3,)),
    "use": (5, (1, 6)),
    "drop": (5, (2,)),
    "attack": (5, (3, 7)),
}
"""Name in the action vector: column, and the values there that press it."""


def read(candidate: Candidate) -> Recording:
    arrays = Arrays(candidate.file(".npz"))
    rows, poses = arrays.get("actions", "iu", (None, 8)), arrays.get("poses", "f", (None, 5))
    frames = len(rows)
    if frames < 2 or len(poses) not in (frames, frames - 1):
        found = f"{len(poses)} rows of poses for {frames} of actions"
        raise BadRecording(arrays.path, found, "at least 2, and as many or one fewer")
    if (rows < 0).any() or (rows[:, :6] > LARGEST).any():
        raise BadRecording(
            arrays.path, "actions with other values", f"0 to {LARGEST} in the first six columns"
        )
    camera = ((rows[:, [3, 4]].astype(np.float64) - NO_TURN) * DEGREES).astype(np.float32)
    if rows[0, [0, 1, 2, 5]].any() or camera[0].any():
        found = f"row 0 of actions is {rows[0].tolist()}"
        raise BadRecording(arrays.path, found, "the action that does nothing")
    pose = unknown_pose(frames)
    pose[frames - len(poses) :] = poses[:, [0, 1, 2, 4, 3]]
    pose[0, 1] = pose[1, 1]
    if np.ptp(pose[:, 1]) >= HEIGHT_RANGE:
        found = f"a height that changes by {np.ptp(pose[:, 1]):.2f}"
        raise BadRecording(arrays.path, found, "less than 2 blocks")
    actions = vectors({name: np.isin(rows[:, c], values) for name, (c, values) in BUTTONS.items()}, camera)
    other = int(np.isin(rows[:, 5], (4, 5)).sum())
    notes = (f"{other} frames of crafting or equipping, which the action vector lacks",) if other else ()
    return Recording(candidate, SOURCE, actions, pose, camera, notes=notes)
