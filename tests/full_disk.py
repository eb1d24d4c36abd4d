"""Disks on which nothing more fits, in two ways that need no rights.

`small_files` lets the system refuse every byte of a file beyond a size, whoever writes it, libraries in C++ included.
`fail_each_write` lets a command fail at one kind of file after another and go on after each, until nothing is left to fail.
"""

import contextlib
import errno
import io
import os
import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from rad_jax import files


class Ending(NamedTuple):
    """How a command ended.

    Attributes:
      status: its exit status.
      lines: what it wrote to the standard error, without bars of progress.
      kind: of the file that could not be written; "" if all could be.
    """

    status: int
    lines: list[str]
    kind: str = ""


def run(command: Callable[[], int]) -> Ending:
    """Gives a command in this process."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = command()
    lines = re.sub(r"[^\n]*\|[^\n]*episode/s\]\n?", "", errors.getvalue().replace("\r", "\n"))
    return Ending(status, [line for line in lines.splitlines() if line])


@contextlib.contextmanager
def small_files(size: int) -> Iterator[None]:
    """No file may grow beyond a size, in bytes. Nothing may be printed meanwhile but into memory."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def kind_of(path: Path) -> str:
    """The path of a file with # for digits, as far as files of one kind differ in them."""
    return re.sub(r"\.[0-9a-f]{16}\.tmp|[0-9a-f]{8}(?=\.mp4)|(?<!mp)\d+", "#", str(path))


def fail_each_write(
    command: Callable[[], int], directory: Path, kind_of: Callable[[Path], str] = kind_of
) -> list[Ending]:
    """Gives a command until it can write everything; each time the disk is full at the first file of a kind not seen before.

    Every time, what the file held before is still there, and nothing that is half written is.

    Args:
      kind_of: of a path below ``directory``.
    """
    sync, seen, endings = files._sync, set(), []

    class State:
        failed: Path | None = None
        before: bytes | None = None

    def fail_once(path: Path) -> None:
        if path.suffix == ".tmp":
            path = path.with_name(path.name[1:].rsplit(".", 2)[0])
            kind = kind_of(path.relative_to(directory))
            if State.failed is None and kind not in seen:
                seen.add(kind)
                State.failed, State.before = path, path.read_bytes() if path.exists() else None
                endings.append(Ending(0, [], kind))
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return
        sync(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_sync", fail_once)
        while True:
            State.failed = None
            ending = run(command)
            assert not [path for path in directory.rglob(".*") if path.name.endswith(".tmp")]
            if State.failed is None:
                assert ending.status == 0, ending
                return endings
            after = State.failed.read_bytes() if State.failed.exists() else None
            assert after == State.before, f"{State.failed} was changed"
            endings[-1] = endings[-1]._replace(status=ending.status, lines=ending.lines)


def refused(ending: Ending, path: Path) -> None:
    """One or two lines that name a file and the free bytes; no status of a success."""
    assert ending.status in (1, 2) and 1 <= len(ending.lines) <= 2, ending
    assert re.search(
        rf"error: .*{re.escape(str(path))}[^:]*: .*\([\d,]+ bytes are free\); ", ending.lines[0]
    ), ending
