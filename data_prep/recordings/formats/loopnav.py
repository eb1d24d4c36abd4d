"""LoopNav's walks there and back (Kevin-lkw/LoopNav): ``<ABA or ABCA>/<place>/<range>/<date>.avi + .json``.

The JSON file is a list with a row for every frame: x, y, z, yaw and pitch in radians after the action, ``action`` with the
keys and ``camera``, the changes of yaw and pitch, and ``goal``, where the walker is heading. Angles are Mineflayer's: yaw grows
to the left and 0 looks to -z, pitch grows upwards. A row is written when something changed, at most 20 times a second, so the
time between frames varies. Row t led to frame t; the action of row 0 is dropped, because no frame precedes it.

The way back, which an evaluation predicts, begins after the last row whose goal is more than 2 blocks from the start.
"""

import numpy as np

from data_prep.recordings.actions import vectors
from data_prep.recordings.files import read_json_rows
from data_prep.recordings.recording import POSE, Candidate, Recording, Source

SOURCE = Source("loopnav", "LoopNav (Mineflayer)", 20, (".avi", ".json"))
KEYS = ("forward", "back", "left", "right", "jump", "sprint", "sneak")
_FAR = 2.0  # blocks


def read(candidate: Candidate) -> Recording:
    rows = read_json_rows(candidate.file(".json"))
    taken = [row.object("action") for row in rows]
    keys = {key: np.array([action.get(key, bool) for action in taken]) for key in KEYS}
    turned_yaw, turned_pitch = np.degrees([action.numbers("camera", 2) for action in taken]).T
    camera = np.stack([-turned_pitch, -turned_yaw], 1).astype(np.float32)
    camera[0] = 0
    actions = vectors(keys, camera)
    actions[0] = 0
    x, y, z, yaw, pitch = np.array([[row.number(name) for name in POSE] for row in rows]).T
    context = 0
    for t, row in enumerate(rows):
        if isinstance(row.content.get("goal"), dict):
            goal = row.object("goal")
            if max(abs(goal.number("x") - x[0]), abs(goal.number("z") - z[0])) > _FAR:
                context = t + 1
    pose = np.stack([x, y, z, 180 - np.degrees(yaw), -np.degrees(pitch)], 1)
    n_context = context if 0 < context < len(rows) else None
    return Recording(candidate, SOURCE, actions, pose, camera, n_context=n_context)
