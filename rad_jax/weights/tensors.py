"""Reads tensors by name from a safetensors file, and compares them strictly with what a model expects.

Files come from strangers: nothing in them is executed, and everything in them is checked. A set of weights is loaded as a whole
or not at all, because a model with half of its weights produces noise and gives no hint why.
"""

import contextlib
import json
import os
import pathlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes  # noqa: F401 (teaches NumPy the name bfloat16, which safetensors asks for)
import numpy as np
from safetensors import SafetensorError, safe_open

from rad_jax.errors import UserError

SUFFIX = ".safetensors"
TYPES = ("F64", "F32", "F16", "BF16", *(f"{kind}{bits}" for kind in "IU" for bits in (8, 16, 32, 64)))
ZIP, PICKLE = b"PK\x03\x04", b"\x80"  # how the files of torch.save begin, the new ones and the old
CONVERT = (
    'python -c "import sys, torch; from safetensors.torch import save_file; t = torch.load(sys.argv[1], weights_only=True, '
    "map_location='cpu'); save_file({k: v.clone().contiguous() for k, v in t.items()}, sys.argv[2])\""
)
NAMED = 3  # how many names of each kind an error lists


class WeightsError(UserError, ValueError):
    """A weight file that is missing, damaged, of another format or of another model; in one or two lines."""


def read_tensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns all tensors of a safetensors file by name.

    Floats of 16 bits are widened to float32, which is exact; float64 and integers keep their type.

    Raises:
      WeightsError: the file is missing; it is of another format (the error then has the command that converts it); its header
        has a key twice, or does not describe exactly the bytes that follow; a tensor holds NaN or infinity.
    """
    with _opened(path) as file:
        return {name: _read(file, path, name) for name in file.keys()}  # noqa: SIM118 (not a dict)


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """Returns the texts by name that a safetensors file has beside its tensors; raises as `read_tensors`."""
    with _opened(path) as file:
        return file.metadata() or {}


def match(
    tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], what: str
) -> dict[str, np.ndarray]:
    """Returns exactly the tensors that ``shapes`` names, in its order.

    Args:
      tensors: what a file holds; each must be needed.
      shapes: what the model needs; each must exist with this shape and a floating-point type.
      what: where the tensors are from and what they are compared with; the error begins with it.

    Raises:
      WeightsError: with the numbers of matching, missing, unexpected and wrongly shaped tensors, and the first names of each,
        or with the first tensor that is not finite.
    """
    problems: dict[str, list[str]] = {"missing": [], "unexpected": [], "wrong": []}
    for name, shape in shapes.items():
        found = tensors.get(name)
        if found is None:
            problems["missing"].append(_shown(name))
        elif found.shape != tuple(shape) or found.dtype.kind != "f":
            problems["wrong"].append(
                f"{_shown(name)}: {found.dtype}{list(found.shape)}, expected float32{list(shape)}"
            )
    problems["unexpected"] = [_shown(name) for name in tensors if name not in shapes]
    if any(problems.values()):
        matching = len(shapes) - len(problems["missing"]) - len(problems["wrong"])
        counts = [f"{matching} of {len(shapes)} tensors match"]
        for kind, names in problems.items():
            first = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
            counts += [f"{len(names)} {kind} ({first})"] if names else []
        raise WeightsError(f"{what}: {'; '.join(counts)}; nothing was loaded")
    for name in shapes:
        if not np.isfinite(tensors[name]).all():
            raise WeightsError(
                f"{what}: {_shown(name)} holds values that are NaN or infinite; nothing was loaded"
            )
    return {name: tensors[name] for name in shapes}


@contextlib.contextmanager
def _opened(path: str | os.PathLike) -> Iterator[Any]:
    """Opens a file whose header is in order. What goes wrong in the block becomes a `WeightsError` with the file's name."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise WeightsError(f"there is no file {path}" + (" (it is a directory)" if path.is_dir() else ""))
    refusal = WeightsError(
        f"{path} is not a {SUFFIX} file, and no other is read: pickles (.pt, .pth, .ckpt, .bin) can execute code; "
        f"convert one that you trust with: {CONVERT} IN OUT{SUFFIX}"
    )
    start = b""
    try:
        with open(path, "rb") as file:
            start = file.read(4)
        if path.suffix != SUFFIX or start == ZIP:
            raise refusal
        with safe_open(path, framework="np") as file:
            _refuse_duplicates(path)
            yield file
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from None
    except SafetensorError as error:
        if start.startswith(PICKLE):
            raise refusal from None
        reason = str(error).splitlines()[0].removeprefix("Error while deserializing header: ")
        raise WeightsError(f"{path}: not an intact safetensors file ({reason[:200]})") from None


def _refuse_duplicates(path: pathlib.Path) -> None:
    """Raises `WeightsError` for a key that the header has twice, of which the library would take the last."""

    def refuse(pairs: list[tuple[str, Any]]) -> None:
        for name, count in Counter(name for name, _ in pairs).items():
            if count > 1:
                raise WeightsError(f"{path}: {_shown(name)} stands more than once in its header")

    with open(path, "rb") as file:
        json.loads(file.read(int.from_bytes(file.read(8), "little")), object_pairs_hook=refuse)


def _read(file: Any, path: str | os.PathLike, name: str) -> np.ndarray:
    where, dtype = f"{path}: {_shown(name)}", file.get_slice(name).get_dtype()
    if dtype not in TYPES:
        raise WeightsError(f"{where} has type {dtype}, expected one of {', '.join(TYPES)}")
    array = file.get_tensor(name)
    if dtype in ("F16", "BF16"):
        array = array.astype(np.float32)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = array.size - np.count_nonzero(np.isfinite(array))
        raise WeightsError(f"{where} holds {bad} values that are NaN or infinite, of {array.size}")
    return array


def _shown(name: str) -> str:
    return ascii(name)[1:-1][:120]
