"""Runs commands side by side: a queue of jobs, and slots that work on it, each with its share of the cores.

A job is a chain of commands, one after another. Their lines are printed as they come, prefixed with the name of the job. No
process outlives `run_jobs`, unless that is killed (SIGKILL): then it ends when it fails to print its next line.
"""

import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from rad_jax.errors import UserError, interrupted_by_signals

PATIENCE = 60.0  # seconds in which a process can save its work before it is killed
LAST_LINES = 12


# By name of a job its commands, which run one after another: a word for what each does ("training"), program and arguments.
Jobs = Mapping[str, Mapping[str, Sequence[str]]]


class JobFailed(UserError, RuntimeError):
    """Commands ended with a nonzero status; the message has the names of their jobs and their last lines."""


def run_jobs(jobs: Jobs, slots: int, environment: Mapping[str, str]) -> None:
    """Runs all jobs, ``slots`` of them at a time, each on its share of the cores. Prints when a command starts and ends.

    Once a command has failed nothing more is started, but the commands that are running finish. SIGINT, SIGTERM and SIGHUP
    ask all running commands to end; then they raise KeyboardInterrupt.

    Args:
      environment: variables that are set for the commands unless they are set already.

    Raises:
      JobFailed: names what failed.
    """
    runner = _Runner(slots, environment)
    width = max(map(len, jobs), default=0)
    with interrupted_by_signals(), ThreadPoolExecutor(slots) as pool:
        futures = [
            pool.submit(runner.run, name, commands, f"[{number}/{len(jobs)}]", f"{name:>{width}} | ")
            for number, (name, commands) in enumerate(jobs.items(), 1)
        ]
        try:
            for future in futures:
                future.result()
        except BaseException:
            runner.end()
            raise
    if runner.failures:
        raise JobFailed("\n".join(runner.failures))


class _Runner:
    """What the threads that run jobs share: the slots, the running processes, and whether to start another."""

    def __init__(self, slots: int, environment: Mapping[str, str]):
        self.failures: list[str] = []
        # Processes that share an accelerator must not each reserve most of its memory.
        defaults = {"PYTHONUNBUFFERED": "1", "XLA_PYTHON_CLIENT_PREALLOCATE": "false", **environment}
        self._options = {
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "text": True,
            "errors": "replace",
            "env": {**defaults, **os.environ},
            "start_new_session": True,  # else an interrupt from the keyboard would reach it twice, once through us
        }
        self._free: SimpleQueue[set[int]] = SimpleQueue()
        for slot in range(slots):
            self._free.put(share_of_cores(slot, slots))
        self._running: set[subprocess.Popen] = set()
        self._stopped = False
        self._ending = False
        self._lock = threading.Lock()  # of those above: nothing starts once the processes were asked to end

    def run(self, name: str, commands: Mapping[str, Sequence[str]], number: str, prefix: str) -> None:
        """Runs the commands of a job on the cores of a free slot, unless one of any job fails."""
        cores = self._free.get()
        try:
            for what, command in commands.items():
                with self._lock:
                    if self._stopped:
                        return
                    process = subprocess.Popen(command, **self._options)
                    if cores:
                        os.sched_setaffinity(process.pid, cores)
                    self._running.add(process)
                failure = self._follow(process, f"{number} {name}: {what}", prefix)
                with self._lock:
                    self._running.remove(process)
                    self._stopped = self._stopped or bool(failure)
                if failure:
                    self.failures.append(f"{name}: {what} {failure}")
        finally:
            self._free.put(cores)

    def end(self) -> None:
        """Asks all processes to end, and kills those that have not done so after `PATIENCE` or a second interrupt."""
        with self._lock:
            self._stopped = self._ending = True
            processes = list(self._running)
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + PATIENCE
        for process in processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                process.kill()

    def _follow(self, process: subprocess.Popen, label: str, prefix: str) -> str:
        """Prints the lines of a process until it ends; returns how it failed, or nothing if it did not or was asked to end."""
        began, last = time.monotonic(), deque(maxlen=LAST_LINES)
        print(label, flush=True)
        with process:
            for line in process.stdout:
                last.append(line.rstrip("\n"))
                print(prefix + line, end="", flush=True)
        status = process.returncode
        how = "done" if not status else "stopped" if self._ending else "FAILED"
        print(f"{label} {how} after {time.monotonic() - began:.0f} s", flush=True)
        lines = "".join(f"\n    {line}" for line in last)
        return f"ended with status {status}; its last lines:{lines}" if how == "FAILED" else ""


def find_devices() -> tuple[bool, int]:
    """Whether JAX runs on the CPU, and the number of its devices.

    Asks another process, because an accelerator that this process had opened would be closed to the jobs.

    Raises:
      JobFailed: JAX does not start there.
    """
    code = "import jax; print(jax.default_backend(), jax.device_count())"
    probe = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if probe.returncode:
        last = (probe.stderr.strip().splitlines() or [""])[-1]
        raise JobFailed(f"JAX finds no device (status {probe.returncode}): {last}")
    backend, count = probe.stdout.split()[-2:]
    return backend == "cpu", int(count)


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
