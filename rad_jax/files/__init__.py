"""Files that are written whole or not at all, and locks that the system releases when their process dies.

A file system that cannot lock (some network mounts) gets one of two treatments. Where two writers would destroy each other's
work, as in a run's directory, the writer is refused (`WorkdirLock`). Where they would only do the same work twice, as with
the shards of a data set, whose bytes do not depend on who writes them, a warning says so once.
"""

import argparse
import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import socket
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rad_jax.errors import UserError, at

_CANNOT_LOCK = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_POLL_SECONDS = 0.05
_warned_devices: set[int] = set()  # file systems about which this process has warned


class RemotePath(UserError, argparse.ArgumentTypeError):
    """A path that lies on another machine, or in a home directory that there is not."""

    status = 2


def local_path(text: str) -> Path:
    """The path that a user wrote, with ``~`` for a home directory written out.

    Raises:
      RemotePath: it has a scheme, such as ``gs://``, or there is no such home; it would become a directory of that name.
    """
    if re.match(r"[a-z][a-z0-9+.-]*://", text, re.IGNORECASE):
        raise RemotePath(f"{text}: remote paths are not supported; copy it to a disk or mount it")
    path = Path(os.path.expanduser(text))
    if text.startswith("~") and not path.is_absolute():
        raise RemotePath(f"{text}: there is no such home directory; write the whole path, or ./{text}")
    return path


def check_writable(directory: Path) -> None:
    """Raises `OSError` if files cannot be made in a directory, or the directory itself if it is missing; writes nothing."""
    there = next(path for path in (directory, *directory.absolute().parents) if os.path.lexists(path))
    for code, holds in (
        (errno.ENOTDIR, there.is_dir()),
        (errno.EROFS, not (there.exists() and os.statvfs(there).f_flag & os.ST_RDONLY)),
        (errno.EACCES, os.access(there, os.W_OK | os.X_OK)),
    ):
        if not holds:
            raise OSError(code, os.strerror(code), str(there))


def token() -> str:
    """Sixteen characters of a file's name that no other process or host uses; process ids are equal in containers."""
    return secrets.token_hex(8)


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path to write to, which replaces `path` in one step when the block ends without an error.

    A reader, or a crash at any moment, sees the old content or the new one. The temporary file lies in the same directory,
    which must exist, under a name that no other process or host uses. An error removes it, a kill leaves it behind (see
    `remove_temporaries`).
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{token()}.tmp")
    try:
        with at(path, temporary):
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)  # without it, a power failure may undo the rename
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path | str, data: bytes) -> None:
    """Writes a file as `replacing` does. Makes missing parent directories."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path | str, content: Any) -> None:
    """Writes a JSON file as `write_bytes` does."""
    write_bytes(path, json.dumps(content, indent=1).encode())


def remove_temporaries(directory: Path, name: str) -> None:
    """Removes what killed writers of a file have left in `directory`. `name` may be a glob pattern.

    Hold the lock that every writer of that file holds: a live writer's temporary file would be removed as well.
    """
    for temporary in directory.glob(f".{name}.*.tmp"):
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Locked(UserError, RuntimeError):
    """Another process holds a lock.

    Attributes:
      owner: which one, as "process 12 on HOST".
    """

    def __init__(self, owner: str):
        super().__init__(owner)
        self.owner = owner


class FileLock(contextlib.AbstractContextManager):
    """An exclusive lock on a file, which is made if it is missing. Held until `close`, or until the process ends.

    The lock is the kernel's (`flock`), so a killed process leaves none behind. The text of the file only tells others who holds
    it. The file itself stays: if it were removed, two later processes could lock different files of the same name.

    Args:
      path: the file; its directory must exist.
      timeout: seconds to wait for another holder; 0 does not wait, `math.inf` waits until the lock is free.

    Attributes:
      exclusive: False on a file system that cannot lock, of which a warning is given.

    Raises:
      Locked: another process still holds it after `timeout` seconds.
    """

    def __init__(self, path: Path, timeout: float = 0.0):
        # Its text is replaced, which must not be that of a file elsewhere.
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            self.exclusive = self._lock(timeout)
            if not self.exclusive:
                self._go_without(path)
            os.ftruncate(self._descriptor, 0)
            with at(path):
                os.write(self._descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        except BaseException:
            os.close(self._descriptor)
            raise

    def _lock(self, timeout: float) -> bool:
        give_up = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() >= give_up:
                    owner = os.pread(self._descriptor, 200, 0).decode(errors="replace")
                    raise Locked(owner or "another process") from None
                time.sleep(_POLL_SECONDS)
            except OSError as error:
                if error.errno not in _CANNOT_LOCK:
                    raise
                return False

    def _go_without(self, path: Path) -> None:
        device = os.fstat(self._descriptor).st_dev
        if device not in _warned_devices:
            _warned_devices.add(device)
            warnings.warn(
                f"the file system of {path.parent} has no locks: processes that write there may do the same work twice",
                stacklevel=3,
            )

    def close(self) -> None:
        """Releases the lock."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)

    def __exit__(self, *error: object) -> None:
        self.close()


class WorkdirInUse(UserError, RuntimeError):
    """A working directory cannot be had for this process alone: another one writes to it, or it cannot be locked."""


class WorkdirLock(FileLock):
    """Holds a working directory, made if it is missing, by a lock on WORKDIR/.lock.

    Take it before anything is written to the directory; with several processes in one run, in the first of them only.

    Raises:
      WorkdirInUse: another process holds it (the error names process and host), or its file system has no locks. Nothing else
        in the directory has changed.
    """

    def __init__(self, workdir: str | os.PathLike, timeout: float = 0.0):
        workdir = Path(workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        try:
            super().__init__(workdir / ".lock", timeout)
        except Locked as error:
            raise WorkdirInUse(
                f"{workdir} is in use by {error.owner}; wait for it, stop it, or choose another --workdir"
            ) from None

    def _go_without(self, path: Path) -> None:
        raise WorkdirInUse(
            f"{path.parent}: its file system has no locks, so that two runs could destroy each other's files; "
            "choose a --workdir on another file system"
        )
