"""How every command ends: the catalogue of what can go wrong, what is said of it in one or two lines, and the exit status."""

import contextlib
import errno
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

_AGAIN = "and give the same command again"
_IN_THE_WAY = (
    "something else of this name, or of a directory above it, is in the way: move it, or name another place"
)
# What to do about failures of the system. Of any other one the system's own words are all that is said.
ADVICE = {
    errno.ENOSPC: f"free some space there {_AGAIN}",
    errno.EDQUOT: f"free some of your quota there {_AGAIN}",
    errno.EFBIG: f"allow larger files there (ulimit -f) {_AGAIN}",
    errno.EROFS: "name a place that can be written",
    errno.EACCES: "change its permissions, or name another place",
    errno.EPERM: "change its permissions, or name another place",
    errno.EMFILE: f"allow more open files (ulimit -n) {_AGAIN}; no file is damaged",
    errno.ENFILE: f"wait until other programs have closed files {_AGAIN}; no file is damaged",
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EEXIST: _IN_THE_WAY,
    errno.EISDIR: "it is a directory: expected a file",
    errno.EIO: f"keep the file, look after the disk or the network {_AGAIN}",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOMEM: f"free some memory {_AGAIN}",
}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_BROKEN_PIPE = 128 + signal.SIGPIPE  # the status of a program that the signal ends, as in a shell


class UserError(Exception):
    """A problem that the user can solve; base of all errors of rad_jax and data_prep.

    The message, of one or two lines, names the field or the file, what was found, what was expected and what to do.

    ``status`` is the exit status of ``rad_jax.main``: 2 for a wrong configuration, 1 for any other problem.
    """

    status: ClassVar[int] = 1
    prefix: ClassVar[str] = "error: "


class Stopped(UserError):
    """The run was asked to end; every process has stopped after the same step and saved it."""

    status = 130
    prefix = ""


def run(
    work: Callable[[], object], prefix: str = "", status: int | None = None, stopped: str = "stopped"
) -> int:
    """Does the work of a command; returns its exit status and prints why it failed, if so, in one or two lines.

    Meanwhile SIGTERM and SIGHUP interrupt it as Ctrl-C does. An error that `explain` does not know is a fault of the program
    and passes through, with its traceback.

    Args:
      prefix: what the message begins with.
      status: of a failure; None for that of the error.
      stopped: what is said of an interrupt.
    """
    try:
        with interrupted_by_signals():
            work()
            sys.stdout.flush()  # a disk that is full shows here
        return 0
    except BaseException as error:
        ending = explain(error)
        if ending is None:
            raise
        found, message = ending
        if isinstance(error, KeyboardInterrupt):
            message = stopped
        if message:
            with contextlib.suppress(OSError):  # a terminal that is gone
                lines = map(shown, f"{prefix}{message}".split("\n"))
                print(*lines, sep="\n", file=sys.stderr, flush=True)
        return found if status is None or found > 2 else status
    finally:
        _let_go_of_stdout()


def explain(error: BaseException) -> tuple[int, str] | None:
    """Exit status and message of an error that needs no traceback; None for any other, which is a fault of the program."""
    words = str(error).split("\n")[0]
    match error:
        case UserError():
            return error.status, f"{error.prefix}{error}"
        case BrokenPipeError():  # whoever reads the output, such as `head`, has seen enough
            return _BROKEN_PIPE, ""
        case OSError():
            return UserError.status, f"error: {describe(error)}"
        case KeyboardInterrupt():
            return Stopped.status, "stopped"
        case MemoryError():
            return UserError.status, f"error: not enough memory{words and f' ({words})'}: {_SMALLER}"
        case RuntimeError() if words.startswith("RESOURCE_EXHAUSTED: Out of memory"):
            return UserError.status, f"error: not enough memory on the device ({words}): {_SMALLER}"
        case RuntimeError() if words.startswith("Unable to initialize backend"):
            return UserError.status, f"error: JAX finds no device: {words}"
    return None


_SMALLER = "choose a smaller batch, fewer workers, or a larger machine"


def describe(error: OSError) -> str:
    """Which file, what happened to it, and what to do, in one line."""
    if error.errno is None or error.strerror is None:  # not from the system
        return str(error)
    names = dict.fromkeys((error.filename, error.filename2))  # two of a file that could not be renamed
    paths = [shown(os.fsdecode(name)) for name in names if _is_path(name)]
    reason = error.strerror[:1].lower() + error.strerror[1:]
    if error.errno in _FULL and paths and (free := _free(Path(paths[-1]))) is not None:
        reason += f" ({free:,} bytes are free)"
    advice = ADVICE.get(error.errno)
    return ": ".join([" -> ".join(paths), reason] if paths else [reason]) + (f"; {advice}" if advice else "")


def failure_of_the_system(error: BaseException, path: str | os.PathLike) -> OSError | None:
    """The failure of the system, at ``path``, for which an exception of a library stands, perhaps by its text alone."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        said = [number for number in ADVICE if os.strerror(number) in str(error)]
        number = max(said, key=lambda number: len(os.strerror(number)), default=None)
    return None if number is None else OSError(number, os.strerror(number), os.fspath(path))


@contextlib.contextmanager
def at(path: str | os.PathLike, *others: str | os.PathLike) -> Iterator[None]:
    """Says of a failure of the system that ``path`` was written, where it names no file, or one below one of the ``others``."""
    try:
        yield
    except OSError as error:
        named = error.filename if _is_path(error.filename) else None
        if error.errno in _FULL if named is None else any(map(Path(named).is_relative_to, others)):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise


def shown(text: object, longest: int | None = None) -> str:
    """A text of unknown origin, such as a file's name, with its control characters escaped: one line, without effects.

    Of one that is longer than ``longest`` characters the beginning, which ends in "...".
    """
    text = str(text)[: None if longest is None else longest + 1]  # it may be as large as the file it is from
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return line if longest is None or len(line) <= longest else f"{line[: longest - 3]}..."


@contextlib.contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Makes SIGTERM and SIGHUP raise KeyboardInterrupt, as SIGINT does, unless they are ignored (nohup) or handled already."""
    main = threading.current_thread() is threading.main_thread()
    endings = [s for s in (signal.SIGTERM, signal.SIGHUP) if main and signal.getsignal(s) is signal.SIG_DFL]
    for ending in endings:
        signal.signal(ending, signal.default_int_handler)
    try:
        yield
    finally:
        for ending in endings:
            signal.signal(ending, signal.SIG_DFL)


def _is_path(name: object) -> bool:
    return isinstance(name, str | bytes | os.PathLike)  # not the number of a descriptor


def _free(path: Path) -> int | None:
    """Bytes that are free where a path is, or will be."""
    for place in (path, *path.absolute().parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(place).free
    return None


def _let_go_of_stdout() -> None:
    """Python writes what is left of the output once more as it ends; where that fails, it would say so."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
