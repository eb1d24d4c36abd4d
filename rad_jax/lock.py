"""One writer per working directory."""

import fcntl
import os
import pathlib
import socket
from types import TracebackType


class WorkdirInUse(RuntimeError):
    """Another process writes to this working directory."""


class WorkdirLock:
    """Holds a working directory until it is closed or its process ends.

    The lock is the kernel's (`flock` on WORKDIR/.lock), so that a killed process leaves none behind and there is no moment
    between looking and taking; the file's text only tells others who holds it. Take it before anything is written to the
    directory; with several processes in one run, in the first of them only.

    Raises `WorkdirInUse`, naming process and machine, if another one holds it; the directory is then unchanged.
    """

    def __init__(self, workdir: str | os.PathLike):
        self.path = pathlib.Path(workdir) / ".lock"
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
