"""Work for many processes whose results come back in order.

The processes are new ones, not copies of this one, so that it may have threads; an interrupt is left to this process, and
they end with it, however it ends.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Self, TypeVar

from rad_jax.data import DataError

Item, Result = TypeVar("Item"), TypeVar("Result")

DIED = "a worker process died, most likely for want of memory{}: use fewer --workers"
_AHEAD = 2  # results a process may be ahead of the reader, which bounds the memory they take


class Processes:
    """Processes that are given tasks one by one, to be used as a context manager.

    Args:
      count: how many.
      died: raised if one of them ended that nobody asked to.
      prepare: what each of them does first.

    Attributes:
      ahead: how many results they may be ahead of the reader.
    """

    def __init__(self, count: int, died: Exception, prepare: Callable[[], None] | None = None):
        self.ahead = _AHEAD * count
        context = multiprocessing.get_context("spawn")
        receiving, self._lifeline = context.Pipe(duplex=False)
        self._executor = ProcessPoolExecutor(count, context, _begin, (receiving, prepare))
        self._died = died

    def submit(self, task: Callable[[Item], Result], item: Item) -> "Future[Result]":
        """Begins with one more task. All three must pickle."""
        with interrupts_not_for_children():
            return self._or_died(self._executor.submit, task, item)

    def result(self, future: "Future[Result]") -> Result:
        """Waits for the result of a task; what it raises is passed on."""
        return self._or_died(future.result)

    def _or_died(self, function: Callable, *arguments: object):
        try:
            return function(*arguments)
        except BrokenProcessPool:
            raise self._died from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            self._executor.shutdown(cancel_futures=True)
        self._lifeline.close()  # ends what still works on something that nobody waits for
        self._executor.shutdown(cancel_futures=True)


class Pool:
    """Processes to be used as a context manager. ``workers`` 1 is none: the work is done in this process."""

    def __init__(self, workers: int):
        self._processes = Processes(workers, DataError(DIED.format(""))) if workers > 1 else None

    def map(self, task: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """``task`` of every item, in order, a few ahead of the reader. Both must pickle, and the results.

        Raises:
          DataError: a process died. What ``task`` raises is passed on.
        """
        if self._processes is None:
            yield from map(task, items)
            return
        items, coming = iter(items), deque()
        try:
            while True:
                for item in items:
                    coming.append(self._processes.submit(task, item))
                    if len(coming) >= self._processes.ahead:
                        break
                if not coming:
                    return
                yield self._processes.result(coming.popleft())
        finally:
            for future in coming:
                future.cancel()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *error) -> None:
        if self._processes is not None:
            self._processes.__exit__(*error)


@contextlib.contextmanager
def interrupts_not_for_children() -> Iterator[None]:
    """A process that is started meanwhile inherits what is blocked: an interrupt does not reach it, not even while it loads."""
    resource_tracker.ensure_running()  # the first process that is spawned starts it, which unblocks interrupts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with(lifeline: Connection | int) -> None:
    """Ends this process when the other end of a pipe is closed, which the system does for a process that died."""

    def wait_and_end() -> None:
        wait([lifeline])
        os._exit(1)

    threading.Thread(target=wait_and_end, daemon=True).start()


def _begin(lifeline: Connection, prepare: Callable[[], None] | None) -> None:
    """What a process does first."""
    end_with(lifeline)
    if prepare is not None:
        prepare()
