"""Episodes from many processes, handed out in order.

A process of MuJoCo needs 0.6 GB (1.5 GB without `patches`), so memory limits how many there can be.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection, wait
from pathlib import Path

from data_prep.memory_maze.package import MemoryMazeError
from rad_jax.data.episodes import Episode

WORKER_BYTES = 0.7e9
_AHEAD = 2  # episodes a worker may be ahead of the writer


class Workers:
    """Processes that make the episodes of a split; use it as a context manager.

    Args:
      make_episode: makes the episode of an index; sent to the processes, so it has to pickle.
      num_episodes: episodes of the split.
      count: how many processes.
    """

    def __init__(self, make_episode: Callable[[int], Episode], num_episodes: int, count: int):
        self._make_episode, self._num_episodes = make_episode, num_episodes
        self._ahead = _AHEAD * count
        self._coming: dict[int, Future] = {}
        # Processes of their own, not copies of this one: OpenGL and threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        receiving, self._lifeline = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(count, context, _begin, (receiving,))

    def episodes(self, indices: range) -> Iterator[Episode]:
        """The episodes of some indices, in order; the ones after them are begun, for the next shard.

        Raises:
          MemoryMazeError: MuJoCo cannot be used here, or a process died.
        """
        for index in indices:
            for later in range(index, min(index + self._ahead, self._num_episodes)):
                if later not in self._coming:
                    self._coming[later] = self._submit(later)
            try:
                yield self._coming.pop(index).result()
            except BrokenProcessPool:
                raise MemoryMazeError(_DIED) from None

    def _submit(self, index: int) -> Future:
        try:
            return self._pool.submit(self._make_episode, index)
        except BrokenProcessPool:
            raise MemoryMazeError(_DIED) from None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            self._pool.shutdown()
        self._lifeline.close()  # ends what still works on episodes that nobody waits for
        self._pool.shutdown(cancel_futures=True)


_DIED = f"a worker process died, most likely for want of memory (each needs {WORKER_BYTES / 1e9:.1f} GB): use fewer --workers"


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


def _begin(lifeline: Connection) -> None:
    """What a worker does first."""
    os.environ.setdefault(
        "LP_NUM_THREADS", "1"
    )  # of Mesa's software renderer: the processes fill the cores already
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the writer, which ends its workers
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()


def _end_with(lifeline: Connection) -> None:
    """End this process when the writer lets go of the other end, also by being killed: it would wait for ever."""
    wait([lifeline])
    os._exit(1)
