"""Reads what ``torch.save`` wrote (tensors, arrays and plain containers) without torch and without running what is in it.

A ``.pt`` or ``.pth`` file is a pickle beside raw tensor data, and a pickle is a program. Here its instructions are checked
against a list before it is opened, every name it asks for is answered by an inert stand-in or refused, and the stand-ins
become values only when the pickle is done. Both layouts are read: the zip archive of torch 1.6 and later, and the stream
of pickles from before, in which the heads of LPIPS and torchvision's older weights are published.
"""

import io
import os
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from rad_jax.errors import UserError

LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch's magic number, as its pickle ends
LEGACY_VERSION = 1001
DEEPEST = 64  # containers inside one another

# Types of a torch storage. NumPy has no bfloat16: it comes as float32.
STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}
NUMBERS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}  # types of a numpy array

# What torch and numpy write at pickle protocols 2 to 4. None of them makes an object but by a call that is checked below.
INSTRUCTIONS = {
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "MEMOIZE"),
    *("PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET"),
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINUNICODE", "SHORT_BINUNICODE"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
    *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
}


class TorchFileError(UserError, ValueError):
    """A file that is not what ``torch.save`` writes of plain data. One line: the file, and what was found."""


def read_torch(path: str | os.PathLike) -> Any:
    """The content of a ``.pt`` or ``.pth`` file: dicts, lists, tuples, numbers, text, None; tensors as numpy arrays.

    Nothing in the file is executed. Arrays are read-only, and their values are not checked: they may be NaN.

    Raises:
      TorchFileError: the file is missing, damaged, or asks for anything else than data.
    """
    try:
        with open(path, "rb") as file:
            return _read_zip(file) if zipfile.is_zipfile(file) else _read_legacy(file)
    except TorchFileError as error:
        raise TorchFileError(f"{path}: {error}") from None
    except OSError as error:
        raise TorchFileError(f"{path}: {error.strerror or error}") from None
    except Exception as error:  # whatever a hostile file can raise in pickle, zipfile, numpy or here
        reason = (str(error).splitlines() or [""])[0][:100]
        raise TorchFileError(f"{path}: damaged, {type(error).__name__}: {reason}") from None


def _read_zip(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        files = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in files if name.endswith("/data.pkl")]
        if len(pickles) != 1 or len(files) < len(archive.infolist()):
            raise TorchFileError(
                "a zip archive that torch.save did not write (not one data.pkl, or a name twice)"
            )
        folder = pickles[0].removesuffix("data.pkl")

        def content(name: str) -> bytes:
            info = files.get(folder + name)
            if info is None or info.compress_type != zipfile.ZIP_STORED:
                raise TorchFileError(
                    f"{_shown(name)} is missing or compressed; torch.save stores it as it is"
                )
            return archive.read(info)

        if folder + "byteorder" in files and content("byteorder") != b"little":
            raise TorchFileError("its numbers are big-endian; save it again on a little-endian machine")
        value, storages = _unpickle(io.BytesIO(content("data.pkl")))
        for key, storage in storages.items():
            storage.fill(content(f"data/{key}"))
        return _resolve(value, 0, {})


def _read_legacy(file: BinaryIO) -> Any:
    """Pickles of magic number, version, system and value, then of the keys of the storages, then what these hold."""
    file.seek(0)
    if LEGACY_MAGIC not in file.read(32):
        raise TorchFileError(
            "not written by torch.save: neither a zip archive nor the layout of before torch 1.6"
        )
    file.seek(0)
    _unpickle(file)
    version, _ = _unpickle(file)
    system, _ = _unpickle(file)
    if version != LEGACY_VERSION or system["little_endian"] is not True:
        raise TorchFileError("its layout or its byte order is not the one that torch wrote before 1.6")
    value, storages = _unpickle(file)
    keys, _ = _unpickle(file)
    if sorted(keys) != sorted(storages):
        raise TorchFileError(
            f"{len(storages)} storages are used and {len(keys)} are there, or of other names"
        )
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        if count != storages[key].count:
            raise TorchFileError(
                f"storage {_shown(key)} has {count} numbers, its tensors say {storages[key].count}"
            )
        storages[key].fill(file.read(storages[key].size))
    return _resolve(value, 0, {})


def _unpickle(file: BinaryIO) -> tuple[Any, dict[str, "_Storage"]]:
    """The next pickle of a file in stand-ins, and the storages it mentions. Its instructions are checked first."""
    first = file.tell()
    for instruction, argument, _ in pickletools.genops(file):
        if instruction.name not in INSTRUCTIONS:
            raise TorchFileError(
                f"pickle instruction {instruction.name}; only tensors and plain containers are read"
            )
        # For a place far beyond the pickle's own length the unpickler would reserve as much memory.
        if instruction.name.endswith("PUT") and argument > file.tell() - first:
            raise TorchFileError(f"damaged, place {argument} in the memo of a shorter pickle")
    length = file.tell() - first
    file.seek(first)
    unpickler = _Unpickler(io.BytesIO(file.read(length)), encoding="latin1")
    return unpickler.load(), unpickler.storages


class _Unpickler(pickle.Unpickler):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> "_Inert":
        if module == "torch" and name in STORAGES:
            return _StorageType(STORAGES[name])
        call = CALLS.get((module, name))
        if call is None:
            raise TorchFileError(f"asks for {_shown(f'{module}.{name}')}, which is code; only data are read")
        return _Call(call)

    def persistent_load(self, reference: Any) -> "_Storage":
        kind, storage_type, key, _, count, *view = reference
        whole = kind == "storage" and view in ([], [None])
        if not whole or type(storage_type) is not _StorageType or type(count) is not int or count < 0:
            raise TorchFileError("a reference to something other than a storage of numbers")
        storage = self.storages.setdefault(str(key), _Storage(storage_type.dtype, count))
        if (storage.dtype, storage.count) != (storage_type.dtype, count):
            raise TorchFileError(f"storage {_shown(key)} is given two types or two lengths")
        return storage


