"""Data preparation: worlds that are rendered here, recordings of others, and the commands that make data sets of both.

The model package imports nothing from here.
"""

import contextlib
import sys

from rad_jax.errors import interrupted_by_signals


def _end_quietly(kind, error, trace):
    """An uncaught exception as usual, an interrupt without its traceback."""
    if kind is KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# A command is starting: an interrupt of its imports comes before `common.command` can catch it.
if sys.argv[:1] == ["-m"]:
    sys.excepthook = _end_quietly
    _starting = contextlib.ExitStack()  # never left
    _starting.enter_context(interrupted_by_signals())
