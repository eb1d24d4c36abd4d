"""What ends a training before its last step: a signal (SIGTERM, SIGHUP, Ctrl-C), or numbers that are not finite."""

import contextlib
import os
import signal
import socket
import sys
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from rad_jax.errors import Stopped, UserError
from rad_jax.training import sharding


class NonFiniteLoss(UserError, RuntimeError):
    """Loss, gradient or new parameters are not finite; the state was not updated and nothing was saved."""


class StopSignals:
    """Notes SIGTERM, SIGHUP or SIGINT (``received``, else 0) and lets the step at hand end; a second SIGINT ends the process.

    A SIGHUP that is ignored, as by nohup, stays ignored.

    A thread reads the signals, because Python's own handlers have to wait until a step, or its compilation, is over.
    """

    def __enter__(self) -> "StopSignals":
        self.received = 0
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        endings = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            endings.append(signal.SIGHUP)
        self._handlers = {ending: signal.signal(ending, lambda *_: None) for ending in endings}
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def _read(self) -> None:
        for number in iter(lambda: int.from_bytes(self._reader.recv(1)), 0):
            if number == signal.SIGINT and self.received:
                os._exit(Stopped.status)
            if number in self._handlers and not self.received:
                self.received = number
                name = signal.Signals(number).name
                with contextlib.suppress(OSError):  # of a terminal that is gone
                    print(
                        f"{name}: saving after this step; Ctrl-C now ends at once",
                        file=sys.stderr,
                        flush=True,
                    )

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._writer.close()
        self._thread.join()
        self._reader.close()


class StopAgreement:
    """Makes all processes stop after the same step, whichever of them received a signal.

    With one process its own signal counts at once. With several, every step sends the signals of all to all on the devices,
    and the answer is read a step later, when it is there without waiting.
    """

    def __init__(self, mesh: Mesh):
        self._shape = (len(mesh.local_devices),)
        self._sharding = sharding.batch_sharding(mesh)
        self._largest = jax.jit(jnp.max, out_shardings=sharding.replicated(mesh))
        self._pending = None

    def agree(self, received: int) -> str:
        """The name of the signal for which all processes stop after this step, or "". Call it once a step in each."""
        if jax.process_count() > 1:
            mine = np.full(self._shape, received, np.int32)
            signals = jax.make_array_from_process_local_data(self._sharding, mine)
            pending, self._pending = self._pending, self._largest(signals)
            received = 0 if pending is None else int(pending)
        return signal.Signals(received).name if received else ""


def check_finite(step: int, metrics: dict[str, Any], clips: Any) -> None:
    """Raises `NonFiniteLoss` with what is known of a step whose loss, gradient or new parameters are not finite."""
    if not bool(metrics["finite"]):
        values = ", ".join(
            f"{name} {float(metrics[name])}" for name in ("loss", "grad_norm", "learning_rate")
        )
        raise NonFiniteLoss(
            f"step {step}: {values}: the loss, its gradient or the parameters it makes are not finite; nothing was saved "
            f"since the last checkpoint\nclips (episode, first frame): {np.asarray(clips).tolist()}"
        )
