"""The schema of an episode and the checks that every episode passes before it is written."""

import functools
import json
import math
import re
import reprlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rad_jax.errors import UserError
from rad_jax.files.json_files import check_form

Episode = dict[str, Any]
"""Arrays by name (per-frame arrays have a leading time axis) and, if the source has one, "episode_id" (str)."""

DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)

BOOKKEEPING = {
    "chunk": ((), "int32"),
    "start": ((), "int32"),
    "num_frames": ((), "int32"),
    "episode_crc": ((), "uint32"),
}
"""What each record says about itself beside the data: its number in the episode, its first frame, the length of the episode,
and the checksum of the whole episode, which the index repeats (a record of another data set has another one)."""

INFO = {"actions": [str], "pose": [str], "pose_scale": [float], "protocol": str, "fps": float}
"""Forms of what a data set says about itself and models, scores and videos use, as far as it says it."""

FPS = 0.01, 1000.0  # of videos

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_LONGEST_NAME, _MOST_AXES = 60, 16
_FILE_NAME = re.compile(r"[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*")
_LONGEST_FILE_NAME = 200  # bytes: file systems take 255, and suffixes are added to an episode's id


class DataError(UserError, ValueError):
    """A data set that is missing, damaged, or not what was asked for; the message says which part and what to do."""


class DamagedRecord(DataError):
    """A record that is damaged, or not what a writer of the data set writes; the message names shard, record and episode."""


@dataclass(frozen=True)
class EpisodeSpec:
    """The schema of the episodes of a data set.

    Attributes:
      name: name of the data set, snake_case; shard files begin with it.
      arrays: per-frame arrays, name -> (shape of one frame, dtype), e.g. {"frames": ((64, 64, 3), "uint8")}.
      statics: per-episode arrays, name -> (shape, dtype). They are repeated in every record: keep them small.
      info: anything JSON about where the data came from ("source", "actions", "pose", "seed", ...). It is stored per
        split, and a split is only continued by a writer with the same info.
      chunk: frames per record. 20 reads random windows of 100 frames with a fifth more bytes than needed.

    Raises:
      DataError: for a name, shape, dtype or info that cannot be stored.
    """

    name: str
    arrays: Mapping[str, tuple[tuple[int, ...], str]]
    statics: Mapping[str, tuple[tuple[int, ...], str]] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)
    chunk: int = 20

    def __post_init__(self):
        check_name("data set", self.name)
        if self.chunk < 1:
            raise DataError(f"data set {self.name!r}: chunk is {self.chunk}, expected at least 1 frame")
        if not self.arrays:
            raise DataError(f"data set {self.name!r} has no per-frame array")
        object.__setattr__(self, "arrays", _normalised(self.arrays))
        object.__setattr__(self, "statics", _normalised(self.statics))
        names = Counter([*self.arrays, *self.statics, *BOOKKEEPING, "episode_id"])
        for name, count in names.items():
            if count > 1:
                raise DataError(f"data set {self.name!r}: the array name {name!r} is taken twice or reserved")
        try:
            # What comes back from the index: lists for tuples, string keys.
            object.__setattr__(self, "info", json.loads(json.dumps(dict(self.info), allow_nan=False)))
        except (TypeError, ValueError) as error:
            raise DataError(f"data set {self.name!r}: info cannot be stored as JSON ({error})") from error
        try:
            check_info(self.info)
        except ValueError as error:
            raise DataError(f"data set {self.name!r}: {error}") from error

    @functools.cached_property
    def sizes(self) -> dict[str, int]:
        """Bytes of one frame of every per-frame array, and of every per-episode array."""
        arrays = {**self.arrays, **self.statics}
        return {name: math.prod(shape) * np.dtype(dtype).itemsize for name, (shape, dtype) in arrays.items()}


