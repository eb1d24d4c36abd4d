"""The shards of some jobs dealt to processes of this host, with one progress bar over all of them.

Other hosts may encode shards of the same jobs at the same time. What one of them is encoding is left to it, and waited for
at the end: a process that dies gives its shard back.
"""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any

import jax
from tqdm import tqdm

from data_prep.common.pool import end_with, interrupts_not_for_children
from data_prep.latents.job import Job, encode_shard
from data_prep.recordings.recording import BadRecording
from rad_jax.data import DataError
from rad_jax.data.progress import finished_shards
from rad_jax.errors import UserError
from rad_jax.tokenizer import TokenizerError
from rad_jax.weights.tensors import WeightsError

Task = tuple[int, int, bool]
"""(job, shard, whether to wait for another process that encodes it)"""

Report = Callable[[int, int, int, int], None]
"""Called as (job, shard, its episodes that are encoded, frames encoded since the last call)."""


EXPECTED_ERRORS = (DataError, TokenizerError, WeightsError, BadRecording, OSError)
"""What encoding raises for reasons that a line can tell."""


class WorkerDied(UserError, RuntimeError):
    """A process ended that nobody asked to."""


def encode_shards(jobs: Sequence[Job], shares: Sequence[range], workers: int) -> None:
    """Encodes shards of splits that were begun; returns when all of these are finished.

    Args:
      jobs: the splits.
      shares: of each, the numbers of the shards that are to be encoded here.
      workers: processes; with 1 it is this one.

    Raises:
      DataError and the others of `EXPECTED_ERRORS`: see `encode_shard`; what is finished stays.
      WorkerDied: naming the signal or status by which a process ended.
    """
    unfinished = sum(len(set(share) - finished_shards(job.plan)) for job, share in zip(jobs, shares))
    workers = min(workers, unfinished)
    with (
        closing(_Bar(jobs)) as bar,
        closing(_Processes(jobs, workers) if workers > 1 else _ThisProcess(jobs)) as pool,
    ):
        for late in (False, True):
            tasks = [
                (index, number, late)
                for index, (job, share) in enumerate(zip(jobs, shares))
                for number in sorted(set(share) - finished_shards(job.plan))
            ]
            pool.run(tasks, bar)


def local_devices(worker: int, workers: int) -> list[Any]:
    """The devices of one of several processes of this host: its share of them, or one that it shares with others."""
    devices = jax.local_devices()
    return devices[worker::workers] or [devices[worker % len(devices)]]


class _Encoder:
    """Does tasks; loads a tokenizer when it is first needed."""

    def __init__(self, jobs: Sequence[Job], worker: int, workers: int):
        self._jobs, self._tokenizers = jobs, {}
        self._devices = local_devices(worker, workers)

    def __call__(self, task: Task, report: Report) -> None:
        index, number, late = task
        job = self._jobs[index]
        with jax.default_device(self._devices[0]):
            if job.tokenizer not in self._tokenizers:
                self._tokenizers[job.tokenizer] = job.tokenizer.load()
            tokenizer = self._tokenizers[job.tokenizer]
            encode_shard(job, number, tokenizer, self._devices, wait=late, report=partial(report, index))


class _ThisProcess:
    def __init__(self, jobs: Sequence[Job]):
        self._encode = _Encoder(jobs, 0, 1)

    def run(self, tasks: Sequence[Task], report: Report) -> None:
        """Does all tasks."""
        for task in tasks:
            self._encode(task, report)

    def close(self) -> None:
        """Nothing is held."""


class _Processes:
    """Processes that are given a task when they have done one. Each has a connection of its own, which ends with it."""

    def __init__(self, jobs: Sequence[Job], workers: int):
        context = multiprocessing.get_context("spawn")  # a fork would copy JAX without its threads
        self._processes: dict[Connection, Any] = {}
        for worker in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, jobs, worker, workers), daemon=True)
            with interrupts_not_for_children():
                process.start()
            theirs.close()
            self._processes[ours] = process

    def run(self, tasks: Sequence[Task], report: Report) -> None:
        """Does all tasks."""
        waiting, idle = list(reversed(tasks)), list(self._processes)
        while waiting or len(idle) < len(self._processes):
            while waiting and idle:
                self._send(idle.pop(), waiting.pop())
            for connection in wait(list(self._processes)):
                message = self._receive(connection)
                if message is None:
                    idle.append(connection)
                elif isinstance(message, Exception):
                    raise message
                else:
                    report(*message)

    def _receive(self, connection: Connection) -> tuple[int, int, int, int] | Exception | None:
        try:
            return connection.recv()
        except (EOFError, ConnectionResetError):
            raise self._died(connection) from None

    def _send(self, connection: Connection, task: Task) -> None:
        try:
            connection.send(task)
        except (BrokenPipeError, ConnectionResetError):
            raise self._died(connection) from None

    def _died(self, connection: Connection) -> WorkerDied:
        process = self._processes[connection]
        process.join()
        code = process.exitcode
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        return WorkerDied(f"process {process.pid} {how}; the same command continues")

    def close(self) -> None:
        """Ends the processes."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.join()


def _work(connection: Connection, jobs: Sequence[Job], worker: int, workers: int) -> None:
    """Does what it is sent. Answers with progress, and at the end with None or the error."""
    end_with(
        multiprocessing.parent_process().sentinel
    )  # a parent that was killed leaves nobody who holds shards
    encode = _Encoder(jobs, worker, workers)
    while True:
        task = connection.recv()
        try:
            encode(task, lambda *progress: connection.send(progress))
        except EXPECTED_ERRORS as error:
            connection.send(DataError(str(error)))  # of a type that survives the way
        else:
            connection.send(None)


class _Bar:
    """Episodes that are encoded, here or on other hosts, and frames per second here."""

    def __init__(self, jobs: Sequence[Job]):
        self._jobs, self._encoded, self._frames = jobs, {}, 0
        self._begin = self._looked = time.monotonic()
        total = sum(job.plan.num_episodes for job in jobs)
        # Episodes of an earlier run do not count for the rate.
        self._bar = tqdm(total=total, initial=self._episodes(), unit="episode", smoothing=0, mininterval=0.5)

    def __call__(self, job: int, shard: int, episodes: int, frames: int) -> None:
        self._encoded[job, shard] = episodes
        self._frames += frames
        if time.monotonic() - self._looked > 0.5:
            self._show()

    def _show(self) -> None:
        self._looked = time.monotonic()
        rate = self._frames / (self._looked - self._begin)
        self._bar.set_postfix_str(f"{rate:.0f} frames/s here", refresh=False)
        self._bar.update(self._episodes() - self._bar.n)

    def _episodes(self) -> int:
        encoded = 0
        for index, job in enumerate(self._jobs):
            finished = finished_shards(job.plan)
            encoded += sum(len(job.plan.episodes(number)) for number in finished)
            encoded += sum(
                n for (i, shard), n in self._encoded.items() if i == index and shard not in finished
            )
        return encoded

    def close(self) -> None:
        self._show()
        self._bar.close()
