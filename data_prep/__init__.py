"""Data preparation: the embedded worlds and the commands that turn them, or other sources, into episodes on disk.

The model package never imports anything from here.
"""

import sys


def _end_quietly(kind, error, trace):
    """An uncaught exception as usual, an interrupt without its traceback."""
    if kind is KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# A command is starting: an interrupt of its imports comes before `common.command` can catch it.
if sys.argv[:1] == ["-m"]:
    sys.excepthook = _end_quietly
