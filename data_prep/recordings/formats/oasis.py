"""Open-Oasis' samples: ``<name>.mp4`` beside ``<name>.one_hot_actions.pt``, ``<name>.actions.pt``, or both.

One holds the action vectors, float32 (rows, 25), the other a list of dicts with a key for each button and ``camera``, the bins
(pitch, yaw) of 0 to 80. Row t is the action taken at frame t, so a zero row is prepended; where there are as many rows as
frames, the last one leads nowhere. Where both files are there they must agree. No code in them is run. Reading them needs
PyTorch (pip install 'rad_jax[torch]').
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from data_prep.common.torch_files import TorchFileError, read_torch
from data_prep.recordings.actions import ACTIONS, BUTTONS, PITCH, YAW, bin_value, camera_degrees, led_to
from data_prep.recordings.recording import BadRecording, Candidate, Recording, Source, unknown_pose

VECTORS, DICTS = ".one_hot_actions.pt", ".actions.pt"
SOURCE = Source("oasis", "Open-Oasis samples", 20, (".mp4", VECTORS, DICTS), spare_row=True)


def read(candidate: Candidate) -> Recording:
    there = [ending for ending in (VECTORS, DICTS) if ending in candidate.files] or [VECTORS]
    found = [_rows(candidate.file(ending), ending) for ending in there]
    if not all(np.array_equal(rows, found[0]) for rows in found):
        name = candidate.file(DICTS).name
        raise BadRecording(candidate.file(VECTORS), f"other actions than {name} has", "the same")
    actions = led_to(found[0])
    camera = camera_degrees(actions[:, [PITCH, YAW]])
    return Recording(candidate, SOURCE, actions, unknown_pose(len(actions)), camera)


def _rows(path: Path, ending: str) -> Float32[np.ndarray, "rows 25"]:
    """The action vectors of a file."""
    try:
        rows = read_torch(path)
    except TorchFileError as error:
        raise BadRecording(path, str(error).removeprefix(f"{path}: ")) from error
    if ending == DICTS:
        rows = _from_dicts(path, rows)
    if not isinstance(rows, np.ndarray) or rows.dtype != np.float32 or rows.shape[1:] != (len(ACTIONS),):
        found = f"{rows.dtype} {rows.shape}" if isinstance(rows, np.ndarray) else type(rows).__name__
        raise BadRecording(path, f"a content of {found}", f"float32 (rows, {len(ACTIONS)})")
    buttons, camera = np.delete(rows, [PITCH, YAW], axis=1), rows[:, [PITCH, YAW]]
    good = np.isfinite(rows).all(1)
    if good.all():  # NumPy warns of comparisons with some NaN
        good = np.isin(buttons, (0, 1)).all(1) & (np.abs(camera) <= 1).all(1)
    if not good.all():
        expected = "buttons 0 or 1, and a camera of -1 to 1 or bins of 0 to 80"
        raise BadRecording(path, f"row {np.argmin(good)} with other values", expected)
    return rows


def _from_dicts(path: Path, rows: Any) -> Float32[np.ndarray, "rows 25"]:
    if not isinstance(rows, list):
        raise BadRecording(path, f"a content of {type(rows).__name__}", "a list of dicts")
    columns = {**{name: [ACTIONS.index(name)] for name in BUTTONS}, "camera": [PITCH, YAW]}
    out = np.zeros((len(rows), len(ACTIONS)), np.float32)
    for t, row in enumerate(rows):
        if not isinstance(row, dict) or set(row) != set(columns):
            raise BadRecording(path, f"row {t} has other keys", f"camera and the {len(BUTTONS)} buttons")
        for name, places in columns.items():
            numbers = np.ravel(np.array(row[name], object))
            if len(numbers) != len(places) or not all(isinstance(n, int | np.integer) for n in numbers):
                found = f"row {t}: {name} is {str(row[name])[:40]!r}"
                raise BadRecording(path, found, f"{len(places)} integers")
            out[t, places] = bin_value(numbers.astype(np.int64)) if name == "camera" else numbers
    return out
