"""Pointers that git leaves in the place of large files which were not fetched."""

import os

_START = b"version https://git-lfs.github.com/spec/"
ADVICE = "a git-lfs pointer in the place of the file; fetch it with: git lfs pull"


def is_pointer(path: str | os.PathLike) -> bool:
    """Whether a file is such a pointer; False if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(len(_START)) == _START
    except OSError:
        return False
