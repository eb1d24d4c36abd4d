"""VRAG's MineRL recordings (yeyutaihan/collect_mc), of which the paper's data are made: ``<worker>/<6 digits>.mp4 + .npz``.

``actions`` of the npz: integers (T, 4), forward, back, jump in {0, 1} and turn in {-1, 0, 1} of 20 degrees, + to the right;
or floats (T, 8), the same and x, y, z, yaw after the action. Row t led to frame t. Row 0 is zeros, its pose too: the pose of
frame 0 is not known. Evaluation episodes lie in one directory without workers, which is found too.

Files of other worlds in this layout may hold more: ``pose`` (T, 5), x, y, z, yaw, pitch of every frame, the first one too,
``n_context``, and ``oracle`` (T, H, W, 3) uint8, the frames of a perfect memory.
"""

from pathlib import Path

import numpy as np

from data_prep.recordings.actions import ACTIONS, LARGEST_TURN, vectors
from data_prep.recordings.files import Arrays, find_pairs, shaped
from data_prep.recordings.recording import POSE, BadRecording, Candidate, Recording, Source, unknown_pose
from data_prep.recordings.video import frames_for

SOURCE = Source("vrag", "VRAG (MineRL)", 20, ACTIONS)
LAYOUT = "<worker>/<number>.mp4 beside <number>.npz"
KEYS = ("forward", "back", "jump")


def find(src: Path | str) -> list[Candidate]:
    return find_pairs(src, (".mp4", ".npz"))


def read(candidate: Candidate, video_frames: int | None = None) -> Recording:
    video, path = candidate.file(".mp4"), candidate.file(".npz")
    arrays = Arrays(path)
    rows = arrays.get("actions", "iuf")
    if rows.ndim != 2 or rows.shape[1] not in (4, 8):
        raise BadRecording(path, f"actions of shape {rows.shape}", "(frames, 4) or (frames, 8)")
    frames = frames_for(video, path, len(rows), video_frames)
    keys, turn = rows[:, :3], rows[:, 3]
    if not (np.isin(keys, (0, 1)).all() and np.isin(turn, (-1, 0, 1)).all()):
        raise BadRecording(
            path, "actions with other values", "forward, back, jump 0 or 1 and turn -1, 0 or 1"
        )
    camera = np.zeros((frames, 2), np.float32)
    camera[:, 1] = turn * LARGEST_TURN
    pose = unknown_pose(frames)
    if rows.shape[1] == 8:
        pose[1:, :4] = rows[1:, 4:]
    if "pose" in arrays:
        pose = shaped(arrays, "pose", (frames, len(POSE)), "f").astype(np.float64)
    n_context = int(shaped(arrays, "n_context", (), "iu")) if "n_context" in arrays else None
    extra = {"oracle": _oracle(arrays, frames)} if "oracle" in arrays else {}
    return Recording(
        candidate.id,
        SOURCE,
        video,
        frames,
        actions=vectors(dict(zip(KEYS, keys.T, strict=True)), camera),
        camera_deg=camera,
        pose=pose,
        n_context=n_context,
        arrays=extra,
    )


def _oracle(arrays: Arrays, frames: int) -> np.ndarray:
    oracle = arrays.get("oracle", "u")
    if oracle.dtype != np.uint8 or oracle.ndim != 4 or oracle.shape[::3] != (frames, 3) or 0 in oracle.shape:
        found = f"oracle of shape {oracle.shape} and dtype {oracle.dtype}"
        raise BadRecording(arrays.path, found, f"uint8 ({frames}, height, width, 3)")
    return oracle
