"""Finding and opening what recordings consist of. Nothing here runs code out of a file; every defect is a `BadRecording`."""

import json
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.recordings.recording import BadRecording, Candidate
from rad_jax.data import DataError

_LARGEST_ARRAY = 2**34  # bytes: more than any recording has, less than what would stop the machine
_PLAIN = "biuf"


def find_pairs(src: Path | str, suffixes: Iterable[str]) -> list[Candidate]:
    """Files below a directory that differ only in their suffix, in order of their ids; hidden files are left out.

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
    for parent, _, names in os.walk(src):
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
    """The arrays of an npz file, read one by one when asked for. Pickles in it stay unread."""

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
        """An array. Raises `BadRecording` if it is missing, damaged, not of a dtype of ``kinds``, or not finite."""
        if name not in self._sizes:
            raise BadRecording(
                self.path, f"no array {name!r} among {', '.join(self._sizes) or 'none'}", repr(name)
            )
        if self._sizes[name] > _LARGEST_ARRAY:
            raise BadRecording(self.path, f"array {name!r} of {self._sizes[name]} bytes", "at most 16 GiB")
        try:
            with np.load(self.path, allow_pickle=False) as arrays:
                array = arrays[name]
        except (
            Exception
        ) as error:  # whatever a damaged file can raise, of zipfile, zlib, numpy and what it parses with
            raise BadRecording(
                self.path, f"array {name!r} cannot be read ({_first_line(error)})", "plain numbers"
            ) from error
        if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
            dtype = getattr(array, "dtype", type(array).__name__)
            raise BadRecording(self.path, f"array {name!r} has dtype {dtype}", _kinds(kinds))
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BadRecording(
                self.path, f"array {name!r} has values that are not finite", "numbers without NaN"
            )
        return array


def _kinds(kinds: str) -> str:
    words = {"b": "bool", "i": "integers", "u": "unsigned integers", "f": "floats"}
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
    """A number of a JSON file. Raises `BadRecording` if the value is anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRecording(path, f"{where}: {name} is {_shown(value)}", "a number")
    try:
        return float(value)
    except OverflowError as error:
        raise BadRecording(path, f"{where}: {name} is too large", "a number") from error


def entry_of(path: Path, where: str, row: Any, name: str, kind: type | tuple[type, ...]) -> Any:
    """An entry of a JSON object, of one of some types. Raises `BadRecording`."""
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
