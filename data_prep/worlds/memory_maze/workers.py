"""Episodes from many processes, handed out in order.

A process of MuJoCo needs 0.6 GB (1.5 GB without `patches`), so memory limits how many there can be. OpenGL and threads do not
survive a fork, so the processes are never copies of this one, and even a single one is another.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

from data_prep.common.pool import DIED, Processes
from data_prep.worlds.memory_maze.package import MemoryMazeError
from rad_jax.data import Episode

WORKER_BYTES = 0.7e9


class Workers(Processes):
    """Processes that make the episodes of a split; use it as a context manager.

    Args:
      make_episode: makes the episode of an index; sent to the processes, so it has to pickle.
      num_episodes: episodes of the split.
      count: how many processes.
    """

    def __init__(self, make_episode: Callable[[int], Episode], num_episodes: int, count: int):
        died = MemoryMazeError(DIED.format(f" (each needs {WORKER_BYTES / 1e9:.1f} GB)"))
        super().__init__(count, died, _prepare)
        self._make_episode, self._num_episodes = make_episode, num_episodes
        self._coming: dict[int, Future[Episode]] = {}

    def episodes(self, indices: range) -> Iterator[Episode]:
        """The episodes of some indices, in order; the ones after them are begun, for the next shard.

        Raises:
          MemoryMazeError: MuJoCo cannot be used here, or a process died.
        """
        for index in indices:
            for later in range(index, min(index + self.ahead, self._num_episodes)):
                if later not in self._coming:
                    self._coming[later] = self.submit(self._make_episode, later)
            yield self.result(self._coming.pop(index))


def _prepare() -> None:
    # Of Mesa's software renderer: the processes fill the cores already.
    os.environ.setdefault("LP_NUM_THREADS", "1")


def default_count() -> int:
    """As many processes as there are cores for and memory is left for, at least one."""
    fit = int(0.9 * _available_bytes() / WORKER_BYTES)
    return max(min(len(os.sched_getaffinity(0)), fit), 1)


def _available_bytes() -> float:
    """Memory that is left on this machine, or in the container if that is less."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    meminfo = {name: int(value.split()[0]) * 1024 for name, value in (line.split(":") for line in lines)}
    available = meminfo["MemAvailable"]
    limit, used = (Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory.current"))
    if limit.exists() and limit.read_text().strip() != "max":
        available = min(available, int(limit.read_text()) - int(used.read_text()))
    return available
