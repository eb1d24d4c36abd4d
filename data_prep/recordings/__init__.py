"""Readers of what users have on disk, one file per format, all with the same result.

    for candidate in find("vrag", directory):
        recording = read("vrag", candidate)              # actions, poses and facts, checked; BadRecording if not usable
        for chunk in frames(recording, (72, 128)):       # uint8 (n, 72, 128, 3)
            ...

What a `Recording` holds, and in which conventions: `data_prep.recordings.recording`.
"""

import importlib
from pathlib import Path
from types import ModuleType

from data_prep.recordings import video
from data_prep.recordings.actions import ACTIONS
from data_prep.recordings.checks import check
from data_prep.recordings.cursor import pointer
from data_prep.recordings.recording import BadRecording, Candidate, Recording, Source
from rad_jax.data import DataError

FORMATS = ("loopnav", "memory_maze", "minerl", "oasis", "teco", "vpt", "vrag", "worldmem")

__all__ = [
    "ACTIONS",
    "FORMATS",
    "BadRecording",
    "Candidate",
    "Recording",
    "Source",
    "find",
    "frames",
    "layout",
    "read",
    "source",
]


def find(name: str, src: Path | str) -> list[Candidate]:
    """The files below a directory that could be recordings of a format, in order of their ids; some may be missing or damaged.

    Raises:
      DataError: there is no such format or directory.
    """
    return _module(name).find(src)


def read(
    name: str, candidate: Candidate, *, skip: int | None = None, video_frames: int | None = None
) -> Recording:
    """One recording, checked.

    Args:
      name: of the format.
      candidate: one of those that `find` gives.
      skip: frames to leave out at the start; None for the format's own number.
      video_frames: frames of its video if they have been counted before; None counts them, by decoding all.

    Raises:
      BadRecording: in one line, why it cannot be used.
    """
    module = _module(name)
    recording = module.read(candidate, video_frames)
    skip = module.SOURCE.skip if skip is None else skip
    return check(recording.cut(skip) if skip else recording)


def frames(recording: Recording, size: tuple[int, int] | None = None) -> video.FrameChunks:
    """The frames of a recording, in chunks.

    Args:
      recording: of `read`.
      size: (height, width) to scale to, by area averaging; None for that of the source.

    Yields:
      uint8 RGB (n, H, W, 3), ``recording.num_frames`` frames in all.

    Raises:
      BadRecording: the file is damaged, or shorter than when it was read.
    """
    module = _module(recording.source.format)
    if hasattr(module, "frames"):
        return module.frames(recording, size)
    draw = None if recording.cursor is None else pointer(recording.cursor)
    start, count = recording.first_frame, recording.num_frames - recording.repeat_last
    chunks = video.read_frames(recording.video, start, count, size, draw)
    return _repeat_last(chunks) if recording.repeat_last else chunks


def _repeat_last(chunks: video.FrameChunks) -> video.FrameChunks:
    for chunk in chunks:
        yield chunk
    yield chunk[-1:]


def source(name: str) -> Source:
    """Facts of a format. Raises `DataError` if there is none of this name."""
    return _module(name).SOURCE


def layout(name: str) -> str:
    """The files of a recording of a format, in words. Raises `DataError` if there is none of this name."""
    return _module(name).LAYOUT


def _module(name: str) -> ModuleType:
    if name not in FORMATS:
        raise DataError(f"format {name!r} is unknown, expected one of {', '.join(FORMATS)}")
    return importlib.import_module(f"data_prep.recordings.formats.{name}")
