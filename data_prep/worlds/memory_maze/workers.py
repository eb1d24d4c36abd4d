"""How many processes of MuJoCo to run, and how.

A process needs 0.6 GB (1.5 GB without `patches`), so memory limits how many there can be. OpenGL does not survive a fork, and
the process that writes the data set never loads MuJoCo, so even a single worker is another process.
"""

import os
from pathlib import Path

WORKER_BYTES = 0.7e9


def limit_threads() -> None:
    """Initializer of a worker: Mesa's software renderer gets one thread, because the processes already fill the cores."""
    os.environ.setdefault("LP_NUM_THREADS", "1")


def default_count() -> int:
    """Returns as many processes as cores and free memory allow, at least one."""
    fit = int(0.9 * _available_bytes() / WORKER_BYTES)
    return max(min(len(os.sched_getaffinity(0)), fit), 1)


def _available_bytes() -> float:
    """Free memory of this machine, or of the container if that is less."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    meminfo = {name: int(value.split()[0]) * 1024 for name, value in (line.split(":") for line in lines)}
    available = meminfo["MemAvailable"]
    limit, used = (Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory.current"))
    if limit.exists() and limit.read_text().strip() != "max":
        available = min(available, int(limit.read_text()) - int(used.read_text()))
    return available
