"""Finding and opening the files of recordings. Nothing here runs code out of a file; every defect is a `BadRecording`."""

import json
import os
import types
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from data_prep.recordings.recording import BadRecording, Candidate, refusing
from rad_jax.data import DataError
from rad_jax.errors import shown
from rad_jax.files.npz import Npz

_LARGEST_NUMBER = 1e9  # of any unit: beyond it a number is damage, and float32 and pixel arithmetic overflow
_KINDS = {"b": "bool", "i": "integers", "u": "unsigned integers", "f": "floats", "U": "text"}

Shape = tuple[int | types.EllipsisType | None, ...]
"""Lengths of axes; None for any length, ... at the end for any further axes."""


def find_files(src: Path | str, endings: Iterable[str]) -> list[Candidate]:
    """Files below a directory whose paths differ only in their ending, in order of their ids.

    Links to directories are followed; a directory that is reached in several ways counts once. Hidden files and directories are
    left out. A directory that cannot be searched, or a link that leads nowhere, is a candidate with a ``problem``. Endings may
    be in capitals.

    Raises:
      DataError: there is no such directory, or two paths have the same id.
    """
    src, endings = Path(src), sorted(endings, key=len, reverse=True)
    found: dict[Path, dict[str, Path]] = {}
    problems: dict[Path, str] = {}
    for path, problem in _walk(src):
        ending = next((e for e in endings if path[-len(e) :].lower() == e), None)
        if ending is None:
            if problem:
                problems[Path(path)] = problem
            continue
        stem = Path(path[: -len(ending)])
        other = found.setdefault(stem, {}).setdefault(ending, Path(path))
        if other != Path(path):
            problems[Path(path)] = f"its name differs from {other.name} only in capitals: rename one"
    candidates: dict[str, Candidate] = {}

    def name_of(path: Path) -> str:
        return "-".join(path.relative_to(src).parts) or src.resolve().name

    for stem, files in found.items():
        name = name_of(stem)
        if name in candidates:
            other = next(iter(candidates[name].files.values()))
            raise DataError(f"{stem} and {other} would both be called {name!r}: rename one")
        candidates[name] = Candidate(name, dict(sorted(files.items())))
    for path, problem in problems.items():
        name = name_of(path)
        while name in candidates:
            name += "-"
        candidates[name] = Candidate(name, {"": path}, problem)
    return [candidates[name] for name in sorted(candidates)]


