"""Tensors by name from a safetensors file, and the strict comparison with what a model expects.

Files come from strangers. Nothing in them is executed, everything in them is checked, and a set of weights is taken as a
whole or not at all: weights that are loaded half give noise, and nobody is told why.
"""

import contextlib
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from rad_jax.errors import UserError

METADATA = "__metadata__"
SUFFIX = ".safetensors"
TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",  # NumPy has no bfloat16: it is the upper half of a float32
    **{f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)},
}
ZIP, PICKLE = b"PK\x03\x04", b"\x80"  # how the files of torch.save begin, the new ones and the old
CONVERT = (
    'python -c "import sys, torch; from safetensors.torch import save_file; t = torch.load(sys.argv[1], weights_only=True, '
    "map_location='cpu'); save_file({k: v.clone().contiguous() for k, v in t.items()}, sys.argv[2])\""
)
NAMED = 3  # names of each kind in an error


class WeightsError(UserError, ValueError):
    """A weight file that is missing, damaged, of another format or of another model; in one or two lines."""


def read_tensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file by name, in the order of the file's header.

    Floats of 16 bits are widened to float32, which is exact; float64 and integers stay what they are.

    Raises:
      WeightsError: there is no such file; it is of another format (then with the command that converts it); its header has a
        key twice, or does not describe exactly the bytes that follow; a tensor holds NaN or infinity.
    """
    with _opened(path) as (file, header, start):
        header.pop(METADATA, None)
        return {name: _read(file, start, name, entry) for name, entry in header.items()}


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """The texts by name that a safetensors file has beside its tensors; raises as `read_tensors`."""
    with _opened(path) as (_, header, _):
        return header.get(METADATA) or {}


def match(
    tensors: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    what: str,
    ignore: Callable[[str], bool] = lambda name: False,
) -> dict[str, np.ndarray]:
    """Exactly the tensors that ``shapes`` names, in its order.

    Args:
      shapes: what the model needs; every one must be there, of that shape and of a floating-point type.
      what: what the tensors are compared with, and where they are from; begins the error.
      ignore: names that may be there as well and are left out.

    Raises:
      WeightsError: with the numbers of matching, missing, unexpected and wrongly shaped tensors, and the first names of each.
    """
    missing = [name for name in shapes if name not in tensors]
    unexpected = [name for name in tensors if name not in shapes and not ignore(name)]
    there = [name for name in shapes if name in tensors]
    wrong = {
        name: f"{tensors[name].dtype}{list(tensors[name].shape)}, expected float32{list(shapes[name])}"
        for name in there
        if tensors[name].shape != tuple(shapes[name]) or tensors[name].dtype.kind != "f"
    }
    if missing or unexpected or wrong:
        counts = [f"{len(there) - len(wrong)} of {len(shapes)} tensors match"]
        counts += [f"{len(missing)} missing ({_first(missing)})"] if missing else []
        counts += [f"{len(unexpected)} unexpected ({_first(unexpected)})"] if unexpected else []
        counts += [f"{len(wrong)} wrong ({_first(wrong, wrong)})"] if wrong else []
        raise WeightsError(f"{what}: {'; '.join(counts)}; nothing was loaded")
    return {name: tensors[name] for name in shapes}


class _Damage(ValueError):
    """What is wrong with a file, without its name."""


@contextlib.contextmanager
def _opened(path: str | os.PathLike) -> Iterator[tuple[BinaryIO, dict[str, Any], int]]:
    """The file, its header, and where its data begin; what goes wrong inside becomes a `WeightsError` with the file's name."""
    path = pathlib.Path(path)
    try:
        _check_file(path)
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            yield file, json.loads(file.read(length), object_pairs_hook=_without_duplicates), 8 + length
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from None
    except _Damage as error:
        raise WeightsError(f"{path}: {error}") from None


def _check_file(path: pathlib.Path) -> None:
    """Lets the library compare the header with the bytes that follow it; opens nothing that is of another format."""
    if not path.is_file():
        raise WeightsError(f"there is no file {path}" + (" (it is a directory)" if path.is_dir() else ""))
    refusal = WeightsError(
        f"{path} is not a {SUFFIX} file, and no other is read: pickles (.pt, .pth, .ckpt, .bin) can execute code; "
        f"convert one that you trust with: {CONVERT} IN OUT{SUFFIX}"
    )
    with open(path, "rb") as file:
        start = file.read(4)
    if path.suffix != SUFFIX or start == ZIP:
        raise refusal
    try:
        with safe_open(path, framework="np"):
            pass
    except SafetensorError as error:
        if start.startswith(PICKLE):
            raise refusal from None
        reason = str(error).splitlines()[0].removeprefix("Error while deserializing header: ")
        raise _Damage(f"not an intact safetensors file ({reason[:200]})") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        names = [name for name, _ in pairs]
        twice = [name for name in entries if names.count(name) > 1]
        raise _Damage(f"{_first(twice)} stands more than once in its header")
    return entries


def _read(file: BinaryIO, start: int, name: str, entry: dict[str, Any]) -> np.ndarray:
    dtype, shape, (begin, _) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in TYPES:
        raise _Damage(f"{_first([name])} has type {dtype}, expected one of {', '.join(TYPES)}")
    file.seek(start + begin)
    array = np.fromfile(file, TYPES[dtype], math.prod(shape)).reshape(shape)
    if dtype == "BF16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    elif dtype == "F16":
        array = array.astype(np.float32)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = array.size - np.count_nonzero(np.isfinite(array))
        raise _Damage(f"{_first([name])} holds {bad} values that are NaN or infinite, of {array.size}")
    return array


def _first(names, details: Mapping[str, str] | None = None) -> str:
    """The first few names, as they can be printed, each with its detail."""
    shown = [
        ascii(name)[1:-1][:120] + (f": {details[name]}" if details else "") for name in list(names)[:NAMED]
    ]
    return ", ".join(shown) + (", ..." if len(names) > NAMED else "")