class _Inert:
    """A stand-in: a pickle can hold it and hand it on, and change nothing about it."""

    __slots__ = ()

    def __setstate__(self, state):
        raise TorchFileError(f"damaged, a state for a {type(self).__name__.strip('_')}")


class _Call(_Inert):
    """A name that the pickle may call."""

    __slots__ = ("function",)

    def __init__(self, function: Callable):
        self.function = function

    def __call__(self, *arguments):
        return self.function(*arguments)


class _StorageType(_Inert):
    __slots__ = ("dtype",)

    def __init__(self, dtype: str):
        self.dtype = dtype


class _Storage(_Inert):
    """Numbers in a row, which tensors share; filled when the pickle is done."""

    __slots__ = ("count", "dtype", "values")

    def __init__(self, dtype: str, count: int):
        self.dtype, self.count = dtype, count

    @property
    def size(self) -> int:
        """Bytes."""
        return self.count * (2 if self.dtype == "bfloat16" else np.dtype(self.dtype).itemsize)

    def fill(self, content: bytes) -> None:
        if len(content) != self.size:
            raise TorchFileError(f"cut short: a storage of {len(content)} bytes, its tensors say {self.size}")
        if self.dtype == "bfloat16":
            self.values = (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4")
        else:
            self.values = np.frombuffer(content, self.dtype)


class _Tensor(_Inert):
    """A view of a storage, offset and strides counted in numbers."""

    __slots__ = ("offset", "shape", "storage", "strides")

    def __init__(self, storage: _Storage, offset: int, shape: tuple, strides: tuple, *_):
        self.storage, self.offset, self.shape, self.strides = storage, offset, tuple(shape), tuple(strides)
        numbers = (offset, *self.shape, *self.strides)
        plain = type(storage) is _Storage and all(type(n) is int and n >= 0 for n in numbers)
        if not plain or len(self.shape) != len(self.strides):
            raise TorchFileError("damaged, a tensor of no proper storage, shape or strides")
        last = offset + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        if 0 not in self.shape and last >= storage.count:
            raise TorchFileError(
                f"a tensor of shape {self.shape} reaches beyond its storage of {storage.count}"
            )

    def value(self) -> np.ndarray:
        flat = self.storage.values
        if 0 in self.shape:
            return np.zeros(self.shape, flat.dtype)
        strides = [stride * flat.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, strides, writeable=False)


class _Dtype(_Inert):
    """A numpy type, little-endian until its state says otherwise."""

    __slots__ = ("code", "order")

    def __init__(self, code: str, *_):
        if code not in NUMBERS:
            raise TorchFileError(f"an array of {_shown(code)}; only numbers are read")
        self.code, self.order = code, "<"

    def __setstate__(self, state):
        _, self.order, subtype, names, fields, *_ = state
        if self.order not in ("<", ">", "|") or (subtype, names, fields) != (None, None, None):
            raise TorchFileError("an array of records; only numbers are read")

    def value(self) -> np.dtype:
        return np.dtype(self.order + self.code)


class _Array(_Inert):
    """A numpy array: made empty, then given its state, as numpy pickles it."""

    __slots__ = ("array",)

    def __init__(self, *_):
        self.array = None

    def __setstate__(self, state):
        _, shape, dtype, fortran, content = state
        if type(dtype) is not _Dtype or not isinstance(content, str | bytes):
            raise TorchFileError("an array of objects; only numbers are read")
        content = content.encode("latin1") if isinstance(content, str) else content
        array = np.frombuffer(content, dtype.value()).reshape(shape, order="F" if fortran else "C")
        self.array = array.astype(array.dtype.newbyteorder("="), copy=False)

    def value(self) -> np.ndarray:
        if self.array is None:
            raise TorchFileError("damaged, an array without content")
        return self.array


class _Dict(dict):
    """An OrderedDict; its state is the ``_metadata`` of a state dict, which says nothing about the tensors."""

    def __setstate__(self, state):
        pass


def _scalar(dtype: _Dtype, content: str | bytes) -> int | float | bool:
    array = _Array()
    array.__setstate__((1, (), dtype, False, content))
    return array.value().item()


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise TorchFileError(f"bytes as {_shown(encoding)}")
    return text.encode("latin1")


# What the pickles may call, by module and name.
CALLS = {
    ("collections", "OrderedDict"): _Dict,
    ("torch._utils", "_rebuild_tensor"): _Tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("_codecs", "encode"): _encode,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
}


def _resolve(value: Any, depth: int, known: dict[int, Any]) -> Any:
    """Stand-ins to values. ``known`` holds what was resolved, so that what is shared is not repeated."""
    if depth > DEEPEST:
        raise TorchFileError(f"containers more than {DEEPEST} deep, or one that holds itself")
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if id(value) not in known:
        known[id(value)] = _resolve_new(value, depth, known)
    return known[id(value)]


def _resolve_new(value: Any, depth: int, known: dict[int, Any]) -> Any:
    if isinstance(value, _Tensor | _Array):
        return value.value()
    if isinstance(value, Mapping):
        if not all(type(key) in (str, int) for key in value):
            raise TorchFileError("a dict whose keys are not text or integers")
        return {key: _resolve(item, depth + 1, known) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_resolve(item, depth + 1, known) for item in value)
    raise TorchFileError(
        f"holds a {type(value).__name__.strip('_')} by itself; only tensors and plain data are read"
    )


def _shown(name: Any) -> str:
    """A name from the file, in one short line."""
    return ascii(name)[1:-1][:80] if isinstance(name, str) else ascii(name)[:80]
