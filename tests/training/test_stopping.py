"""Signals during a training: the first one lets the step end, a second Ctrl-C does not."""

import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from rad_jax.training.stopping import NonFiniteLoss, StopSignals, check_finite
from tests.toy_run import ROOT


def test_a_second_interrupt_ends_a_process_that_is_busy_outside_of_python():
    program = """
        import ctypes
        from rad_jax.training.stopping import StopSignals
        with StopSignals():
            print("ready", flush=True)
            while True:
                ctypes.CDLL(None).sleep(60)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stderr.readline().startswith("SIGTERM: ")
        process.send_signal(signal.SIGTERM)  # schedulers repeat it; the step still ends
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=120)[1] == ""
        assert process.returncode == 130
    finally:
        process.kill()


def test_a_terminal_that_is_closed_stops_a_run_unless_it_is_to_go_on():
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests may run under nohup themselves
    try:
        with StopSignals() as signals:
            signal.raise_signal(signal.SIGHUP)
            deadline = time.monotonic() + 60
            while not signals.received:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            assert signals.received == signal.SIGHUP
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
        with StopSignals() as signals:
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_put_back():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    with StopSignals() as signals:
        assert signals.received == 0
    assert {number: signal.getsignal(number) for number in before} == before


def test_parameters_that_are_not_finite_are_told_from_the_loss():
    metrics = {"finite": np.bool_(False), "loss": 0.5, "grad_norm": 1.0, "learning_rate": np.inf}
    with pytest.raises(NonFiniteLoss, match=r"step 3: loss 0.5, grad_norm 1.0, learning_rate inf"):
        check_finite(3, metrics, [[0, 1]])
