"""Several processes that are one run: when one of them fails or dies, the others end too and say which one and why.

A process that waits for another one in a collective cannot notice by itself that it will not come. So each has a thread
that every second writes a sign of life to the coordinator (which process 0 hosts) and asks it whether the run has ended.
"""

import contextlib
import ctypes
import dataclasses
import json
import os
import re
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import jax
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from rad_jax.config import ConfigError, flatten
from rad_jax.config.messages import show_value
from rad_jax.errors import Stopped, UserError, explain
from rad_jax.odometry import Odometry
from rad_jax.runs.stored_config import PATHS
from rad_jax.runs.trained_on import digest_of
from rad_jax.runs.training_run import TrainingRun

INTERVAL = 1.0
"""Seconds between signs of life."""
LOST = 20.0
"""Seconds without one after which a process counts as dead. JAX's own limit, 100 s, ends with a C++ stack instead."""
LOST_IF_BROKEN = 5.0
"""The same once a collective has broken, which most likely means that a process has died."""
DATA = 24 * 3600.0
"""Seconds at most in which process 0 opens its data, which it may have to make."""
FAREWELL = 10.0
"""Seconds at most that a process stays to tell the others why the run ends, and process 0 for them to read it."""
ENDED, ALIVE, READ, FACTS = "rad_jax/ended/", "rad_jax/alive/", "rad_jax/read/", "rad_jax/facts"
ODOMETRY = "rad_jax/odometry"
COORDINATOR_LOST = re.compile(rb"[EF]\d{4} .*(coordination_service|client\.h)")


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Connects this process with the others of its run, for the time of the context.

    A `Stopped` passes: all processes raise it after the same step. Any other exception ends all processes with its message
    and status at once, without waiting for those that are in a collective.

    Raises:
      ConfigError: no launcher has started this process, or the others cannot be reached.
    """
    # Its handler of SIGTERM would be a second one beside those of `rad_jax.training.stopping`.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize()
    except (ValueError, KeyError) as error:
        raise ConfigError(
            f"--distributed: found no launcher ({error}); expected Slurm, Open MPI, Kubernetes or Cloud TPU; "
            "leave it out for a run of one process"
        ) from None
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--distributed: cannot reach the other processes: {reason}") from None
    watch = _Watch()
    try:
        yield
    except Stopped:
        watch.close()
        raise
    except BaseException as error:
        watch.fail(error)
    watch.close()


def check_same(run: TrainingRun, workdir: Path, profile: int | None) -> None:
    """Compares what decides a run with what process 0 has. With one process it does nothing.

    Processes of different settings would wait for each other for ever, or train on batches that nobody asked for. Data and
    tokenizer are compared by their content: they may lie elsewhere on every host.

    Raises:
      ConfigError: a value differs; the first one is named.
    """
    if jax.process_count() == 1:
        return
    facts = {key: show_value(value) for key, value in flatten(run.config).items() if key not in PATHS}
    content = {"data.path": digest_of(run.episodes), "tokenizer.path": run.tokenizer.fingerprint}
    facts |= {**content, "--workdir": str(workdir.absolute()), "--profile": str(profile)}
    client = multihost.get_jax_distributed_client()
    if jax.process_index() == 0:
        client.key_value_set(FACTS, json.dumps(facts))
    first = json.loads(client.blocking_key_value_get(FACTS, int(1000 * DATA)))
    for name, value in facts.items():
        if value != first[name]:
            other = f"{name}={value}: process 0 has {first[name]}"
            if name in content:
                other = f"{name}: process 0 reads something else there"
            raise ConfigError(f"{other}; start every process with the same command and the same data")
    client.wait_at_barrier(f"{FACTS}/compared", int(1000 * DATA))  # nobody writes before all agree


def of_process_0(odometry: Odometry | None) -> Odometry | None:
    """The odometry of process 0, for all: the last bits of a fit are those of a machine. With one process it is its own."""
    if odometry is None or jax.process_count() == 1:
        return odometry
    client = multihost.get_jax_distributed_client()
    if jax.process_index() == 0:
        client.key_value_set(ODOMETRY, json.dumps(dataclasses.asdict(odometry)))
    return Odometry.parse(json.loads(client.blocking_key_value_get(ODOMETRY, int(1000 * DATA))))


class SignsOfLife:
    """The signs that processes have given and when each last changed; from ``now`` on (in seconds) all of them owe one."""

    def __init__(self, count: int, now: float):
        self._last = dict.fromkeys(range(count), ("", now))

    def lost(self, signs: dict[int, str], now: float, limit: float) -> int | None:
        """The rank of a process whose sign has not changed for longer than ``limit`` seconds, if there is one."""
        for rank, sign in signs.items():
            if self._last[rank][0] != sign:
                self._last[rank] = sign, now
        return next((rank for rank, (_, since) in self._last.items() if now - since > limit), None)


class _Watch:
    def __init__(self) -> None:
        self._client = multihost.get_jax_distributed_client()
        self._rank, self._count = jax.process_index(), jax.process_count()
        self._signs = SignsOfLife(self._count, time.monotonic())
        self._limit = LOST
        self._closed = threading.Event()
        self._ending = threading.Lock()
        # The C++ client reports that process 0 is gone, with a stack, and aborts. `_copy_stderr` reads the report instead of
        # the user; until it has ended this process, `sleep` delays the abort, by the signal's number in seconds (6).
        library = ctypes.CDLL(None)
        library.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
        library.signal(signal.SIGABRT, ctypes.cast(library.sleep, ctypes.c_void_p))
        sys.stderr.flush()
        self._stderr = os.dup(2)
        source, target = os.pipe()
        os.dup2(target, 2)
        os.close(target)
        self._relay = threading.Thread(target=self._copy_stderr, args=(source,), daemon=True)
        self._relay.start()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leaves when all processes have come here."""
        multihost_utils.sync_global_devices("rad_jax: the run is complete")
        self._closed.set()
        self._thread.join()
        self._give_back_stderr()

    def fail(self, error: BaseException) -> NoReturn:
        """Ends all processes because of an error in this one."""
        ending = explain(error)
        if ending is None and isinstance(error, (RuntimeError, ValueError)):
            # Most likely a collective that broke because another process died: then the watch ends this one.
            self._limit = LOST_IF_BROKEN
            time.sleep(LOST + 3 * INTERVAL)  # process 0 may not have noticed
        status, line = ending or (UserError.status, "".join(traceback.format_exception(error)).rstrip())
        reason = line if ending else f"{type(error).__name__}: {error}"
        self._end(status, line, f"process {self._rank}: {reason.removeprefix(UserError.prefix)}")

    def _watch(self) -> None:
        """Ends this process when another one has announced the end of the run, has died, or process 0 is gone."""
        beats = 0
        while not self._closed.wait(INTERVAL):
            beats += 1
            sign = f"{socket.gethostname()} {beats}"
            try:
                self._client.key_value_set(f"{ALIVE}{self._rank}", sign, allow_overwrite=True)
                for _, ended in self._client.key_value_dir_get(ENDED):
                    self._end(*json.loads(ended))
                if self._rank == 0:
                    self._look_for_lost()
            except jax.errors.JaxRuntimeError:
                if not self._closed.is_set():
                    self._end_without_process_0()

    def _look_for_lost(self) -> None:
        signs = {int(name.rsplit("/", 1)[1]): sign for name, sign in self._client.key_value_dir_get(ALIVE)}
        rank = self._signs.lost(signs, time.monotonic(), self._limit)
        if rank is not None:
            host = f", on {signs[rank].split()[0]}," if rank in signs else ""
            line = f"process {rank} of {self._count}{host} has died (no sign of life for {self._limit:.0f} s)"
            self._end(UserError.status, f"{UserError.prefix}{line}", line, readers=self._count - 1)

    def _copy_stderr(self, source: int) -> None:
        """Copies what is written to the standard error, until it is the C++ client's report that process 0 is gone."""
        with open(source, "rb") as lines:
            for line in lines:
                if self._rank and COORDINATOR_LOST.match(line):
                    self._end_without_process_0()
                os.write(self._stderr, line)

    def _give_back_stderr(self) -> None:
        sys.stderr.flush()
        os.dup2(self._stderr, 2)
        self._relay.join(INTERVAL)  # until it has copied the rest

    def _end_without_process_0(self) -> NoReturn:
        self._ending.acquire()
        os.write(self._stderr, f"{UserError.prefix}process 0 of {self._count} has died\n".encode())
        os._exit(UserError.status)

    def _end(
        self, status: int, line: str, for_others: str | None = None, readers: int | None = None
    ) -> NoReturn:
        """Prints why the run ends, tells the others (None: they were told), and ends this process.

        Process 0 waits for as many ``readers``, itself among them (None: all processes).
        """
        self._ending.acquire()  # never released: the first thread that comes here ends the process
        os.write(2, f"{line}\n".encode())
        # In a thread: without process 0, a call to the coordinator would be tried again for minutes.
        farewell = threading.Thread(
            target=self._say_farewell, args=(status, for_others, readers or self._count), daemon=True
        )
        farewell.start()
        farewell.join(FAREWELL)
        sys.stdout.flush()
        self._give_back_stderr()
        os._exit(status)  # not sys.exit: JAX would wait at its exit for processes that are in a collective

    def _say_farewell(self, status: int, for_others: str | None, readers: int) -> None:
        # Suppressed: another process announced the end first, or process 0 is gone.
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            if for_others is not None:
                self._client.key_value_set(
                    f"{ENDED}first", json.dumps([status, f"{UserError.prefix}{for_others}"])
                )
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._client.key_value_set(f"{READ}{self._rank}", "", allow_overwrite=True)
            while self._rank == 0 and len(self._client.key_value_dir_get(READ)) < readers:
                time.sleep(0.05)
