"""What Orbax raises and prints while it writes: one `CheckpointError` in place of hundreds of lines."""

import contextlib
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from absl import logging as absl_logging

from rad_jax.errors import UserError, describe, failure_of_the_system

TEMPORARY = "*.orbax-checkpoint-tmp*"


class CheckpointError(UserError, RuntimeError):
    """A checkpoint could not be written, or none of the existing ones can be used."""


@contextlib.contextmanager
def failures(what: str, directory: Path, more: str = "") -> Iterator[None]:
    """Raises whatever goes wrong as a `CheckpointError`, and removes what was half written into ``directory``.

    Args:
      what: was being written; the message begins with it.
      more: what is said of a failure of the system on a second line.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if failure := failure_of_the_system(error, directory):
            message = f"{what} could not be written: {describe(failure)}" + (more and f"\n{more}")
        else:
            message = f"{what} could not be written to {directory}: {first_line(error)}"
        for temporary in directory.glob(TEMPORARY):
            shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(message) from error


def first_line(error: Exception) -> str:
    """What an error of Orbax says first, shortened."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    # Long file names come first, the library's own message last.
    return line if len(line) <= 300 else f"{line[:120]} ... {line[-150:]}"


def be_quiet() -> None:
    """Keeps Orbax and TensorStore from printing, in logs and from callbacks, what they raise as well; from now on.

    The first failure of many writes closes their event loop; the other writes, some of which end much later, find it closed.
    """
    absl_logging.get_absl_logger().addFilter(_is_not_raised)
    logging.getLogger("asyncio").addFilter(
        _is_not_raised
    )  # writes whose failure nobody waits for after the first
    if not isinstance(sys.unraisablehook, _Hook):
        sys.unraisablehook = _Hook(sys.unraisablehook)


class _Hook:
    """Passes on what no thread could raise, unless it is of a write that found its event loop closed."""

    def __init__(self, hook: Callable[[Any], None]):
        self._hook = hook

    def __call__(self, unraisable: Any) -> None:
        code = getattr(unraisable.object, "cr_code", None)
        if str(unraisable.exc_value) != "Event loop is closed" and not (code and "orbax" in code.co_filename):
            self._hook(unraisable)


def _is_not_raised(record: logging.LogRecord) -> bool:
    is_orbax = "orbax" in record.pathname and record.levelno >= logging.ERROR
    return not (is_orbax or "exception was never retrieved" in record.getMessage())