def check_info(info: Mapping[str, Any]) -> None:
    """Raises ValueError if an entry of the info of a data set, which may be a stranger's, is not of its form (`INFO`)."""
    check_form(dict(info), {name: form for name, form in INFO.items() if name in info}, "info")
    if "protocol" in info:  # scores of the set are stored under this name
        check_file_name("info.protocol", info["protocol"])
    if "fps" in info and not FPS[0] <= info["fps"] <= FPS[1]:
        raise ValueError(f"info.fps is {info['fps']}, expected {FPS[0]} to {FPS[1]}")


def check_name(what: str, name: str) -> None:
    """Raises DataError unless `name` can be part of a shard's file name and of a TFDS name."""
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        rule = f"lower-case letters, digits and _, a letter first, at most {_LONGEST_NAME}"
        raise DataError(f"{what} name {ascii(name)[:80]} must be {rule}")


def check_file_name(what: str, name: Any) -> None:
    """Raises DataError unless `name`, which may come from a file of a stranger, is safe as the name of one file.

    That is text of 1 to 200 bytes in UTF-8 that has no slash, backslash or control character and does not begin with a dot.
    """
    try:
        if _FILE_NAME.fullmatch(name) and len(name.encode()) <= _LONGEST_FILE_NAME:
            return
    except (TypeError, UnicodeEncodeError):  # not text, or half of a surrogate pair, as JSON can hold
        pass
    raise DataError(
        f"{what} {ascii(name)[:80]} is not allowed: expected 1 to {_LONGEST_FILE_NAME} bytes of text without /, \\ and control "
        "characters, not beginning with a dot"
    )


def _normalised(arrays: Mapping[str, tuple[tuple[int, ...], str]]) -> dict[str, tuple[tuple[int, ...], str]]:
    out = {}
    for name, (shape, dtype) in arrays.items():
        check_name("array", name)
        shape, dtype = tuple(int(size) for size in shape), str(dtype)
        if dtype not in DTYPES:
            raise DataError(
                f"array {name!r}: dtype {ascii(dtype)[:40]} cannot be stored; one of {', '.join(DTYPES)}"
            )
        if min(shape, default=1) < 1 or len(shape) > _MOST_AXES:
            raise DataError(
                f"array {name!r}: shape {reprlib.repr(shape)} has an empty axis, or more than {_MOST_AXES}"
            )
        out[name] = (shape, dtype)
    return out


def check_episode(spec: EpisodeSpec, episode_id: Any, episode: Episode) -> int:
    """Checks one episode against its schema and returns its number of frames.

    Args:
      spec: the schema.
      episode_id: name of the episode; see `check_file_name`.
      episode: its arrays.

    Raises:
      DataError: naming the episode, and the array that is missing, unknown, of another shape, dtype or length, or not finite.
    """
    check_file_name("episode_id", episode_id)  # videos and pictures of an episode are named after it
    where = f"episode {episode_id!r}"
    expected = {**spec.arrays, **spec.statics}
    if missing := expected.keys() - episode.keys():
        raise DataError(f"{where}: array {min(missing)!r} is missing")
    if unknown := episode.keys() - expected.keys() - {"episode_id"}:
        known = ", ".join(sorted(expected))
        raise DataError(f"{where}: array {min(unknown)!r} is not in the schema; known: {known}")
    lengths = {}
    for name, (shape, dtype) in expected.items():
        array = np.asarray(episode[name])
        if name in spec.arrays and array.ndim:
            lengths[name] = len(array)
            shape = (len(array), *shape)
        if array.dtype.name != dtype:
            raise DataError(f"{where}: array {name!r} is {array.dtype}, expected {dtype}")
        if array.shape != shape or (name in spec.arrays and not array.ndim):
            raise DataError(f"{where}: array {name!r} has shape {array.shape}, expected {shape}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(f"{where}: array {name!r} has values that are not finite")
    if len(set(lengths.values())) > 1:
        raise DataError(f"{where}: arrays of different lengths {lengths}")
    num_frames = next(iter(lengths.values()))
    if num_frames < 1:
        raise DataError(f"{where}: no frames")
    return num_frames
