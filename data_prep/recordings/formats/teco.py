"""TECO's Minecraft (wilson1yan/collect-minecraft), which Diffusion Forcing trains on too: ``**/<6 digits>.mp4 + .npz``.

``actions`` of the npz: integers (T,), 0 at the start and nowhere else, 1 forward, 2 left and 3 right by 20 degrees; all three
also jump. Row t led to frame t. (Diffusion Forcing's reader drops row 0: there, row t is the action taken at frame t.)
"""

from pathlib import Path

import numpy as np

from data_prep.recordings.actions import ACTIONS, LARGEST_TURN, vectors
from data_prep.recordings.files import Arrays, find_pairs
from data_prep.recordings.recording import BadRecording, Candidate, Recording, Source, unknown_pose
from data_prep.recordings.video import frames_for

SOURCE = Source("teco", "TECO (MineRL)", 20, ACTIONS)
LAYOUT = "<worker>/<number>.mp4 beside <number>.npz"
START, FORWARD, LEFT, RIGHT = range(4)


def find(src: Path | str) -> list[Candidate]:
    return find_pairs(src, (".mp4", ".npz"))


def read(candidate: Candidate, video_frames: int | None = None) -> Recording:
    video, path = candidate.file(".mp4"), candidate.file(".npz")
    rows = Arrays(path).get("actions", "iu")
    if rows.ndim != 1:
        raise BadRecording(path, f"actions of shape {rows.shape}", "(frames,)")
    frames = frames_for(video, path, len(rows), video_frames)
    if rows[0] != START or not np.isin(rows[1:], (FORWARD, LEFT, RIGHT)).all():
        raise BadRecording(path, "actions with other values", "0 at the start, then 1, 2 or 3")
    camera = np.zeros((frames, 2), np.float32)
    camera[:, 1] = LARGEST_TURN * ((rows == RIGHT).astype(np.float32) - (rows == LEFT))
    return Recording(
        candidate.id,
        SOURCE,
        video,
        frames,
        actions=vectors({"forward": rows == FORWARD, "jump": rows != START}, camera),
        camera_deg=camera,
        pose=unknown_pose(frames),
    )
