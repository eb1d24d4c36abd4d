"""Memory Maze's offline data (jurgisp/memory-maze): an npz file for each trajectory, ``image`` (T, H, W, 3) uint8 and more.

Row t of ``action`` led to image t; row 0 carries nothing. Two layouts are read: the published one, and that of pydreamer,
which stores ``image_t`` with axes (H, W, C, T), ``reset``, and actions that are all zero where an episode begins. Actions are
one-hot of any dtype (a row of zeros does nothing) or numbers 0 to 5. A file must hold one episode. The other arrays keep their
names; ``maze_layout`` and ``targets_pos``, which do not change, are stored once for the episode.
"""

from pathlib import Path

import numpy as np

from data_prep.recordings.files import Arrays, find_pairs
from data_prep.recordings.recording import BadRecording, Candidate, Recording, Source
from data_prep.recordings.video import FrameChunks, scale

ACTIONS = ("noop", "forward", "left", "right", "forward_left", "forward_right")
SOURCE = Source("memory_maze", "Memory Maze", 4, ACTIONS, ("x", "y", "cos", "sin"))
LAYOUT = "<name>.npz with image or image_t, and action"
PER_FRAME = ("reward", "agent_pos", "agent_dir", "target_pos", "target_vec", "target_color", "targets_vec")
CONSTANT = {"maze_layout": np.uint8, "targets_pos": np.float32}
_CHUNK = 256  # frames
_UNIT = 0.01  # by which the length of a direction may differ from 1


def find(src: Path | str) -> list[Candidate]:
    return find_pairs(src, (".npz",))


def read(candidate: Candidate, video_frames: int | None = None) -> Recording:
    del video_frames  # the images are read anyway
    path = candidate.file(".npz")
    arrays = Arrays(path)
    frames = len(_images(arrays))
    actions = _actions(arrays, frames)
    for name, inside in (("reset", slice(1, None)), ("terminal", slice(None, -1))):
        if name in arrays and _rows(arrays, name, frames, "biuf")[inside].any():
            raise BadRecording(path, f"a {name} within the file", "one episode")
    extras = {n: _rows(arrays, n, frames).astype(np.float32) for n in PER_FRAME if n in arrays}
    statics = {n: _constant(arrays, n, frames).astype(t) for n, t in CONSTANT.items() if n in arrays}
    pose = np.full((frames, 4), np.nan)
    if {"agent_pos", "agent_dir"} <= set(extras):
        position, direction = extras["agent_pos"], extras["agent_dir"]
        if position.shape[1:] != (2,) or direction.shape[1:] != (2,):
            raise BadRecording(path, "agent_pos or agent_dir of another shape", f"({frames}, 2)")
        if (np.abs(np.linalg.norm(direction, axis=1) - 1) > _UNIT).any():
            raise BadRecording(path, "agent_dir of another length", "unit vectors")
        pose = np.concatenate([position, direction], 1).astype(np.float64)
    return Recording(
        candidate.id,
        SOURCE,
        path,
        frames,
        actions=actions,
        pose=pose,
        n_context=_context(arrays),
        arrays=extras,
        statics=statics,
    )


def frames(recording: Recording, size: tuple[int, int] | None = None) -> FrameChunks:
    """The images, as `data_prep.recordings.frames` gives those of a video."""
    images = _images(Arrays(recording.video))[recording.first_frame :][: recording.num_frames]
    if len(images) != recording.num_frames:
        raise BadRecording(recording.video, f"{len(images)} images", f"{recording.num_frames}")
    for start in range(0, len(images), _CHUNK):
        yield scale(np.ascontiguousarray(images[start : start + _CHUNK]), size)


def _images(arrays: Arrays) -> np.ndarray:
    transposed = "image_t" in arrays and "image" not in arrays
    name = "image_t" if transposed else "image"
    images = arrays.get(name, "u")
    if transposed and images.ndim == 4:
        images = images.transpose(3, 0, 1, 2)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape:
        axes = "(height, width, 3, frames)" if transposed else "(frames, height, width, 3)"
        found = f"{name} of dtype {images.dtype}, in time-first order {images.shape}"
        raise BadRecording(arrays.path, found, f"uint8 {axes}")
    return images


def _actions(arrays: Arrays, frames: int) -> np.ndarray:
    rows, count = _rows(arrays, "action", frames, "biuf"), len(ACTIONS)
    if rows.ndim == 2 and rows.shape[1] == count:
        if not np.isin(rows, (0, 1)).all() or (rows.sum(1) > 1).any():
            raise BadRecording(arrays.path, "action with other rows", "one 1 among zeros, or zeros")
        numbers = rows.argmax(1)
    elif rows.ndim == 1 and rows.dtype.kind in "iu" and ((rows >= 0) & (rows < count)).all():
        numbers = rows
    else:
        raise BadRecording(
            arrays.path,
            f"action of shape {rows.shape} and dtype {rows.dtype}",
            f"({frames}, {count}) one-hot or ({frames},) of 0 to {count - 1}",
        )
    actions = np.eye(count, dtype=np.float32)[numbers]
    actions[0] = 0
    return actions


def _rows(arrays: Arrays, name: str, frames: int, kinds: str = "iuf") -> np.ndarray:
    rows = arrays.get(name, kinds)
    if rows.ndim < 1 or len(rows) != frames:
        raise BadRecording(arrays.path, f"{name} of shape {rows.shape}", f"{frames} rows, one for each image")
    return rows


def _constant(arrays: Arrays, name: str, frames: int) -> np.ndarray:
    """An array that is the same for all frames; a file may hold it once (two axes) or for every frame."""
    rows = arrays.get(name, "iuf")
    if rows.ndim == 2:
        return rows
    if rows.ndim != 3 or len(rows) != frames or (rows != rows[0]).any():
        raise BadRecording(
            arrays.path, f"{name} of shape {rows.shape} that changes or is of another length", "one"
        )
    return rows[0]


def _context(arrays: Arrays) -> int | None:
    if "n_context" not in arrays:
        return None
    value = arrays.get("n_context", "iu")
    if value.size != 1:
        raise BadRecording(arrays.path, f"n_context of shape {value.shape}", "one number")
    return int(value.reshape(()))
