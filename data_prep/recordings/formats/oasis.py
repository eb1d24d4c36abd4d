"""Open-Oasis' samples: ``<name>.mp4`` beside ``<name>.one_hot_actions.pt``, ``<name>.actions.pt``, or both.

One holds the action vectors, float32 (rows, 25), the other a list of dicts with a key for each button and ``camera``, the bins
(pitch, yaw) of 0 to 80. Row t is the action taken at frame t, so a zero row is prepended; where there are as many rows as
frames, the last one leads nowhere. Where both files are there they must agree. No code in them is run. Reading them needs
PyTorch (pip install 'rad_jax[torch]').
"""

from pathlib import Path

import numpy as np

from data_prep.common.torch_files import TorchFileError, read_torch
from data_prep.recordings.actions import (
    ACTIONS,
    BUTTONS,
    HALF_BINS,
    PITCH,
    YAW,
    bin_value,
    camera_degrees,
    led_to,
)
from data_prep.recordings.files import find_pairs
from data_prep.recordings.recording import BadRecording, Candidate, Recording, Source, unknown_pose
from data_prep.recordings.video import count_frames

SOURCE = Source("oasis", "Open-Oasis samples", 20, ACTIONS)
LAYOUT = "<name>.mp4 beside <name>.one_hot_actions.pt or <name>.actions.pt"
VECTORS, DICTS = ".one_hot_actions.pt", ".actions.pt"


def find(src: Path | str) -> list[Candidate]:
    return find_pairs(src, (".mp4", VECTORS, DICTS))


def read(candidate: Candidate, video_frames: int | None = None) -> Recording:
    video = candidate.file(".mp4")
    found = {key: _READERS[key](candidate.file(key)) for key in (VECTORS, DICTS) if key in candidate.files}
    if not found:
        candidate.file(VECTORS)  # raises, naming what is missing
    path, rows = candidate.file(next(iter(found))), next(iter(found.values()))
    if any(not np.array_equal(other, rows) for other in found.values()):
        raise BadRecording(path, f"other actions than {candidate.file(DICTS).name} has", "the same")
    frames = video_frames or count_frames(video)
    if len(rows) not in (frames, frames - 1):
        raise BadRecording(
            path, f"{len(rows)} rows for {frames} frames of {video.name}", f"{frames - 1} or {frames}"
        )
    actions = led_to(rows, frames)
    return Recording(
        candidate.id,
        SOURCE,
        video,
        frames,
        actions=actions,
        camera_deg=camera_degrees(actions[:, [PITCH, YAW]]),
        pose=unknown_pose(frames),
    )


def _content(path: Path) -> object:
    try:
        return read_torch(path)
    except TorchFileError as error:
        raise BadRecording(path, str(error).removeprefix(f"{path}: ").removeprefix(f"{path} ")) from error


def _vectors(path: Path) -> np.ndarray:
    rows = _content(path)
    if not isinstance(rows, np.ndarray) or rows.dtype != np.float32 or rows.ndim != 2:
        shape = f"{rows.dtype} {rows.shape}" if isinstance(rows, np.ndarray) else type(rows).__name__
        raise BadRecording(path, f"a content of {shape}", f"float32 (rows, {len(ACTIONS)})")
    if rows.shape[1] != len(ACTIONS) or not len(rows):
        raise BadRecording(path, f"a shape of {rows.shape}", f"(rows, {len(ACTIONS)})")
    buttons, camera = np.delete(rows, [PITCH, YAW], axis=1), rows[:, [PITCH, YAW]]
    if not np.isin(buttons, (0, 1)).all() or not (np.abs(camera) <= 1).all():
        raise BadRecording(path, "vectors with other values", "buttons 0 or 1 and a camera of -1 to 1")
    return rows


def _dicts(path: Path) -> np.ndarray:
    rows = _content(path)
    if not isinstance(rows, list) or not rows:
        raise BadRecording(path, f"a content of {type(rows).__name__}", "a list of dicts")
    out = np.zeros((len(rows), len(ACTIONS)), np.float32)
    for t, row in enumerate(rows):
        if not isinstance(row, dict) or set(row) != {*BUTTONS, "camera"}:
            raise BadRecording(path, f"row {t} has other keys", f"camera and the {len(BUTTONS)} buttons")
        camera = _integers(path, t, "camera", row["camera"], 2)
        pressed = [_integers(path, t, name, row[name], 1)[0] for name in BUTTONS]
        if not np.isin(pressed, (0, 1)).all() or not ((camera >= 0) & (camera <= 2 * HALF_BINS)).all():
            raise BadRecording(
                path, f"row {t} with other values", "buttons 0 or 1 and camera bins of 0 to 80"
            )
        out[t, [ACTIONS.index(name) for name in BUTTONS]] = pressed
        out[t, [PITCH, YAW]] = bin_value(camera)
    return out


def _integers(path: Path, t: int, name: str, value: object, count: int) -> np.ndarray:
    try:
        numbers = np.asarray(value).reshape(-1)
    except ValueError:
        numbers = np.empty(0)
    if numbers.dtype.kind not in "iub" or len(numbers) != count:
        raise BadRecording(path, f"row {t}: {name} is {str(value)[:40]!r}", f"{count} integers")
    return numbers.astype(np.int64)


_READERS = {VECTORS: _vectors, DICTS: _dicts}
