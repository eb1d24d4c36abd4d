"""Work for many processes whose results come back in order.

The processes are new ones, not copies of this one, so that it may have threads; an interrupt is left to this process, and
they end with it, however it ends.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection, wait
from typing import TypeVar

from rad_jax.data import DataError

Item, Result = TypeVar("Item"), TypeVar("Result")

_AHEAD = 2  # results a process may be ahead of the reader, which bounds the memory they take


class Pool:
    """Processes to be used as a context manager. ``workers`` 1 is none: the work is done in this process."""

    def __init__(self, workers: int):
        self._workers, self._pool = workers, None
        if workers > 1:
            context = multiprocessing.get_context("spawn")
            receiving, self._lifeline = context.Pipe(duplex=False)
            self._pool = ProcessPoolExecutor(workers, context, _begin, (receiving,))

    def map(self, task: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """``task`` of every item, in order, a few ahead of the reader. Both must pickle, and the results.

        Raises:
          DataError: a process died. What ``task`` raises is passed on.
        """
        if self._pool is None:
            yield from map(task, items)
            return
        items, coming = iter(items), deque()
        try:
            while True:
                for item in items:
                    coming.append(self._submit(task, item))
                    if len(coming) >= _AHEAD * self._workers:
                        break
                if not coming:
                    return
                yield coming.popleft().result()
        except BrokenProcessPool:
            raise DataError(
                "a worker process died, most likely for want of memory: use fewer --workers"
            ) from None
        finally:
            for future in coming:
                future.cancel()

    def _submit(self, task: Callable[[Item], Result], item: Item) -> Future:
        # A process that this starts inherits what is blocked, so that an interrupt does not reach it while it loads.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return self._pool.submit(task, item)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._pool is None:
            return
        if kind is None:
            self._pool.shutdown(cancel_futures=True)
        self._lifeline.close()  # ends what still works on something that nobody waits for
        self._pool.shutdown(cancel_futures=True)


def _begin(lifeline: Connection) -> None:
    """What a process does first."""
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()


def _end_with(lifeline: Connection) -> None:
    wait([lifeline])  # until the other end is closed, which the system does for a process that died
    os._exit(1)
