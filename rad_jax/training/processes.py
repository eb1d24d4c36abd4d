"""Several processes that are one run: when one of them fails or dies, the others end too and say which one and why.

Processes that wait for another one in a collective cannot notice by themselves that it will not come. So each has a
thread that writes a sign of life to the coordinator (which process 0 hosts) every second, and reads what ended the run.
"""

import contextlib
import ctypes
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
from typing import NoReturn

import jax
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from rad_jax.config import ConfigError
from rad_jax.errors import Stopped, UserError, explain

INTERVAL = 1.0
"""Seconds between signs of life."""
LOST = 20.0
"""Seconds without one after which a process counts as dead. JAX's own limit, 100 s, ends with a C++ stack instead."""
FAREWELL = 5.0
"""Seconds that process 0 stays for the others to read why the run ends."""
ENDED, ALIVE, READ = "rad_jax/ended/", "rad_jax/alive/", "rad_jax/read/"
COORDINATOR_LOST = re.compile(r"[EF]\d{4} .*(coordination_service|client\.h)")


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


class _Watch:
    def __init__(self) -> None:
        self._client = multihost.get_jax_distributed_client()
        self._rank, self._count = jax.process_index(), jax.process_count()
        self._last_seen: dict[str, tuple[str, float]] = {}
        self._closed = threading.Event()
        self._ending = threading.Lock()
        # The C++ client aborts as soon as process 0 is gone. Its thread sleeps for SIGABRT seconds (6) before it does, in
        # which this one says why; what it prints is held back.
        library = ctypes.CDLL(None)
        library.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
        library.signal(signal.SIGABRT, ctypes.cast(library.sleep, ctypes.c_void_p))
        sys.stderr.flush()
        self._stderr = os.dup(2)
        source, target = os.pipe()
        os.dup2(target, 2)
        os.close(target)
        self._relay = threading.Thread(target=_relay, args=(source, self._stderr), daemon=True)
        self._relay.start()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leaves when all processes have come here."""
        multihost_utils.sync_global_devices("rad_jax: the run is complete")
        self._closed.set()
        self._thread.join()
        sys.stderr.flush()
        os.dup2(self._stderr, 2)
        self._relay.join()

    def fail(self, error: BaseException) -> NoReturn:
        """Ends all processes because of an error in this one."""
        ending = explain(error)
        if ending is None and isinstance(error, (RuntimeError, ValueError)):
            # Most likely a collective that broke because another process died: then the watch ends this one.
            time.sleep(LOST + 3 * INTERVAL)
        status, line = ending or (UserError.status, "".join(traceback.format_exception(error)).rstrip())
        reason = line if ending else f"{type(error).__name__}: {error}"
        self._announce(status, f"process {self._rank}: {reason.removeprefix(UserError.prefix)}")
        self._end(status, line)

    def _run(self) -> None:
        beats = 0
        while not self._closed.wait(INTERVAL):
            beats += 1
            try:
                self._client.key_value_set(
                    f"{ALIVE}{self._rank}", f"{socket.gethostname()} {beats}", allow_overwrite=True
                )
                ended = self._client.key_value_dir_get(ENDED)
                if not ended and self._rank == 0:
                    self._look_for_lost(self._client.key_value_dir_get(ALIVE))
            except jax.errors.JaxRuntimeError:
                self._end(UserError.status, f"{UserError.prefix}process 0 of {self._count} has died")
            if ended:
                self._end(*json.loads(ended[0][1]))

    def _look_for_lost(self, signs: list[tuple[str, str]]) -> None:
        now = time.monotonic()
        for name, sign in signs:
            if self._last_seen.get(name, ("", 0.0))[0] != sign:
                self._last_seen[name] = sign, now
            elif now - self._last_seen[name][1] > LOST:
                host, rank = sign.split()[0], name.rsplit("/", 1)[1]
                line = (
                    f"process {rank} of {self._count}, on {host}, has died (no sign of life for {LOST:.0f} s)"
                )
                self._announce(UserError.status, line)
                self._end(UserError.status, f"{UserError.prefix}{line}")

    def _announce(self, status: int, line: str) -> None:
        with contextlib.suppress(
            jax.errors.JaxRuntimeError
        ):  # another process was first, or process 0 is gone
            self._client.key_value_set(f"{ENDED}first", json.dumps([status, f"{UserError.prefix}{line}"]))

    def _end(self, status: int, line: str) -> NoReturn:
        self._ending.acquire()  # never released: of both threads only the first ends the process
        os.write(self._stderr, f"{line}\n".encode())
        with contextlib.suppress(jax.errors.JaxRuntimeError, OSError):
            self._client.key_value_set(f"{READ}{self._rank}", "", allow_overwrite=True)
            deadline = time.monotonic() + FAREWELL
            while self._rank == 0 and time.monotonic() < deadline:
                if len(self._client.key_value_dir_get(READ)) == self._count:
                    break
                time.sleep(0.05)
            sys.stdout.flush()
        os._exit(status)  # not sys.exit: JAX would wait at its exit for processes that are in a collective


def _relay(source: int, target: int) -> None:
    """Copies what is printed to the standard error, up to the C++ client's report that the coordinator is lost."""
    lost = False
    with open(source, "rb") as lines:
        for line in lines:
            lost = lost or COORDINATOR_LOST.match(line.decode(errors="replace")) is not None
            if not lost:
                os.write(target, line)
