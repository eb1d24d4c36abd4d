"""A long run and a long walk hold no more memory at their end than near their beginning: `python -m tests.long`.

Prints, at some steps and frames, the resident memory of the process and the bytes of all arrays of JAX that are alive.
"""

import argparse
import contextlib
import gc
import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import tests.conftest  # noqa: F401 (the environment of the tests, before JAX is imported)

# isort: split

import jax
import jax.numpy as jnp
from absl import flags

from rad_jax import rollout
from rad_jax.main import main as command
from rad_jax.runs.restore import load_trained
from rad_jax.training import loop
from tests.toy_run import Toy, silence

TOLERANCE = 16 * 2**20  # bytes by which resident memory may differ: allocators keep what they have
MARKS = (0.15, 0.25, 0.5, 0.75, 1.0)  # the first one after a sample, whose program stays in memory


class Scale:
    """Weighs this process at some of ``total`` moments."""

    def __init__(self, what: str, total: int):
        self._what, self._marks = what, [round(total * mark) for mark in MARKS]
        self.resident: list[int] = []
        self.alive: list[int] = []

    def weigh(self, number: int) -> None:
        if number in self._marks:
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.resident.append(4096 * pages)
            self.alive.append(sum(array.nbytes for array in jax.live_arrays()))
            print(
                f"{self._what} {number:>5}: resident {self.resident[-1] / 2**20:.1f} MiB, "
                f"arrays {self.alive[-1]:,} bytes",
                file=sys.stderr,
            )

    def flat(self) -> bool:
        return self.resident[-1] - self.resident[0] < TOLERANCE and self.alive[-1] <= max(self.alive[:2])


def train(toy: Toy, steps: int) -> Scale:
    scale, open_batches = Scale("step", steps), loop.open_batches

    def weighing(run: object, first: int) -> Iterator[object]:
        for number, batch in enumerate(open_batches(run, first), first + 1):
            scale.weigh(number)
            yield batch

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr(loop, "open_batches", weighing)
        changes = {"train__sample_every": steps // 10, "checkpoint__every": 100, "checkpoint__keep_every": 0}
        arguments = toy.arguments(toy.directory / "long", train__steps=steps, **changes)
        if command(arguments):
            raise SystemExit("the training failed")
    return scale


def walk(toy: Toy, frames: int) -> Scale:
    trained, scale = load_trained(toy.directory / "long"), Scale("frame", frames)
    latents = jnp.zeros((1, 8, *trained.config.model.latent))
    actions = jnp.zeros((1, 8, trained.config.model.action_dim))
    state = rollout.start(
        trained.model, trained.params, latents, actions, diffusion=trained.config.diffusion, steps=2
    )
    for number in range(1, frames + 1):
        state, _ = rollout.step(state, actions[:, 0], jax.random.key(number))
        scale.weigh(number)
    return scale


def main(arguments: list[str] | None = None) -> int:
    """The exit status is 1 if memory grows."""
    parser = argparse.ArgumentParser(prog="tests.long", description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--frames", type=int, default=5000)
    options = parser.parse_args(arguments)
    flags.FLAGS.mark_as_parsed()  # Grain reads flags, which absl.app would have parsed
    with tempfile.TemporaryDirectory() as directory:
        toy = Toy(Path(directory))
        with silence():
            toy.rooms, toy.mazes  # noqa: B018 (made before anything is weighed)
        flat = [train(toy, options.steps).flat(), walk(toy, options.frames).flat()]
    print(f"memory is flat: training {flat[0]}, walk {flat[1]}")
    return 0 if all(flat) else 1


if __name__ == "__main__":
    sys.exit(main())
