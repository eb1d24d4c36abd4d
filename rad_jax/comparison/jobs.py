"""Commands side by side: a queue of jobs over slots, each slot with its share of the cores.

A job is a chain of commands, one after another. Lines are printed as they come, behind the name of their job. No process
outlives the block that started it, unless that block is killed (SIGKILL); then it ends by itself with the next line that it
cannot print any more.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rad_jax.errors import UserError

PATIENCE = 60.0  # seconds that a process is given to save its work before it is killed
LAST_LINES = 12


@dataclass(frozen=True)
class Command:
    """What is run, what it is for in a word ("training"), and variables for it where they are not set already."""

    what: str
    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """Commands that follow one another."""

    name: str
    commands: Sequence[Command]


class JobFailed(UserError, RuntimeError):
    """Commands ended with another status than 0; the message has their jobs' names and last lines."""


def run_jobs(
    jobs: Sequence[Job],
    slots: int,
    *,
    finish_others: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Runs all jobs, ``slots`` of them at a time, each on its share of the cores.

    Args:
      finish_others: what happens when a command fails: the commands that run are finished (True) or asked to end.
        Nothing more is started in either case.
      say: called with a line when a command begins or has ended.

    Raises:
      JobFailed: naming what failed. An interrupt asks all commands that run to end, and goes on.
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
                    say(busy[slot].start(share_of_cores(slot, slots)))
            time.sleep(0.1)
            for slot, chain in list(busy.items()):
                if chain.process.poll() is None:
                    continue
                failure = chain.end()
                say(chain.report)
                if failure:
                    failures.append(failure)
                    if not finish_others:
                        raise JobFailed(failure)
                if chain.left and not failures:
                    say(chain.start(share_of_cores(slot, slots)))
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
    """A job on its way: the command that runs, and those that are left."""

    def __init__(self, number: str, job: Job, prefix: str):
        self.number, self.name, self.prefix = number, job.name, prefix
        self.left = deque(job.commands)
        self.report = ""
        self.process: subprocess.Popen | None = None
        self._stack = contextlib.ExitStack()

    def start(self, cores: set[int]) -> str:
        """Starts the next command and says so."""
        command = self.left.popleft()
        self._what, self._began, self._last = command.what, time.monotonic(), deque(maxlen=LAST_LINES)
        self.process = self._stack.enter_context(started(command, cores, self.prefix, self._last))
        return f"{self.number} {self.name}: {self._what}"

    def end(self) -> str:
        """Prints what is left of the lines of a command that has ended; returns what is to be said if it failed."""
        self.close()
        took, status = f"{time.monotonic() - self._began:.0f} s", self.process.returncode
        self.report = f"{self.number} {self.name}: {self._what} {'FAILED' if status else 'done'} after {took}"
        last = "".join(f"\n    {line}" for line in self._last)
        return (
            f"{self.name}: {self._what} ended with status {status}; its last lines:{last}" if status else ""
        )

    def ask_to_end(self) -> None:
        if self.process is not None:
            self.process.terminate()

    def close(self) -> None:
        """Returns when the command has ended; it is asked to if it runs."""
        self._stack.close()


@contextlib.contextmanager
def started(command: Command, cores: set[int], prefix: str, last: deque):
    """A running process whose lines are printed behind a prefix, and the last of them kept; it does not outlive the block."""
    # Processes that share an accelerator must not each reserve most of its memory.
    defaults = {"PYTHONUNBUFFERED": "1", "XLA_PYTHON_CLIENT_PREALLOCATE": "false", **command.environment}
    with subprocess.Popen(
        command.argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**defaults, **os.environ},
        start_new_session=True,  # an interrupt from the keyboard reaches them through us, once
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
def interrupted_by_signals():
    """SIGTERM and SIGHUP raise KeyboardInterrupt inside, as SIGINT does, so that what runs is ended with the block."""

    def interrupt(number, _):
        raise KeyboardInterrupt

    old = {ending: signal.signal(ending, interrupt) for ending in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for ending, handler in old.items():
            signal.signal(ending, handler)


def is_on_cpu() -> bool:
    """Whether JAX would run on the CPU.

    Asks a process of its own, because an accelerator that this process had opened could not be used by another one.
    """
    code = "import jax; print(jax.default_backend())"
    backend = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return backend.stdout.strip() == "cpu"


def places(jobs: int, on_cpu: bool) -> int:
    """How many of ``jobs`` to run at a time: as many as there are cores on a CPU, one on an accelerator.

    On two cores, two runs of one thread each get more done than two that compete for both.
    """
    return max(1, min(jobs, len(_cores()))) if on_cpu else 1


def share_of_cores(number: int, parts: int) -> set[int]:
    """The cores of part ``number`` of ``parts``; none if they cannot be shared out evenly or chosen at all."""
    cores = _cores()
    size = len(cores) // parts
    return set(cores[number * size : (number + 1) * size])


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _print_lines(stream, prefix: str, last: deque) -> None:
    """Prints the lines of a stream as they come, each behind a prefix."""
    for line in stream:
        last.append(line.rstrip("\n"))
        print(prefix + line, end="", flush=True)
