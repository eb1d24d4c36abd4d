"""The allocator of the process: what XLA gives back on a CPU is kept for the next step."""

import ctypes
import platform

# Of <malloc.h>.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Lets glibc keep what is freed; returns whether it does. To be called before threads are started.

    A step on a CPU takes its buffers anew, and glibc asks the system for large ones every time, which clears them page by page:
    a third of the time of a training step of experiments/maze_memory.py. One arena that is never given back has them already.
    The process stays as large as it was at its largest, which it is again in the next step.

    Nothing is done where the C library is another one.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}
    return all(mallopt(option, value) == 1 for option, value in settings.items())
