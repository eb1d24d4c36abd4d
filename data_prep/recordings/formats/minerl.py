"""MineRL-v0 (minerllabs/minerl): a directory for each trajectory, ``recording.mp4``, ``rendered.npz``, ``metadata.json``.

``rendered.npz`` has ``reward`` (N,) and ``action$...`` (N, ...): the action taken at state t, which leads to t + 1 (camera in
degrees, (pitch, yaw)). There are N + 1 states, and the video shows them at its end: its first frames, as many as
``true_video_frame_count`` of the metadata exceeds N + 1, are left out. The last frame cannot be trusted; as in MineRL's loader,
the one before it is shown twice. Placing a block is "use"; crafting, smelting and equipping have no entry in the action vector.

MineRL opens these files with pickles allowed. Here only plain arrays are read.
"""

from pathlib import Path

import numpy as np

from data_prep.recordings.actions import ACTIONS, BUTTONS, led_to, vectors
from data_prep.recordings.files import Arrays, entry_of, find_directories, read_json, shaped
from data_prep.recordings.recording import BadRecording, Candidate, Recording, Source, unknown_pose
from data_prep.recordings.video import count_frames

SOURCE = Source("minerl", "MineRL-v0", 20, ACTIONS)
VIDEO, ARRAYS, METADATA = "recording.mp4", "rendered.npz", "metadata.json"
LAYOUT = f"<trajectory>/{VIDEO}, {ARRAYS} and {METADATA}"


def find(src: Path | str) -> list[Candidate]:
    return find_directories(src, (VIDEO, ARRAYS, METADATA))


def read(candidate: Candidate, video_frames: int | None = None) -> Recording:
    video, path, metadata = (candidate.file(name) for name in (VIDEO, ARRAYS, METADATA))
    arrays = Arrays(path)
    steps = arrays.get("reward", "iuf")
    if steps.ndim != 1 or not len(steps):
        raise BadRecording(path, f"reward of shape {steps.shape}", "(steps,)")
    steps, notes = len(steps), []
    camera = shaped(arrays, "action$camera", (steps, 2), "iuf")
    buttons = {}
    for name in BUTTONS:
        if f"action${name}" in arrays:
            pressed = shaped(arrays, f"action${name}", (steps,))
            if not np.isin(pressed, (0, 1)).all():
                raise BadRecording(path, f"action${name} with other values", "0 and 1")
            buttons[name] = pressed.astype(np.float32)
    if "forward" not in buttons:
        raise BadRecording(path, "no array 'action$forward'", f"it among {', '.join(arrays.names())}"[:160])
    if "action$place" in arrays:
        placed = _placed(arrays, steps)
        if placed is None:
            notes.append("action$place is no plain array: blocks that were placed are not known")
        else:
            buttons["use"] = np.maximum(buttons.get("use", 0), placed)
    stated = entry_of(metadata, "the file", read_json(metadata), "true_video_frame_count", int)
    frames = video_frames or count_frames(video)
    if frames != stated:
        raise BadRecording(video, f"{frames} frames", f"{stated} as {METADATA} says")
    if frames < steps + 1:
        raise BadRecording(video, f"{frames} frames for {steps} steps", f"at least {steps + 1}")
    turned = led_to(camera.astype(np.float32), steps + 1)
    return Recording(
        candidate.id,
        SOURCE,
        video,
        frames,
        actions=vectors({name: led_to(pressed, steps + 1) for name, pressed in buttons.items()}, turned),
        camera_deg=turned,
        pose=unknown_pose(steps + 1),
        first_frame=frames - steps - 1,
        repeat_last=True,
        notes=tuple(notes),
    )


def _placed(arrays: Arrays, steps: int) -> np.ndarray | None:
    """Where a block was placed: 1, else 0; None if the file does not tell. It holds names ("none") or numbers (0)."""
    if arrays.is_pickled("action$place"):
        return None
    names = shaped(arrays, "action$place", (steps,), "iuU")
    return ((names != "none") if names.dtype.kind == "U" else (names != 0)).astype(np.float32)
