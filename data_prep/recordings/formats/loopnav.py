"""LoopNav's walks there and back (Kevin-lkw/LoopNav): ``<ABA or ABCA>/<place>/<range>/<date>.avi + .json``.

The JSON file is a list with a row for every frame: x, y, z, yaw and pitch in radians after the action, ``action`` with the
keys and ``camera``, the changes of yaw and pitch, and ``goal``, where the walker is heading. Angles are Mineflayer's: yaw grows
to the left and 0 looks to -z, pitch grows upwards. A row is written when something changed, at most 20 times a second, so the
time between frames varies. Row t led to frame t; the action of row 0 is dropped, because no frame precedes it.

The way back, which an evaluation predicts, begins after the last row whose goal is more than 2 blocks from the start.
"""

from pathlib import Path

import numpy as np

from data_prep.recordings.actions import ACTIONS, vectors
from data_prep.recordings.files import entry_of, find_pairs, number_of, read_json
from data_prep.recordings.recording import BadRecording, Candidate, Recording, Source
from data_prep.recordings.video import frames_for

SOURCE = Source("loopnav", "LoopNav (Mineflayer)", 20, ACTIONS)
LAYOUT = "<type>/<place>/<range>/<date>.avi beside <date>.json"
KEYS = ("forward", "back", "left", "right", "jump", "sprint", "sneak")
_FAR = 2.0  # blocks


def find(src: Path | str) -> list[Candidate]:
    return find_pairs(src, (".avi", ".json"))


def read(candidate: Candidate, video_frames: int | None = None) -> Recording:
    video, path = candidate.file(".avi"), candidate.file(".json")
    rows = read_json(path)
    if not isinstance(rows, list) or not rows:
        raise BadRecording(path, "no list of rows", "a row for every frame")
    keys = {key: np.zeros(len(rows), np.float32) for key in KEYS}
    camera, pose = np.zeros((len(rows), 2), np.float32), np.zeros((len(rows), 5))
    goals = np.full((len(rows), 2), np.nan)
    for t, row in enumerate(rows):
        where = f"row {t}"
        action = entry_of(path, where, row, "action", dict)
        for key in KEYS:
            keys[key][t] = entry_of(path, f"action of {where}", action, key, bool)
        turn = entry_of(path, f"action of {where}", action, "camera", list)
        if len(turn) != 2:
            raise BadRecording(path, f"camera of {where} has {len(turn)} numbers", "2")
        yaw, pitch = (np.degrees(number_of(path, where, angle, "camera")) for angle in turn)
        camera[t] = -pitch, -yaw
        x, y, z, yaw, pitch = (
            number_of(path, where, entry_of(path, where, row, name, (int, float)), name)
            for name in ("x", "y", "z", "yaw", "pitch")
        )
        pose[t] = x, y, z, 180 - np.degrees(yaw), -np.degrees(pitch)
        goal = row.get("goal")
        if isinstance(goal, dict):
            goals[t] = [number_of(path, where, goal.get(axis), f"{axis} of goal") for axis in "xz"]
    frames = frames_for(video, path, len(rows), video_frames)
    camera[0] = 0
    actions = vectors(keys, camera)
    actions[0] = 0
    away = np.flatnonzero((np.abs(goals - pose[0, [0, 2]]) > _FAR).any(1))
    return Recording(
        candidate.id,
        SOURCE,
        video,
        frames,
        actions=actions,
        camera_deg=camera,
        pose=pose,
        n_context=int(away[-1]) + 1 if len(away) and away[-1] + 1 < frames else None,
    )
