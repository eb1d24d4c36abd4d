"""Readers of what users have on disk, one file per format, all with the same result.

    for candidate in find("vrag", directory):
        recording = read("vrag", candidate)              # actions, poses and facts, checked; BadRecording if not usable
        for chunk in frames(recording, (72, 128)):       # uint8 (n, 72, 128, 3)
            ...

What a `Recording` holds, and in which conventions: `data_prep.recordings.recording`.
"""

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from data_prep.recordings.checks import check
from data_prep.recordings.files import find_files
from data_prep.recordings.recording import BadRecording, Candidate, Recording, Source
from data_prep.recordings.video import FrameChunks, count_frames, read_frames
from rad_jax.data import DataError

FORMATS = ("loopnav", "memory_maze", "minerl", "oasis", "teco", "vpt", "vrag", "worldmem")


def source(name: str) -> Source:
    """Facts of a format. Raises `DataError` if there is none of this name."""
    return _module(name).SOURCE


def find(name: str, src: Path | str) -> list[Candidate]:
    """The files below a directory that could be recordings of a format, in order of their ids; some may be missing or damaged.

    Raises:
      DataError: there is no such format or directory.
    """
    return find_files(src, source(name).endings)


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
    recording = _module(name).read(candidate)
    counted = recording.video_frames or video_frames or count_frames(recording.video)
    shown = recording.first_frame + recording.num_frames
    if recording.source.spare_row and counted == shown - 1:
        recording = recording.cut(0, recording.num_frames - 1)
    elif counted != shown:
        others = " and ".join(path.name for path in candidate.files.values() if path != recording.video)
        expected = f"{shown - 1} or {shown}" if recording.source.spare_row else f"{shown}"
        raise BadRecording(recording.video, f"{counted} frames", f"{expected} as {others} says")
    skip = recording.source.skip if skip is None else skip
    return check(replace(recording.cut(skip) if skip else recording, video_frames=counted))


def frames(recording: Recording, size: tuple[int, int] | None = None) -> FrameChunks:
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
        yield from module.frames(recording, size)
        return
    count = recording.num_frames - recording.repeat_last
    for chunk in read_frames(recording.video, recording.first_frame, count, size, recording.cursor):
        yield chunk
    if recording.repeat_last:
        yield chunk[-1:]


def _module(name: str) -> ModuleType:
    if name not in FORMATS:
        raise DataError(f"format {name!r} is unknown, expected one of {', '.join(FORMATS)}")
    return importlib.import_module(f"data_prep.recordings.formats.{name}")
