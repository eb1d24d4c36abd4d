"""Work for several processes, with results in order.

The processes are spawned, not forked, because neither threads nor OpenGL nor JAX survive a fork. An interrupt reaches only this
process, which ends the others; they also end when this process is killed.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import TypeVar

from rad_jax.data import DataError

Item, Result = TypeVar("Item"), TypeVar("Result")

_AHEAD = 2  # results per process that may wait for the reader, which bounds the memory they take


class Pool(AbstractContextManager):
    """So many processes; a single one is this process itself. Leaving it with an error ends what still runs."""

    def __init__(self, workers: int):
        self._ahead = _AHEAD * workers
        self._executor = None
        if workers > 1:
            context = multiprocessing.get_context("spawn")
            receiving, self._lifeline = context.Pipe(duplex=False)
            self._executor = ProcessPoolExecutor(workers, context, _end_with_owner, (receiving,))

    def map(self, task: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Yields `task` of every item, in order. See `lookahead`."""
        return self.lookahead(task, items)(range(len(items)))

    def lookahead(
        self, task: Callable[[Item], Result], items: Sequence[Item]
    ) -> Callable[[range], Iterator[Result]]:
        """Returns a function that yields the results of a range of positions in `items`, in order.

        Meanwhile the next items are begun, also those after the end of the range, so that no process idles between two ranges.
        Task, items and results must pickle.

        Raises:
          DataError: while iterating, if a process died. An error of `task` is raised at its position.
        """
        if self._executor is None:
            return lambda positions: (task(items[position]) for position in positions)
        begun: dict[int, Future[Result]] = {}

        def results(positions: range) -> Iterator[Result]:
            try:
                for position in positions:
                    for later in range(position, min(position + self._ahead, len(items))):
                        if later not in begun:
                            begun[later] = self._submit(task, items[later])
                    yield begun.pop(position).result()
            except BaseException as error:
                for future in begun.values():
                    future.cancel()
                begun.clear()
                if isinstance(error, BrokenProcessPool):
                    raise DataError(
                        "a worker process died, most likely for want of memory: use fewer --workers; "
                        "finished work is kept"
                    ) from None
                raise

        return results

    def _submit(self, task: Callable[[Item], Result], item: Item) -> "Future[Result]":
        # Processes that this starts inherit the blocked signal: an interrupt never reaches them, not even as they load.
        resource_tracker.ensure_running()  # the first spawned process would start it, which unblocks interrupts
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return self._executor.submit(task, item)
        except OSError as error:  # a process died while another one was starting
            raise BrokenProcessPool from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._executor is None:
            return
        if kind is None:
            self._executor.shutdown(cancel_futures=True)
        self._lifeline.close()  # ends tasks whose results nobody waits for
        self._executor.shutdown(cancel_futures=True)


def _end_with_owner(lifeline: Connection) -> None:
    """Runs first in a new process. The other end of the lifeline closes when the pool is left, or its process dies."""

    def end() -> None:
        wait([lifeline])
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
