"""Files that are written whole or not at all, and locks that the system releases when a process dies."""

import errno
import fcntl
import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

from rad_jax.errors import UserError


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write ``data`` to ``path`` in one step: a crash leaves the file that was there before, or the new one.

    Missing parent directories are made. The data go to a temporary name in the same directory first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Replaces a JSON file as a whole: a reader, or a crash, sees the old content or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
    replace_durably(temporary, path)


def replace_durably(temporary: Path, path: Path) -> None:
    """Renames a finished temporary file of the same directory, its content and then its name on the disk."""
    for item, rename in ((temporary, True), (path.parent, False)):
        descriptor = os.open(item, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if rename:
            os.replace(temporary, path)


class WorkdirInUse(UserError, RuntimeError):
    """Another process writes to this working directory."""


class WorkdirLock:
    """Holds a working directory until it is closed or its process ends.

    The lock is the kernel's (`flock` on WORKDIR/.lock), so that a killed process leaves none behind and there is no moment
    between looking and taking; the file's text only tells others who holds it. Take it before anything is written to the
    directory; with several processes in one run, in the first of them only.

    Raises `WorkdirInUse`, naming process and machine, if another one holds it; the directory is then unchanged.
    """

    def __init__(self, workdir: str | os.PathLike):
        self.path = Path(workdir) / ".lock"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "a+")  # noqa: SIM115 (held open until close)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            owner = self._file.read().strip() or "another process"
            self._file.close()
            raise WorkdirInUse(
                f"{self.path.parent} is in use by {owner}; wait for it, stop it, or choose another --workdir"
            ) from None
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}")
        self._file.flush()

    def close(self) -> None:
        """Gives the directory back. The file stays: removing it would let two later processes lock different files."""
        self._file.close()

    def __enter__(self) -> "WorkdirLock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def try_lock(descriptor: int) -> bool:
    """Locks an open file or directory until it is closed; False if another process has locked it."""
    try:
        _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for_lock(descriptor: int) -> bool:
    """Locks an open file until it is closed, when nobody else holds it any more; True."""
    _lock(descriptor, fcntl.LOCK_EX)
    return True


def _lock(descriptor: int, operation: int) -> None:
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        raise
    except OSError as error:
        # Some network file systems cannot lock; there, giving two writers different shards is the user's to see to.
        if error.errno not in (errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
            raise
