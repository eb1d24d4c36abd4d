"""The layout of a safetensors file of unknown origin: eight bytes of length, a header in JSON, and the tensors' bytes.

Everything that the header claims is compared with the file before a tensor is read. The time it takes is in proportion to the
size of the file, however many names are in it.
"""

import json
import math
import os
import pathlib
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from rad_jax.errors import UserError, shown
from rad_jax.files import lfs
from rad_jax.files.json_files import check_form

SUFFIX = ".safetensors"
TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16}
TYPES |= {f"{kind.upper()}{8 * size}": f"<{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)}
LARGEST_HEADER = 2**25  # bytes: some 300,000 tensors
ZIP, PICKLE = b"PK\x03\x04", b"\x80"  # how the files of torch.save begin, the new ones and the old
CONVERT = (
    'python -c "import sys, torch; from safetensors.torch import save_file; t = torch.load(sys.argv[1], weights_only=True, '
    "map_location='cpu'); save_file({k: v.clone().contiguous() for k, v in t.items()}, sys.argv[2])\""
)
_HEAD = 8  # bytes before the header


class WeightsError(UserError, ValueError):
    """A weight file that is missing, damaged, of another format or of another model; in one or two lines."""


class Layout(NamedTuple):
    """Of every tensor the type, the shape, and where its bytes begin in the file; and the texts beside the tensors, by name."""

    tensors: dict[str, tuple[str, tuple[int, ...], int]]
    metadata: dict[str, str]


def read_layout(path: pathlib.Path) -> Layout:
    """Returns the layout of a file whose header describes exactly the bytes that follow.

    Raises:
      WeightsError: it is missing, of another format, damaged, or has a tensor of a type that is not read.
    """
    if not path.is_file():
        raise WeightsError(f"there is no file {path}" + (" (it is a directory)" if path.is_dir() else ""))
    if lfs.is_pointer(path):
        raise WeightsError(f"{path}: {lfs.ADVICE}")
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(_HEAD + 1)
            _refuse_other_formats(path, start)
            length = int.from_bytes(start[:_HEAD], "little")
            if start[_HEAD:] == b"{" and _HEAD + length > size:
                raise _not_intact(path, f"cut off: {size} bytes, its header alone needs {_HEAD + length}")
            if not start[_HEAD:] == b"{" or length > LARGEST_HEADER:
                raise _not_intact(path, f"no header, or one of more than {LARGEST_HEADER} bytes")
            text = b"{" + file.read(length - 1)
        return _layout(path, text, size - _HEAD - length)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from None
    except (RecursionError, MemoryError) as error:
        raise _not_intact(path, f"its header is too much: {type(error).__name__}") from None


def read_tensor(path: pathlib.Path, file: Any, dtype: str, shape: tuple[int, ...], begin: int) -> np.ndarray:
    """Returns a tensor of an open file, at its place in the layout."""
    file.seek(begin)
    array = np.fromfile(file, np.dtype(TYPES[dtype]), math.prod(shape))
    if array.size != math.prod(shape):
        raise _not_intact(path, "it became shorter while it was read")
    return array.reshape(shape)


def _refuse_other_formats(path: pathlib.Path, start: bytes) -> None:
    # The length of a header may begin with the byte of a pickle, but a brace follows it; a pickle has none there.
    is_pickle = start.startswith(PICKLE) and start[_HEAD:] not in (b"{", b"")
    if path.suffix != SUFFIX or start.startswith(ZIP) or is_pickle:
        raise WeightsError(
            f"{path} is not a {SUFFIX} file, and no other is read: pickles (.pt, .pth, .ckpt, .bin) can execute code; "
            f"convert one that you trust with: {CONVERT} IN OUT{SUFFIX}"
        )


def _layout(path: pathlib.Path, text: bytes, size: int) -> Layout:
    """Checks a header against the number of bytes behind it."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) < len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))
            raise WeightsError(f"{path}: {shown(twice, 120)} stands more than once in its header")
        return entries

    try:
        header = json.loads(text.decode(), object_pairs_hook=unique)
        metadata = header.pop("__metadata__", {})
        check_form(metadata, dict, "__metadata__")
        for (
            key,
            value,
        ) in metadata.items():  # texts of any length and of many lines, such as the description of an export
            if not isinstance(value, str):
                raise ValueError(f"__metadata__.{shown(key, 80)} is no text")
        entries = sorted(
            ((name, *_entry(name, entry)) for name, entry in header.items()), key=lambda each: each[3:]
        )
    except WeightsError:
        raise
    except (ValueError, RecursionError) as error:
        raise _not_intact(path, str(error)[:200]) from None
    tensors, reached = {}, 0
    for name, dtype, shape, begin, end in entries:
        if dtype not in TYPES:
            raise WeightsError(
                f"{path}: {shown(name, 120)} has type {shown(dtype, 120)}, expected one of {', '.join(TYPES)}"
            )
        needed = math.prod(shape) * np.dtype(TYPES[dtype]).itemsize
        sizes = math.prod(filter(None, shape))  # NumPy multiplies them even if one is zero
        if begin != reached or end - begin != needed or len(shape) > 32 or sizes > 2**60:
            place = (
                f"{shown(name, 120)}, {dtype}{list(shape)}, at bytes {begin} to {end} behind byte {reached}"
            )
            raise _not_intact(path, place[:200])
        tensors[name], reached = (dtype, shape, _HEAD + len(text) + begin), end
    if reached != size:
        what = "cut off" if size < reached else "it has more than its tensors"
        raise _not_intact(path, f"{what}: {size} bytes of tensors, expected {reached}")
    return Layout({name: tensors[name] for name in header}, metadata)


def _entry(name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    """Type, shape, begin and end of a tensor. Raises ValueError unless the entry has this form."""
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [begin, end]} if all(
            type(number) is int and 0 <= number <= 2**53 for number in (*shape, begin, end)
        ):
            return dtype, tuple(shape), begin, end
    raise ValueError(f"{shown(name, 120)} is described by {shown(entry, 80)}")


def _not_intact(path: pathlib.Path, reason: str) -> WeightsError:
    return WeightsError(f"{path}: not an intact safetensors file ({reason}); download it again")
