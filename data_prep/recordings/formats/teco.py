"""TECO's Minecraft (wilson1yan/collect-minecraft), which Diffusion Forcing trains on too: ``**/<6 digits>.mp4 + .npz``.

``actions`` of the npz: integers (T,), 0 at the start and nowhere else, 1 forward, 2 left and 3 right by 20 degrees; all three
also jump. Row t led to frame t. (Diffusion Forcing's reader drops row 0: there, row t is the action taken at frame t.)
"""

import numpy as np

from data_prep.recordings.actions import LARGEST_TURN, vectors
from data_prep.recordings.files import Arrays
from data_prep.recordings.recording import BadRecording, Candidate, Recording, Source, unknown_pose

SOURCE = Source("teco", "TECO (MineRL)", 20, (".mp4", ".npz"))
START, FORWARD, LEFT, RIGHT = range(4)


def read(candidate: Candidate) -> Recording:
    path = candidate.file(".npz")
    rows = Arrays(path).get("actions", "iu", (None,))
    if not (rows[:1] == START).all() or not np.isin(rows[1:], (FORWARD, LEFT, RIGHT)).all():
        raise BadRecording(path, "actions with other values", "0 at the start, then 1, 2 or 3")
    camera = np.zeros((len(rows), 2), np.float32)
    camera[:, 1] = LARGEST_TURN * ((rows == RIGHT).astype(np.float32) - (rows == LEFT))
    actions = vectors({"forward": rows == FORWARD, "jump": rows != START}, camera)
    return Recording(candidate, SOURCE, actions, unknown_pose(len(rows)), camera)