def _walk(src: Path) -> Iterator[tuple[str, str]]:
    """Yields the files below a directory; also what cannot be searched, with the reason, which is empty for files."""
    if not src.is_dir():
        raise DataError(f"{src} is not a directory")
    seen: set[tuple[int, int]] = set()
    ahead = deque([os.fspath(src)])
    while ahead:
        parent = ahead.popleft()
        try:
            state = os.stat(parent)
            if (state.st_dev, state.st_ino) in seen:
                continue
            seen.add((state.st_dev, state.st_ino))
            entries = sorted(os.scandir(parent), key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            yield parent, f"cannot be searched ({error.strerror})"
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                # Links last, so that a directory is found under its own name first.
                if entry.is_dir():
                    ahead.append(entry.path) if entry.is_symlink() else ahead.appendleft(entry.path)
                    continue
                entry.stat()
                problem = ""
            except OSError as error:
                problem = f"leads nowhere ({error.strerror})"
            yield entry.path, problem


class Arrays:
    """The arrays of an npz file, each read when asked for. Pickles in it are never read."""

    def __init__(self, path: Path):
        self.path = path
        with refusing(path, "not an npz file"), Npz(path) as arrays:
            self._names = [*arrays.sizes]

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def is_pickled(self, name: str) -> bool:
        """Whether an array that is there holds objects, which only running its pickle would give."""
        with refusing(self.path, f"array {name!r} cannot be read"), Npz(self.path) as arrays:
            return arrays.header(name).dtype.hasobject

    def get(self, name: str, kinds: str = "biuf", shape: Shape = (...,)) -> np.ndarray:
        """An array of one of some kinds of dtype, and of a shape.

        Raises:
          BadRecording: it is missing or damaged, of another kind or shape, or it holds a number that is not finite, or beyond
            1e9 and so not what it should be.
        """
        if name not in self:
            raise BadRecording(
                self.path, f"no array {name!r} among {', '.join(self._names)[:160] or 'none'}", repr(name)
            )
        with refusing(self.path, f"array {name!r} cannot be read", "plain numbers"), Npz(self.path) as arrays:
            found = arrays.header(name)
            if found.dtype.kind not in f"{kinds}O":
                expected = " or ".join(_KINDS[kind] for kind in kinds)
                raise BadRecording(self.path, f"array {name!r} has dtype {found.dtype}", expected)
            if not _fits(found.shape, shape):
                axes = ", ".join({None: "any", ...: "..."}.get(length, str(length)) for length in shape)
                raise BadRecording(self.path, f"array {name!r} has shape {found.shape}", f"({axes})")
            array = arrays.read(name)
        if array.dtype.kind == "f" and not (np.abs(array) <= np.float64(_LARGEST_NUMBER)).all():
            raise BadRecording(self.path, f"array {name!r} has NaN or huge values", "-1e9 to 1e9")
        return array

    def images(
        self, name: str, frames: int | None = None, *, time_last: bool = False
    ) -> UInt8[np.ndarray, "t H W 3"]:
        """An array of images, one for each frame; those of (H, W, 3, t) are transposed. Raises as `get`."""
        array = self.get(name, "u", (None, None, 3, frames) if time_last else (frames, None, None, 3))
        if array.dtype != np.uint8 or not array.size:
            raise BadRecording(self.path, f"{name} of dtype {array.dtype}, {array.shape}", "uint8 images")
        return np.moveaxis(array, 3, 0) if time_last else array

    def n_context(self) -> int | None:
        """The frames that an evaluation gives, where the file says so. Raises as `get`."""
        if "n_context" not in self:
            return None
        value = self.get("n_context", "iu")
        if value.size != 1:
            raise BadRecording(self.path, f"n_context of shape {value.shape}", "one number")
        return value.item()


def _fits(shape: tuple[int, ...], wanted: Shape) -> bool:
    if wanted and wanted[-1] is ...:
        wanted = wanted[:-1]
        shape = shape[: len(wanted)]
    return len(shape) == len(wanted) and all(w in (None, n) for n, w in zip(shape, wanted, strict=True))


@dataclass(frozen=True)
class JsonObject:
    """An object of a JSON file, whose entries are checked as they are asked for.

    Attributes:
      path: the file.
      where: the place of the object in it, in words.
      content: its entries.

    Raises:
      BadRecording: it is no object; and from its methods, an entry is missing or of another type.
    """

    path: Path
    where: str
    content: dict[str, Any]

    def __post_init__(self):
        if not isinstance(self.content, dict):
            raise BadRecording(self.path, f"{self.where} is {shown(repr(self.content), 40)}", "an object")

    def get(self, name: str, *kinds: type) -> Any:
        """An entry of one of these types."""
        if name not in self.content:
            there = ", ".join(map(str, self.content))
            raise BadRecording(self.path, f"{self.where} has no {name!r}", f"{name!r} among {there}"[:160])
        value = self.content[name]
        if not isinstance(value, kinds):
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise BadRecording(self.path, f"{self.where}: {name} is {shown(repr(value), 40)}", expected)
        return value

    def list_of(self, name: str, kind: type) -> list[Any]:
        """An entry that is a list of values of this type."""
        for value in (values := self.get(name, list)):
            if type(value) is not kind:
                raise BadRecording(
                    self.path, f"{self.where}: {name} holds {shown(repr(value), 40)}", kind.__name__
                )
        return values

    def object(self, name: str) -> "JsonObject":
        """An entry that is an object."""
        return JsonObject(self.path, f"{name} of {self.where}", self.get(name, dict))

    def number(self, name: str) -> float:
        """An entry that is a number, which must not be beyond 1e9."""
        return self._number(name, self.get(name, object))

    def numbers(self, name: str, count: int) -> list[float]:
        """An entry that is a list of so many numbers."""
        values = self.get(name, list)
        if len(values) != count:
            raise BadRecording(self.path, f"{name} of {self.where} has {len(values)} numbers", f"{count}")
        return [self._number(name, value) for value in values]

    def _number(self, name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST_NUMBER:
            found = f"{self.where}: {name} is {shown(repr(value), 40)}"
            raise BadRecording(self.path, found, "a number from -1e9 to 1e9")
        return float(value)


def read_json(path: Path) -> JsonObject:
    """The object that a JSON file holds, without NaN and infinities."""
    return JsonObject(path, "the file", _parse(path, _text(path)))


def read_json_rows(path: Path) -> list[JsonObject]:
    """The objects of the list that a JSON file holds."""
    rows = _parse(path, _text(path))
    if not isinstance(rows, list) or not rows:
        raise BadRecording(path, "no list of rows", "a row for every frame")
    return [JsonObject(path, f"row {t}", row) for t, row in enumerate(rows)]


def read_json_lines(path: Path) -> list[JsonObject]:
    """The object of every line of a file of JSON lines; an empty line is only allowed at the end."""
    lines = _text(path).rstrip().split("\n")
    return [
        JsonObject(path, f"line {n}", _parse(path, line, f"line {n}: ")) for n, line in enumerate(lines, 1)
    ]


def _parse(path: Path, text: str, where: str = "") -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a number")

    with refusing(path, f"{where}not JSON"):
        return json.loads(text, parse_constant=refuse)


def _text(path: Path) -> str:
    with refusing(path, "cannot be read as text"):
        return path.read_text("utf-8")
