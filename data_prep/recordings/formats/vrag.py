"""VRAG's MineRL recordings (yeyutaihan/collect_mc), of which the paper's data are made: ``<worker>/<6 digits>.mp4 + .npz``.

``actions`` of the npz: integers (T, 4), forward, back, jump in {0, 1} and turn in {-1, 0, 1} of 20 degrees, + to the right;
or floats (T, 8), the same and x, y, z, yaw after the action. Row t led to frame t. Row 0 is zeros, its pose too: the pose of
frame 0 is not known. Evaluation episodes lie in one directory without workers, which is found too.

Files of other worlds in this layout may hold more: ``pose`` (T, 5), x, y, z, yaw, pitch of every frame, the first one too,
``n_context``, and ``oracle`` (T, H, W, 3) uint8, the frames of a perfect memory.
"""

import numpy as np

from data_prep.recordings.actions import LARGEST_TURN, vectors
from data_prep.recordings.files import Arrays
from data_prep.recordings.recording import POSE, BadRecording, Candidate, Recording, Source, unknown_pose

SOURCE = Source("vrag", "VRAG (MineRL)", 20, (".mp4", ".npz"))
KEYS = ("forward", "back", "jump")


def read(candidate: Candidate) -> Recording:
    arrays = Arrays(candidate.file(".npz"))
    rows = arrays.get("actions", "iuf", (None, None))
    frames = len(rows)
    if rows.shape[1] not in (4, 8):
        raise BadRecording(arrays.path, f"actions of shape {rows.shape}", "(frames, 4) or (frames, 8)")
    keys, turn = rows[:, :3], rows[:, 3]
    if not (np.isin(keys, (0, 1)).all() and np.isin(turn, (-1, 0, 1)).all()):
        expected = "forward, back, jump 0 or 1 and turn -1, 0 or 1"
        raise BadRecording(arrays.path, "actions with other values", expected)
    camera = np.zeros((frames, 2), np.float32)
    camera[:, 1] = turn * LARGEST_TURN
    pose = unknown_pose(frames)
    if rows.shape[1] == 8:
        pose[1:, :4] = rows[1:, 4:]
    if "pose" in arrays:
        pose = arrays.get("pose", "f", (frames, len(POSE))).astype(np.float64)
    actions = vectors(dict(zip(KEYS, keys.T, strict=True)), camera)
    oracle = {"oracle": arrays.images("oracle", frames)} if "oracle" in arrays else {}
    return Recording(candidate, SOURCE, actions, pose, camera, n_context=arrays.n_context(), arrays=oracle)
