"""Finding and opening the files of recordings. Nothing here runs code out of a file; every defect is a `BadRecording`."""

import json
import os
import zipfile
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.recordings.recording import BadRecording, Candidate
from rad_jax.data import DataError

_LARGEST_ARRAY = 2**34  # bytes: more than any recording has, less than what would stop the machine
_LARGEST_NUMBER = 1e9  # of any unit: beyond it a number is damage, and float32 and pixel arithmetic overflow
_PLAIN = "biuf"


def find_pairs(src: Path | str, suffixes: Iterable[str]) -> list[Candidate]:
    """Files below a directory that differ only in their suffix, in order of their ids; hidden files are left out.

    Links to directories are followed; a directory that is reached in several ways counts once.

    Raises:
      DataError: there is no such directory, or two paths have the same id.
    """
    suffixes = sorted(suffixes, key=len, reverse=True)
    found: dict[Path, dict[str, Path]] = {}
    for path in _walk(src):
        suffix = next((s for s in suffixes if path.name.endswith(s)), None)
        if suffix is not None:
            found.setdefault(path.with_name(path.name.removesuffix(suffix)), {})[suffix] = path
    return _candidates(Path(src), found)


def find_directories(src: Path | str, names: Iterable[str]) -> list[Candidate]:
    """Directories (the given one too) that hold at least one file of these names. Raises as `find_pairs`."""
    names, found = set(names), {}
    for path in _walk(src):
        if path.name in names:
            found.setdefault(path.parent, {})[path.name] = path
    return _candidates(Path(src), found)


def _walk(src: Path | str) -> Iterable[Path]:
    if not Path(src).is_dir():
        raise DataError(f"{src} is not a directory")
    seen: set[tuple[int, int]] = set()
    ahead = deque([os.fspath(src)])
    while ahead:  # links last, so that a directory is found under its own name first
        for parent, folders, names in os.walk(ahead.popleft()):
            state = os.stat(parent)
            if (state.st_dev, state.st_ino) in seen:
                folders.clear()
                continue
            seen.add((state.st_dev, state.st_ino))
            folders.sort()
            ahead.extend(path for path in (os.path.join(parent, f) for f in folders) if os.path.islink(path))
            yield from (Path(parent, name) for name in names if not name.startswith("."))


def _candidates(src: Path, found: dict[Path, dict[str, Path]]) -> list[Candidate]:
    candidates: dict[str, Candidate] = {}
    for stem, files in found.items():
        name = "-".join(stem.relative_to(src).parts) or src.resolve().name
        if name in candidates:
            raise DataError(f"{stem} and {candidates[name].stem} would both be called {name!r}: rename one")
        candidates[name] = Candidate(name, stem, dict(sorted(files.items())))
    return [candidates[name] for name in sorted(candidates)]


class Arrays:
    """The arrays of an npz file, each read when asked for. Pickles in it are never read."""

    def __init__(self, path: Path):
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except Exception as error:  # as in `get`
            raise BadRecording(path, f"not an npz file ({_first_line(error)})") from error
        self._sizes = {info.filename.removesuffix(".npy"): info.file_size for info in members}

    def __contains__(self, name: str) -> bool:
        return name in self._sizes

    def names(self) -> list[str]:
        return list(self._sizes)

    def is_pickled(self, name: str) -> bool:
        """Whether an array that is there holds objects, which only running its pickle would give."""
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as file:
                old = np.lib.format.read_magic(file) == (1, 0)
                header = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
                return header(file)[2].hasobject
        except Exception as error:  # as in `get`
            raise BadRecording(self.path, f"array {name!r} cannot be read ({_first_line(error)})") from error

    def get(self, name: str, kinds: str = _PLAIN) -> np.ndarray:
        """An array.

        Raises:
          BadRecording: it is missing or damaged, its dtype is not of ``kinds``, or it holds a number that is not finite, or
            beyond 1e9 and so not what it should be.
        """
        if name not in self._sizes:
            raise BadRecording(
                self.path, f"no array {name!r} among {', '.join(self._sizes) or 'none'}", repr(name)
            )
        if self._sizes[name] > _LARGEST_ARRAY:
            raise BadRecording(self.path, f"array {name!r} of {self._sizes[name]} bytes", "at most 16 GiB")
        try:
            with np.load(self.path, allow_pickle=False) as arrays:
                array = arrays[name]
        except Exception as error:  # zipfile, zlib, numpy and its parser all raise errors of their own
            raise BadRecording(
                self.path, f"array {name!r} cannot be read ({_first_line(error)})", "plain numbers"
            ) from error
        if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
            dtype = getattr(array, "dtype", type(array).__name__)
            raise BadRecording(self.path, f"array {name!r} has dtype {dtype}", _kinds(kinds))
        if array.dtype.kind == "f" and not (np.abs(array) <= _LARGEST_NUMBER).all():
            raise BadRecording(self.path, f"array {name!r} has NaN or huge values", "-1e9 to 1e9")
        return array


def shaped(arrays: Arrays, name: str, shape: tuple[int, ...], kinds: str = _PLAIN) -> np.ndarray:
    """An array of a given shape. Raises `BadRecording`, also where `Arrays.get` does."""
    array = arrays.get(name, kinds)
    if array.shape != shape:
        raise BadRecording(arrays.path, f"{name} of shape {array.shape}", f"{shape}")
    return array


def _kinds(kinds: str) -> str:
    words = {"b": "bool", "i": "integers", "u": "unsigned integers", "f": "floats", "U": "text"}
    return " or ".join(words[kind] for kind in kinds)


def read_json(path: Path) -> Any:
    """The content of a JSON file, without NaN and infinities."""
    return parse_json(path, _text(path))


def read_json_lines(path: Path) -> list[Any]:
    """The content of every line of a file of JSON lines; an empty line is only allowed at the end."""
    lines = _text(path).split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    return [parse_json(path, line, f"line {number}: ") for number, line in enumerate(lines, 1)]


def parse_json(path: Path, text: str, where: str = "") -> Any:
    """The value of a JSON text. Raises `BadRecording`."""

    def refuse(constant: str):
        raise ValueError(f"{constant} is not a number")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise BadRecording(path, f"{where}not JSON ({_first_line(error)})") from error


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRecording(path, f"cannot be read as text ({_first_line(error)})") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:120] or type(error).__name__


def number_of(path: Path, where: str, value: Any, name: str) -> float:
    """A number of a JSON file. Raises `BadRecording` if the value is anything else, or beyond 1e9."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST_NUMBER:
        raise BadRecording(path, f"{where}: {name} is {_shown(value)}", "a number from -1e9 to 1e9")
    return float(value)


def entry_of(path: Path, where: str, row: Any, name: str, kind: type | tuple[type, ...]) -> Any:
    """An entry of a JSON object. Raises `BadRecording` if it is missing or of none of the types ``kind``."""
    if not isinstance(row, dict):
        raise BadRecording(path, f"{where} is {_shown(row)}", "an object")
    if name not in row:
        raise BadRecording(
            path, f"{where} has no {name!r}", f"{name!r} among {', '.join(map(str, row))}"[:160]
        )
    if not isinstance(row[name], kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        raise BadRecording(
            path, f"{where}: {name} is {_shown(row[name])}", " or ".join(k.__name__ for k in kinds)
        )
    return row[name]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
