"""Runs commands side by side: a queue of jobs over slots, each slot with its share of the cores.

A job is a chain of commands, one after another. Their lines are printed as they come, prefixed with the name of the job. No
process outlives the block that started it, unless that block is killed (SIGKILL): then it ends when it fails to print its
next line.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType

from rad_jax.errors import UserError

PATIENCE = 60.0  # seconds in which a process can save its work before it is killed
LAST_LINES = 12


@dataclass(frozen=True)
class Command:
    """A command line.

    Attributes:
        what: a word for what it does ("training").
        argv: program and arguments.
        environment: variables that are set for it unless they are set already.
    """

    what: str
    argv: Sequence[str]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Job:
    """Commands that run one after another."""

    name: str
    commands: Sequence[Command]


class JobFailed(UserError, RuntimeError):
    """Commands ended with a nonzero status; the message has the names of their jobs and their last lines."""


def run_jobs(jobs: Sequence[Job], slots: int) -> None:
    """Runs all jobs, ``slots`` of them at a time, each on its share of the cores. Prints when a command starts and ends.

    Once a command has failed nothing more is started, but the commands that are running finish.

    Raises:
      JobFailed: names what failed. An interrupt asks all running commands to end, and goes on.
    """
    width = max((len(job.name) for job in jobs), default=0)
    waiting = deque(
        _Chain(f"[{n}/{len(jobs)}]", job, f"{job.name:>{width}} | ") for n, job in enumerate(jobs, 1)
    )
    busy: dict[int, _Chain] = {}
    failures: list[str] = []
    try:
        while busy or (waiting and not failures):
            for slot in range(slots):
                if waiting and slot not in busy and not failures:
                    busy[slot] = waiting.popleft()
                    busy[slot].start(share_of_cores(slot, slots))
            time.sleep(0.1)
            for slot, chain in list(busy.items()):
                if chain.process.poll() is None:
                    continue
                if failure := chain.end():
                    failures.append(failure)
                if chain.left and not failures:
                    chain.start(share_of_cores(slot, slots))
                else:
                    del busy[slot]
    finally:
        for chain in busy.values():
            chain.ask_to_end()  # all are asked before any is waited for
        for chain in busy.values():
            chain.close()
    if failures:
        raise JobFailed("\n".join(failures))


class _Chain:
    """A job that has started: the running command, and those that are left."""

    def __init__(self, number: str, job: Job, prefix: str):
        self.number, self.name, self.prefix = number, job.name, prefix
        self.left = deque(job.commands)
        self.process: subprocess.Popen | None = None
        self._stack = contextlib.ExitStack()

    def start(self, cores: set[int]) -> None:
        """Starts the next command."""
        command = self.left.popleft()
        self._what, self._began, self._last = command.what, time.monotonic(), deque(maxlen=LAST_LINES)
        self.process = self._stack.enter_context(started(command, cores, self.prefix, self._last))
        print(f"{self.number} {self.name}: {self._what}", flush=True)

    def end(self) -> str:
        """Prints the remaining lines of a command that has ended; returns the error message if it failed, else ""."""
        self.close()
        took, status = f"{time.monotonic() - self._began:.0f} s", self.process.returncode
        print(
            f"{self.number} {self.name}: {self._what} {'FAILED' if status else 'done'} after {took}",
            flush=True,
        )
        last = "".join(f"\n    {line}" for line in self._last)
        return (
            f"{self.name}: {self._what} ended with status {status}; its last lines:{last}" if status else ""
        )

    def ask_to_end(self) -> None:
        """Terminates the running command without waiting for it."""
        if self.process is not None:
            self.process.terminate()

    def close(self) -> None:
        """Terminates the command if it is running, and returns once it has ended."""
        self._stack.close()


@contextlib.contextmanager
def started(command: Command, cores: set[int], prefix: str, last: deque[str]) -> Iterator[subprocess.Popen]:
    """Starts a process that does not outlive the block.

    Args:
      cores: it may run on; any if empty.
      prefix: printed in front of each of its lines.
      last: receives its lines.
    """
    # Processes that share an accelerator must not each reserve most of its memory.
    defaults = {"PYTHONUNBUFFERED": "1", "XLA_PYTHON_CLIENT_PREALLOCATE": "false", **command.environment}
    with subprocess.Popen(
        command.argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**defaults, **os.environ},
        start_new_session=True,  # else an interrupt from the keyboard would reach it twice, once through us
    ) as process:
        if cores:
            os.sched_setaffinity(process.pid, cores)
        printer = threading.Thread(target=_print_lines, args=(process.stdout, prefix, last))
        printer.start()
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
            printer.join()


@contextlib.contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Makes SIGTERM and SIGHUP raise KeyboardInterrupt, as SIGINT does, so that they too end the processes of the block."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    old = {ending: signal.signal(ending, interrupt) for ending in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for ending, handler in old.items():
            signal.signal(ending, handler)


def is_on_cpu() -> bool:
    """Whether JAX runs on the CPU.

    Asks another process, because an accelerator that this process had opened would be closed to the jobs.

    Raises:
      JobFailed: JAX does not start there.
    """
    code = "import jax; print(jax.default_backend())"
    probe = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if probe.returncode:
        last = (probe.stderr.strip().splitlines() or [""])[-1]
        raise JobFailed(f"JAX finds no device (status {probe.returncode}): {last}")
    return probe.stdout.split()[-1] == "cpu"


def places(jobs: int, on_cpu: bool) -> int:
    """How many of ``jobs`` to run at a time: one per core on a CPU, one on an accelerator.

    Two runs of one thread each get more done on two cores than two runs that compete for both.
    """
    return max(1, min(jobs, len(_cores()))) if on_cpu else 1


def share_of_cores(slot: int, slots: int) -> set[int]:
    """The cores of one of ``slots`` slots; empty if there are fewer cores than slots, or if they cannot be chosen here."""
    cores = _cores()
    size = len(cores) // slots
    return set(cores[slot * size : (slot + 1) * size])


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _print_lines(stream: Iterable[str], prefix: str, last: deque[str]) -> None:
    """Prints the lines of a stream as they come."""
    for line in stream:
        last.append(line.rstrip("\n"))
        print(prefix + line, end="", flush=True)
