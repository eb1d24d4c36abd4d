"""Two processes that are one run, started as a launcher starts them: they stop, fail and die together."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import chex
import jax
import pytest

from rad_jax.odometry import Odometry
from rad_jax.runs.manifest import saved_steps
from rad_jax.runs.training_run import open_training_run
from rad_jax.training import processes
from rad_jax.training.processes import SignsOfLife, of_process_0
from tests.toy_run import ROOT, STEPS, read_metrics, read_state, wait_for

DEADLINE = 300  # seconds; nothing here takes as long, however busy the machine is


def start(first: list[str], second: list[str]) -> list[subprocess.Popen]:
    """Two processes, each with its arguments and one device, in the environment that Slurm gives."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    launcher = {
        "SLURM_JOB_ID": "1",
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_NTASKS": "2",
        "JAX_COORDINATOR_PORT": port,
        "JAX_COORDINATOR_BIND_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_CPU_DEVICES": "1",
    }
    return [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "rad_jax.main", "--distributed", *arguments],
            cwd=ROOT,
            env={**os.environ, **launcher, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, arguments in enumerate((first, second))
    ]


def end(processes: list[subprocess.Popen]) -> tuple[list[int], list[str]]:
    """Exit statuses and what was printed to standard error; processes that do not end are killed, and fail the test."""
    try:
        errors = [process.communicate(timeout=DEADLINE)[1] for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
    ours = ["".join(x for x in error.splitlines(True) if "[Gloo]" not in x) for error in errors]
    return [process.returncode for process in processes], ours


def lines(workdir: Path) -> int:
    path = workdir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture(scope="module")
def stopped(toy) -> tuple[Path, list[int], list[str]]:
    """A run of two processes, one of which gets SIGTERM: its directory, exit statuses and messages."""
    workdir = toy.directory / "two"
    processes = start(*[toy.arguments(workdir)] * 2)
    wait_for(processes[0], lambda: lines(workdir) > 0)
    processes[1].send_signal(signal.SIGTERM)
    return workdir, *end(processes)


def test_sigterm_to_one_process_stops_both_after_the_same_step_and_both_go_on(stopped, toy, tmp_path):
    """Two processes make the numbers of one, also when they were stopped meanwhile."""
    workdir, statuses, errors = stopped
    assert statuses == [130, 130], errors
    (newest,) = {int(re.search(r"stopped by SIGTERM after step (\d+)", error)[1]) for error in errors}
    assert newest == saved_steps(workdir / "checkpoints")[-1] < STEPS

    again = shutil.copytree(workdir, tmp_path / "run")
    statuses, errors = end(start(*[toy.arguments(again)] * 2))
    assert statuses == [0, 0], errors
    run = open_training_run(toy.config())
    (found, step), (expected, _) = read_state(again, run), read_state(toy.trained, run)
    assert step == STEPS
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-5)
    for line, alone in zip(read_metrics(again), read_metrics(toy.trained), strict=True):
        assert line == pytest.approx(alone, rel=1e-4)


@pytest.mark.parametrize(
    ("problem", "rank", "status"),
    [("damaged checkpoints", 0, 1), ("--config.nothing=1", 0, 2), ("--config.train.ema=0.5", 1, 2)],
)
def test_what_one_process_refuses_ends_both_with_its_message(problem, rank, status, stopped, toy, tmp_path):
    """Also while the other one waits in a collective, and when only their settings differ."""
    workdir = tmp_path / "run"
    if rank == 0:
        shutil.copytree(stopped[0], workdir)
    commands = [toy.arguments(workdir), toy.arguments(workdir)]
    if problem == "damaged checkpoints":
        for manifest in (workdir / "checkpoints").glob("*/manifest/manifest.json"):
            manifest.unlink()
    else:
        key = problem.split("=")[0]
        commands[rank] = [*(word for word in commands[rank] if not word.startswith(f"{key}=")), problem]
    statuses, errors = end(start(*commands))
    assert statuses == [status, status], errors
    messages = [error[error.index("error: ") :] for error in errors]
    message, told = messages[rank], messages[1 - rank]
    assert (
        told == message.replace("error: ", f"error: process {rank}: ", 1) and len(message.splitlines()) <= 2
    )
    if rank:
        assert message.startswith("error: train.ema=0.5: process 0 has 0.9; ") and not workdir.exists(), (
            message
        )


def test_when_one_process_is_killed_the_other_says_which(toy, tmp_path):
    """Process 0 of one run and process 1 of another, side by side: to notice takes a while.

    The model is small because processes other than 0 compile it every time: JAX keeps what process 0 compiles.
    """

    def kill(rank: int) -> tuple[list[int], list[str]]:
        workdir = tmp_path / str(rank)
        processes = start(*[toy.arguments(workdir, variant="df", model__depth=1)] * 2)
        wait_for(processes[0], lambda: lines(workdir) > 0)
        processes[rank].kill()
        return end(processes)

    with ThreadPoolExecutor() as pool:
        for rank, (statuses, errors) in enumerate(pool.map(kill, (0, 1))):
            assert statuses[1 - rank] == 1, errors
            assert re.fullmatch(rf"error: process {rank} of 2\b.* has died.*\n", errors[1 - rank]), errors


def test_a_process_is_lost_when_its_sign_of_life_does_not_change():
    """Also one that died before it gave any."""
    signs = SignsOfLife(3, now=100.0)
    assert signs.lost({0: "a 1"}, now=104.0, limit=5.0) is None
    assert signs.lost({0: "a 2", 1: "b 1"}, now=105.5, limit=5.0) == 2
    assert signs.lost({0: "a 2", 1: "b 1"}, now=105.5, limit=20.0) is None
    assert signs.lost({0: "a 7", 1: "b 1", 2: "c 1"}, now=110.0, limit=5.0) is None
    assert signs.lost({0: "a 8", 1: "b 1", 2: "c 2"}, now=112.0, limit=5.0) == 1


def test_without_a_launcher_it_is_refused(toy, tmp_path):
    process = toy.process([*toy.arguments(tmp_path / "run"), "--distributed"])
    error = process.communicate(timeout=DEADLINE)[1]
    assert (
        process.returncode == 2 and error.startswith("error: --distributed: ") and error.count("\n") == 1
    ), error
    assert not (tmp_path / "run").exists()


def test_the_odometry_of_process_0_is_that_of_all(monkeypatch):
    class Client:
        """Of one process after another; what process 0 says stays."""

        said: ClassVar[dict[str, str]] = {}

        def key_value_set(self, key, value):
            assert jax.process_index() == 0
            self.said[key] = value

        def blocking_key_value_get(self, key, milliseconds):
            return self.said[key]

    first, second = (Odometry((), (), ((turn,),), ()) for turn in (0.1 + 0.2, 0.3))
    assert first != second and of_process_0(second) == second and of_process_0(None) is None
    monkeypatch.setattr(processes.multihost, "get_jax_distributed_client", Client)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for rank, own in enumerate((first, second)):
        monkeypatch.setattr(jax, "process_index", lambda rank=rank: rank)
        assert of_process_0(own) == first and of_process_0(None) is None
