"""Memory Maze's offline data (jurgisp/memory-maze): an npz file for each trajectory, ``image`` (T, H, W, 3) uint8 and more.

Row t of ``action`` led to image t; row 0 carries nothing. Two layouts are read: the published one, and that of pydreamer,
which stores ``image_t`` with axes (H, W, C, T), ``reset``, and actions that are all zero where an episode begins. Actions are
one-hot of any dtype (a row of zeros does nothing) or numbers 0 to 5. A file must hold one episode. The other arrays keep their
names; ``maze_layout`` and ``targets_pos``, which do not change, are stored once for the episode.
"""

import numpy as np
from jaxtyping import Float32, UInt8

from data_prep.recordings.files import Arrays
from data_prep.recordings.recording import BadRecording, Candidate, Recording, Source
from data_prep.recordings.video import FrameChunks, scale

ACTIONS = ("noop", "forward", "left", "right", "forward_left", "forward_right")
SOURCE = Source("memory_maze", "Memory Maze", 4, (".npz",), ACTIONS, pose=("x", "y", "cos", "sin"))
PER_FRAME = ("reward", "agent_pos", "agent_dir", "target_pos", "target_vec", "target_color", "targets_vec")
CONSTANT = {"maze_layout": np.uint8, "targets_pos": np.float32}
_CHUNK = 256  # frames
_UNIT = 0.01  # by which the length of a direction may differ from 1


def read(candidate: Candidate) -> Recording:
    arrays = Arrays(candidate.file(".npz"))
    frames = len(_images(arrays))
    for name, inside in (("reset", slice(1, None)), ("terminal", slice(None, -1))):
        if name in arrays and arrays.get(name, shape=(frames, ...))[inside].any():
            raise BadRecording(arrays.path, f"a {name} within the file", "one episode")
    pose = np.full((frames, 4), np.nan)
    if "agent_pos" in arrays and "agent_dir" in arrays:
        position, direction = (arrays.get(name, "iuf", (frames, 2)) for name in ("agent_pos", "agent_dir"))
        if (np.abs(np.linalg.norm(direction, axis=1) - 1) > _UNIT).any():
            raise BadRecording(arrays.path, "agent_dir of another length", "unit vectors")
        pose = np.concatenate([position, direction], 1).astype(np.float32).astype(np.float64)
    there = [name for name in PER_FRAME if name in arrays]
    others = {name: arrays.get(name, "iuf", (frames, ...)).astype(np.float32) for name in there}
    statics = {n: _constant(arrays, n, frames).astype(t) for n, t in CONSTANT.items() if n in arrays}
    facts = {"video_frames": frames, "n_context": arrays.n_context(), "arrays": others, "statics": statics}
    return Recording(candidate, SOURCE, _actions(arrays, frames), pose, **facts)


def frames(recording: Recording, size: tuple[int, int] | None = None) -> FrameChunks:
    """The images, as `data_prep.recordings.frames` gives those of a video."""
    images = _images(Arrays(recording.video))[recording.first_frame :][: recording.num_frames]
    if len(images) != recording.num_frames:
        raise BadRecording(recording.video, f"{len(images)} images", f"{recording.num_frames}")
    for start in range(0, len(images), _CHUNK):
        yield scale(images[start : start + _CHUNK], size)


def _images(arrays: Arrays) -> UInt8[np.ndarray, "t H W 3"]:
    if "image_t" in arrays and "image" not in arrays:
        return arrays.images("image_t", time_last=True)
    return arrays.images("image")


def _actions(arrays: Arrays, frames: int) -> Float32[np.ndarray, "t a"]:
    rows, count = arrays.get("action", shape=(frames, ...)), len(ACTIONS)
    if rows.shape == (frames, count):
        if not np.isin(rows, (0, 1)).all() or (rows.sum(1) > 1).any():
            raise BadRecording(arrays.path, "action with other rows", "one 1 among zeros, or zeros")
        rows = rows.argmax(1)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or not ((rows >= 0) & (rows < count)).all():
        found = f"action of shape {rows.shape} and dtype {rows.dtype}"
        expected = f"({frames}, {count}) one-hot or ({frames},) of 0 to {count - 1}"
        raise BadRecording(arrays.path, found, expected)
    actions = np.eye(count, dtype=np.float32)[rows]
    actions[0] = 0
    return actions


def _constant(arrays: Arrays, name: str, frames: int) -> np.ndarray:
    """An array that is the same for all frames; a file may hold it once (two axes) or for every frame."""
    rows = arrays.get(name, "iuf")
    if rows.ndim == 2:
        return rows
    if rows.ndim != 3 or len(rows) != frames or (rows != rows[0]).any():
        found = f"{name} of shape {rows.shape} that changes or is of another length"
        raise BadRecording(arrays.path, found, "one")
    return rows[0]
