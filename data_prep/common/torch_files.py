"""Reads what ``torch.save`` wrote (tensors, NumPy arrays, plain containers) without running code that is in the file.

A ``.pt`` or ``.pth`` file is a pickle, and a pickle is a program. PyTorch's own restricted reader (``weights_only=True``) calls
nothing in it but what makes tensors; here NumPy's arrays and numbers are allowed as well, which samples of Open-Oasis hold.
Needs the extra: pip install 'rad_jax[torch]'
"""

import contextlib
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


def _numpy_globals() -> list[Any]:
    """What pickles of NumPy's arrays and numbers call; those of NumPy 1 by their old names."""
    from numpy._core import multiarray

    functions = [multiarray._reconstruct, multiarray.scalar]
    old_names = [(function, f"numpy.core.multiarray.{function.__name__}") for function in functions]
    return [*functions, *old_names, np.ndarray, np.dtype, *(type(np.dtype(name)) for name in DTYPES)]


def _as_numpy(value: Any, path: Path, done: dict[int, Any], *names: object) -> Any:
    """The content with tensors as arrays; ``names`` lead to it from the whole of the file.

    ``done`` has by identity what was converted before: lists of lists that are the same ones have no end otherwise.
    """
    import torch

    if id(value) in done:
        return done[id(value)]
    found = value
    if isinstance(value, torch.Tensor | np.ndarray):
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
    done[id(value)] = found
    return found
