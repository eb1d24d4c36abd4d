"""The arrays of an .npz file of unknown origin: a zip of .npy files, each read when it is asked for.

NumPy's reader takes the sizes that such a file claims for true, and evaluates headers as Python. Here a header must be one that
NumPy writes, for plain numbers or text; its size must be the size of the member; and a member may not be much larger than the
file, as a few megabytes of deflated zeros can be.
"""

import contextlib
import errno
import math
import os
import re
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from rad_jax.errors import UserError, shown
from rad_jax.files import lfs

SMALL = 2**26  # bytes that an array may always have
MOST_TIMES = 100  # otherwise it has at most so many times the bytes of the file
LARGEST = 2**34  # bytes of any array
_LONGEST_HEADER = 10_000
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # NumPy's; others take gigabytes to unpack a byte
_HEADER = re.compile(
    rb"\s*{'descr': '([^']*)', 'fortran_order': (True|False), 'shape': \(((?:\d+L?, ?)*(?:\d+L?)?)\),? ?}\s*"
)
_TYPE = re.compile(rb"[<>|=]?(?:b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,6}|O\d?)")
_CHUNK = 2**20


class NpzError(UserError, ValueError):
    """A file that is no .npz file of plain arrays; one line, which does not name the file."""


class Header(NamedTuple):
    """What the head of a .npy file says; dtype is object for what only running a pickle would give."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool


class Npz(contextlib.AbstractContextManager):
    """An open .npz file. Pickles in it are never read.

    Attributes:
      sizes: bytes of every array by name, with those of its header.

    Raises:
      OSError: the file cannot be opened or read; of the methods as well.
      NpzError: it is damaged, or not an .npz file; of the methods as well.
    """

    def __init__(self, path: str | os.PathLike):
        self._file = open(path, "rb")  # noqa: SIM115 (closed by close)
        try:
            if lfs.is_pointer(path):
                raise NpzError(lfs.ADVICE)
            self._bytes = os.fstat(self._file.fileno()).st_size
            with _refusing("not an intact .npz file"):
                self._archive = zipfile.ZipFile(self._file)
            members = self._archive.infolist()
            self._members = {member.filename.removesuffix(".npy"): member for member in members}
            if len(self._members) < len(members):
                raise NpzError("two arrays of one name")
        except BaseException:
            self._file.close()
            raise
        self.sizes = {name: member.file_size for name, member in self._members.items()}

    def close(self) -> None:
        self._archive.close()
        self._file.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def header(self, name: str) -> Header:
        """Shape and type of an array."""
        with self._opened(name) as (_, header):
            return header

    def read(self, name: str) -> np.ndarray:
        """An array of numbers or text. Raises NpzError also if it claims more bytes than the file can be expected to hold."""
        with self._opened(name) as (file, header):
            size = math.prod(header.shape) * header.dtype.itemsize
            if header.dtype.hasobject:
                raise NpzError(f"array '{shown(name, 60)}' holds pickled objects, expected numbers or text")
            if size > min(max(SMALL, MOST_TIMES * self._bytes), LARGEST):
                raise NpzError(
                    f"array '{shown(name, 60)}' of {size} bytes is too large for a file of {self._bytes}"
                )
            held = self.sizes[name] - file.tell()
            if size != held:
                raise NpzError(f"array '{shown(name, 60)}' has {held} bytes, but its shape needs {size}")
            data = np.empty(size, np.uint8)
            rest = memoryview(data)
            while rest and (count := file.readinto(rest[:_CHUNK])):
                rest = rest[count:]
            if rest or file.read(1):
                raise NpzError(f"array '{shown(name, 60)}' is cut off")
            array = data.view(header.dtype)
            return array.reshape(header.shape[::-1]).T if header.fortran else array.reshape(header.shape)

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[tuple[Any, Header]]:
        """A member, behind its header."""
        if name not in self._members:
            there = ", ".join(f"'{shown(other, 60)}'" for other in [*self._members][:5]) or "none"
            raise NpzError(f"no array '{shown(name, 60)}' among {there}")
        member = self._members[name]
        if member.compress_type not in _METHODS:
            raise NpzError(f"array '{shown(name, 60)}' is compressed by a method that is not read")
        with _refusing(f"array '{shown(name, 60)}' is damaged"), self._archive.open(member) as file:
            yield file, _read_header(name, file)


def _read_header(name: str, file: Any) -> Header:
    start = file.read(8)
    digits = {1: 2, 2: 4, 3: 4}.get(start[6] if len(start) == 8 else 0)
    if not start.startswith(b"\x93NUMPY") or digits is None:
        raise NpzError(f"array '{shown(name, 60)}' is no .npy file of a known version")
    length = int.from_bytes(file.read(digits), "little")
    text = file.read(length) if length <= _LONGEST_HEADER else b""
    match = _HEADER.fullmatch(text)
    if match is None or not _TYPE.fullmatch(match[1]):
        found = (match[1] if match else text.strip()).decode("latin-1")
        raise NpzError(f"array '{shown(name, 60)}' has a header that is not read, '{shown(found, 60)}'")
    shape = tuple(int(size.rstrip(b"L")) for size in match[3].replace(b" ", b"").split(b",") if size)
    dtype = np.dtype(object) if b"O" in match[1] else np.dtype(match[1].decode())
    return Header(shape, dtype, match[2] == b"True")


@contextlib.contextmanager
def _refusing(problem: str) -> Iterator[None]:
    """Turns what zipfile, zlib and NumPy raise, each errors of its own, into NpzError; not what the system raises."""
    try:
        yield
    except NpzError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (
            None,
            errno.EINVAL,
        ):  # a seek to where nothing can be
            raise
        reason = (str(error).splitlines() or [""])[0][:100]
        raise NpzError(f"{problem} ({reason or type(error).__name__})") from error
