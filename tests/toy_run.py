"""A run small enough for tests: data sets of the embedded world, a configuration, and runs, each made when first needed.

All tests that train use this one configuration, because compiling a training step is what costs them time.
"""

import contextlib
import functools
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_prep import fit_tokenizer, make_maze
from rad_jax.config import Config, load_config
from rad_jax.main import main
from rad_jax.runs.checkpoints import Checkpoints
from rad_jax.runs.manifest import saved_steps
from rad_jax.runs.odometry import with_odometry
from rad_jax.runs.trained_on import TrainedOn
from rad_jax.runs.training_run import TrainingRun, open_training_run
from rad_jax.training import sharding, step
from rad_jax.training.step import TrainState

ROOT = Path(__file__).parent.parent
EXPERIMENT = ROOT / "experiments" / "quickstart.py"
STEPS, SAVED = 24, 6  # steps of the trained run, and one before the end whose checkpoint stays
NONE: Mapping[str, Any] = MappingProxyType({})
SETTINGS = {
    "data.auto_make": False,
    "data.condition": "action",
    "data.clip": 12,
    "model.patch": 1,
    "model.remat": True,
    "model.width": 16,
    "model.heads": 2,
    "memory.action_width": 8,
    "train.steps": STEPS,
    "train.batch": 8,
    "train.windows": 2,
    "train.first_start": 2,
    "train.ema": 0.9,
    "train.log_every": 2,
    "train.sample_every": 0,
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 2e-3,
    "optimizer.warmup": 4,
    "optimizer.decay": "constant",
    "checkpoint.every": 3,  # not a multiple of log_every: sums of metrics have to survive a restart
    "checkpoint.keep_every": SAVED,
    "sample.steps": 2,
    "evaluate.auto_make": False,
    "evaluate.batch": 2,
    "evaluate.side_by_side": 2,
}


class Toy:
    """What the tests of a session share, in one directory."""

    def __init__(self, directory: Path):
        self.directory = directory

    @functools.cached_property
    def rooms(self) -> Path:
        """Eight training episodes of 24 frames of 16 px, with a tokenizer."""
        directory = self.directory / "rooms"
        options = "--protocol rotate --room --pixels 16 --episodes 8"
        with silence():
            assert make_maze.main(["--out", str(directory), *options.split()]) == 0
            assert fit_tokenizer.main(["--data", str(directory), "--channels", "8"]) == 0
        return directory

    @functools.cached_property
    def mazes(self) -> Path:
        """Three evaluation episodes out and back, with 36, 33 and 34 context frames."""
        directory = self.directory / "mazes"
        options = (
            "--protocol return --size 5 --pixels 16 --episodes 3 --seed 3 --min-frames 36 --max-frames 60"
        )
        with silence():
            assert make_maze.main(["--out", str(directory), *options.split()]) == 0
        return directory

    def settings(self, changes: Mapping[str, Any] = NONE) -> dict[str, Any]:
        """Overrides of the experiment, with some of them changed."""
        return {"data.path": str(self.rooms), "evaluate.path": str(self.mazes), **SETTINGS, **changes}

    def config(self, variant: str = "lstm-f", changes: Mapping[str, Any] = NONE) -> Config:
        return load_config(f"{EXPERIMENT}:{variant}", self.settings(changes))

    def arguments(self, workdir: Path, *more: str, variant: str = "lstm-f", **changes: Any) -> list[str]:
        """The command line of a run; keys to change with a double underscore for the point."""
        settings = self.settings({key.replace("__", "."): value for key, value in changes.items()})
        keys = [
            f"--config.{key}={str(value).lower() if isinstance(value, bool) else value}"
            for key, value in settings.items()
        ]
        return ["--config", f"{EXPERIMENT}:{variant}", "--workdir", str(workdir), *more, *keys]

    @functools.cached_property
    def trained(self) -> Path:
        """A run that was never interrupted."""
        workdir = self.directory / "trained"
        with silence():
            assert main(self.arguments(workdir)) == 0
        return workdir

    def written(self, variant: str = "lstm-f", condition: str = "action") -> Path:
        """A finished run that was not trained: its parameters are random, so that every one of them counts."""
        workdir = self.directory / f"{variant} {condition}"
        if not workdir.exists():
            parts = open_training_run(self.config(variant, {"data.condition": condition}))
            parts = with_odometry(parts, workdir)
            tokenizer = {"name": parts.tokenizer.name, "fingerprint": parts.tokenizer.fingerprint}
            with Checkpoints(workdir / "checkpoints", parts.config.checkpoint) as checkpoints:
                state = random_state(parts)._replace(step=jnp.int32(STEPS))
                checkpoints.save(STEPS, state, {"tokenizer": tokenizer})
            TrainedOn.of(parts).keep(workdir)
            (workdir / "config.json").write_text(parts.config.to_json())
        return workdir

    def process(self, arguments: list[str]) -> subprocess.Popen:
        """Starts the command line in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "rad_jax.main", *arguments],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )


@contextlib.contextmanager
def silence():
    """What is made for several tests prints into none of them."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def random_state(parts: TrainingRun, seed: int = 0) -> TrainState:
    """A state with random parameters and another random average, and an optimiser that has done nothing.

    Its leaves live where those of a run do: elsewhere, the step would be compiled again.
    """
    rng, abstract = np.random.default_rng(seed), abstract_state(parts)
    state = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), abstract)
    draw = functools.partial(jax.tree.map, lambda x: rng.normal(0, 0.2, x.shape).astype(x.dtype))
    state = state._replace(params=draw(state.params), ema=draw(state.ema))
    return jax.tree.map(lambda x, s: jax.device_put(x, s.sharding), state, abstract)


def abstract_state(parts: TrainingRun) -> TrainState:
    return step.abstract_state(parts.model, parts.config, sharding.make_mesh(parts.config.mesh))


def compile_step(parts: TrainingRun):
    """The step as a run compiles it, so that the compilation is shared with runs."""
    mesh = sharding.make_mesh(parts.config.mesh)
    return functools.partial(step.compile_step(parts.model, parts.config, mesh), parts.tokenizer)


def read_state(workdir: Path, parts: TrainingRun, step: int | None = None) -> tuple[TrainState, int]:
    """State and step of a run's checkpoint, the newest unless given."""
    saved = workdir / "checkpoints"
    step = saved_steps(saved)[-1] if step is None else step
    with tempfile.TemporaryDirectory() as alone:
        shutil.copytree(saved / str(step), Path(alone, str(step)))
        with Checkpoints(alone, parts.config.checkpoint) as checkpoints:
            state, manifest = checkpoints.restore(abstract_state(parts))
    return state, manifest.step


def read_metrics(workdir: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl without what depends on the clock."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if not name.startswith("time/")} for line in lines]


def assert_same(found: Any, expected: Any) -> None:
    """Equal bits in every leaf of two trees."""
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def wait_for(process: subprocess.Popen, condition) -> None:
    """Returns when a condition holds, which has to be while the process runs."""
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)


def stop_during(process: subprocess.Popen, condition) -> None:
    """Stops a process (SIGSTOP) at a moment when a condition holds."""
    while True:
        wait_for(process, condition)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        if condition():
            return
        process.send_signal(signal.SIGCONT)
