"""Reads what ``torch.save`` wrote (tensors, NumPy arrays, plain containers) without running code that is in the file.

A ``.pt`` or ``.pth`` file is a pickle, and a pickle is a program. PyTorch's own restricted reader (``weights_only=True``) calls
nothing in it but what makes tensors; here NumPy's arrays and numbers are allowed as well, which samples of Open-Oasis hold.
Needs the extra: pip install 'rad_jax[torch]'
"""

import contextlib
import math
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rad_jax.data.spec import DTYPES
from rad_jax.errors import UserError
from rad_jax.files import lfs


class TorchFileError(UserError, ValueError):
    """A file that is not what ``torch.save`` writes of plain data, or PyTorch is not installed; in one line."""


def read_torch(path: str | os.PathLike) -> Any:
    """Returns the content of a ``.pt`` or ``.pth`` file, with tensors as NumPy arrays (bfloat16 as float32, which is exact).

    The values are not checked: they may be NaN.

    Raises:
      TorchFileError: the file is missing or damaged, holds more than data, a tensor claims more bytes than the file has (as one
        of stride 0 can), or PyTorch is not installed.
    """
    if lfs.is_pointer(path):
        raise TorchFileError(f"{path}: {lfs.ADVICE}")
    try:
        import torch
    except ImportError:
        raise TorchFileError(f"{path}: reading it needs PyTorch: pip install 'rad_jax[torch]'") from None
    try:
        with torch.serialization.safe_globals(_numpy_globals()), _short_messages():
            return _as_numpy(torch.load(path, map_location="cpu", weights_only=True), Path(path), {})
    except TorchFileError:
        raise
    except OSError as error:
        raise TorchFileError(f"{path}: {error.strerror or error}") from None
    except pickle.UnpicklingError:
        raise TorchFileError(
            f"{path}: damaged, or it holds more than tensors and plain data; no code in it was run"
        ) from None
    except Exception as error:  # what a damaged file raises depends on where PyTorch notices it
        reason = (str(error).splitlines() or [""])[0][:100]
        raise TorchFileError(f"{path}: damaged, {type(error).__name__}: {reason}") from None


@contextlib.contextmanager
def _short_messages() -> Iterator[None]:
    """Shortens what PyTorch's reader raises, which may hold all of the file.

    ``torch.load`` searches the message in a time that grows with the square of its length: minutes for 100 KB.
    """
    from torch._weights_only_unpickler import Unpickler

    load = Unpickler.load

    def short(self: Unpickler) -> Any:
        try:
            return load(self)
        except pickle.UnpicklingError as error:
            raise pickle.UnpicklingError(str(error)[:200]) from None

    Unpickler.load = short
    try:
        yield
    finally:
        Unpickler.load = load


class _DType:
    """Stands for `numpy.dtype` while a file is read: NumPy's, given a damaged state, changes for the whole process."""

    def __init__(self, code: str, *_: object) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]

    def from_bytes(self, data: bytes, count: int) -> np.ndarray:
        """Numbers out of exactly so many bytes as they take."""
        if self.code not in _CODES or self.order not in tuple("<>=|"):
            raise ValueError(f"an array of type {self.code!r:.20}, expected numbers")
        dtype = np.dtype(self.code).newbyteorder(self.order)
        if not isinstance(data, bytes) or len(data) != count * dtype.itemsize:
            raise ValueError(f"an array of {count} numbers of {dtype} is not {count * dtype.itemsize} bytes")
        return np.frombuffer(data, dtype).astype(dtype.newbyteorder("="))


class _Array:
    """Stands for `numpy.ndarray` while a file is read."""

    value: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        flat = dtype.from_bytes(data, math.prod(shape))
        self.value = flat.reshape(shape, order="F" if fortran else "C")


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _scalar(dtype: _DType, data: bytes) -> np.generic:
    return dtype.from_bytes(data, 1)[0]


_CODES = {np.dtype(name).str[1:] for name in DTYPES}


def _numpy_globals() -> list[Any]:
    """What stands for the things that pickles of NumPy's arrays and numbers call; in those of NumPy 1 by their old names."""
    functions = [
        (stand_in, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for stand_in, name in ((_reconstruct, "_reconstruct"), (_scalar, "scalar"))
    ]
    return [*functions, (_Array, "numpy.ndarray"), (_DType, "numpy.dtype")]


def _as_numpy(value: Any, path: Path, done: dict[int, Any], *names: object) -> Any:
    """The content with tensors as arrays; ``names`` lead to it from the whole of the file.

    ``done`` has by identity what was converted before: lists of lists that are the same ones have no end otherwise.
    """
    import torch

    same = id(value)
    if same in done:
        return done[same]
    if isinstance(value, _Array):
        if value.value is None:
            raise TorchFileError(f"{path}: array {'/'.join(map(str, names))[:80]!r} has no content")
        value = value.value
    found = value
    if isinstance(value, torch.Tensor):
        claimed, size = value.nbytes, path.stat().st_size
        if claimed > size:
            name = "/".join(map(str, names))
            raise TorchFileError(f"{path}: tensor {name[:80]!r} claims {claimed} bytes, the file has {size}")
    if isinstance(value, torch.Tensor):
        found = value.detach()
        found = (found.float() if found.dtype == torch.bfloat16 else found).numpy()
    elif isinstance(value, dict):
        found = {key: _as_numpy(item, path, done, *names, key) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        found = type(value)(_as_numpy(item, path, done, *names, place) for place, item in enumerate(value))
    done[same] = found
    return found
