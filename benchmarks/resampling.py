"""How wrong the frames of a rollout are, and one-step predictions from every level: to choose `memory.resample_levels`.

    python -m benchmarks.resampling --workdir DIR [--data DIR] [--clips 16] [--points 10] [--context N]

A residual is predicted minus true latents, of a trained run (its averaged parameters) on evaluation clips; its root mean square
(RMS) is over clips and latents. Compared are generated frames 1, W and 4 W of a rollout (W = model.window; the last frame if
there are fewer), which a rollout writes into the memory, and one-step predictions from a level, of all frames behind the
context, which training with ``memory.frames=resampled`` writes there (`rad_jax.training.regimes.resampling`).

It says between which levels' RMS that of frame W lies, and between which those of all three. There need be none: a one-step
prediction is a mean, and from a distribution's mean its samples are less far than from one another, sqrt(2) times in RMS with a
perfect model. Then it says which level is the first within a tenth of the largest RMS.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data_prep.common.command import Parser, positive, run
from rad_jax import rollout
from rad_jax.arrays import fit
from rad_jax.data import Episodes
from rad_jax.rollout.predict import Clip, longest, read_clip
from rad_jax.runs.datasets import open_episodes
from rad_jax.runs.restore import TrainedModel, load_trained
from rad_jax.training.regimes.resampling import resample

CALIBRATION = 4  # purpose of the keys, beside those of training, generation and Figure 3


class Residuals(NamedTuple):
    """Root mean squares of predicted minus true latents.

    Attributes:
      frames: of a rollout, by number of the generated frame, from 1.
      levels: of one-step predictions, by level.
      scale: standard deviation of the true latents.
    """

    frames: dict[int, float]
    levels: dict[int, float]
    scale: float

    def around(self, rms: float) -> tuple[int | None, int | None]:
        """The highest level up to which all have a smaller RMS, and the lowest from which all have a larger one."""
        levels = sorted(self.levels)
        below = [k for k in levels if all(self.levels[j] <= rms for j in levels if j <= k)]
        above = [k for k in levels if all(self.levels[j] >= rms for j in levels if j >= k)]
        return (max(below) if below else None), (min(above) if above else None)

    def words(self, lowest: float, highest: float) -> str:
        """Where a range of RMS lies among those of levels."""
        below, above = self.around(lowest)[0], self.around(highest)[1]
        if above is None:
            near = min(k for k, value in self.levels.items() if value >= 0.9 * max(self.levels.values()))
            return (
                f"above those of all levels, of which level {near} is the first within a tenth of the largest"
            )
        if below is None:
            return f"below that of level {above}"
        return f"between those of levels {below} and {above}"


def measure(trained: TrainedModel, clips: Sequence[Clip], levels: Sequence[int]) -> Residuals:
    """Rolls out every clip, and predicts it from every level."""
    config, model, params = trained.config, trained.model, trained.params
    dtype, padded = config.model.state_dtype, longest(clip.span for clip in clips)
    predict = jax.jit(partial(resample, model, config.diffusion))
    rolled, stepped, truth = [], [], []
    for index, clip in enumerate(clips):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), CALIBRATION), index)
        latents = jnp.asarray(clip.encoded(trained.tokenizer), dtype)[None]
        actions, behind = jnp.asarray(clip.actions)[None], slice(clip.context, len(clip.actions))
        # Lengths of their own would be compiled each for itself.
        future = fit(padded.future, actions[:, behind])
        state = rollout.start(
            model,
            params,
            *(fit(padded.context, x[:, : clip.context]) for x in (latents, actions)),
            diffusion=config.diffusion,
            steps=config.sample.steps,
            lengths=np.array([clip.context]),
        )
        generated = rollout.generate(state, future, key)[1][:, : clip.span.future]
        truth.append(np.asarray(latents[0, behind]))
        rolled.append(np.asarray(generated)[0] - truth[-1])
        frames, actions = (fit(sum(padded), x) for x in (latents, actions))
        noise = jax.random.normal(jax.random.fold_in(key, padded.future), frames.shape, dtype)
        every = [predict(params, frames, actions, jnp.full(frames.shape[:2], k), noise) for k in levels]
        stepped.append([np.asarray(predicted)[0, behind] - truth[-1] for predicted in every])
    window, last = config.model.window, min(map(len, rolled))
    numbers = sorted({min(number, last) for number in (1, window, 4 * window)})
    return Residuals(
        {number: rms([residual[number - 1] for residual in rolled]) for number in numbers},
        {level: rms([residuals[i] for residuals in stepped]) for i, level in enumerate(levels)},
        float(np.std(np.concatenate(truth))),
    )


def rms(residuals: Sequence[np.ndarray]) -> float:
    """Root mean square over all numbers of some arrays."""
    return float(np.sqrt(np.mean(np.square(np.concatenate([x.ravel() for x in residuals])))))


def table(found: Residuals, window: int) -> str:
    """The residuals as text, and what follows for `memory.resample_levels`."""
    rows = [
        *((f"rollout, generated frame {number}", value) for number, value in found.frames.items()),
        *((f"one step, level {level}", value) for level, value in found.levels.items()),
    ]
    lines = [f"{'residual':<28}{'RMS':>8}{'of the latents':>18}"]
    lines += [f"{name:<28}{value:8.4f}{value / found.scale:18.3f}" for name, value in rows]
    frame = min(window, max(found.frames))
    wanted, every = found.frames[frame], found.frames.values()
    lines.append(f"the RMS of generated frame {frame} lies {found.words(wanted, wanted)}")
    lines.append(
        f"those of frames {', '.join(map(str, found.frames))} lie {found.words(min(every), max(every))}"
    )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = Parser("benchmarks.resampling", __doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True, help="of the trained run")
    parser.add_argument("--data", type=Path, help="evaluation episodes; those of the run unless given")
    parser.add_argument("--clips", type=positive, default=16, help="how many of them")
    parser.add_argument("--context", type=positive, help="frames that are given; else what the episodes say")
    parser.add_argument("--points", type=positive, default=10, help="levels, evenly spaced")
    return run("benchmarks.resampling", partial(_measure, parser.parse_args(arguments)), continues=False)


def _measure(options: argparse.Namespace) -> None:
    trained = load_trained(options.workdir)
    config = trained.config
    where = {"path": str(options.data)} if options.data else {}
    episodes: Episodes = open_episodes(dataclasses.replace(config.evaluate, **where))
    clips = [
        read_clip(episodes, index, config, trained.tokenizer, options.context, odometry=trained.odometry)
        for index in range(min(options.clips, len(episodes)))
    ]
    # The last level is next to pure noise, the first next to none.
    levels = np.unique(np.linspace(0, config.diffusion.levels - 1, options.points).round().astype(int))
    print(
        f"{config.name} after {trained.step} steps, {len(clips)} clips of {episodes}, W = {config.model.window}, "
        f"{config.sample.steps} sampler steps, {config.diffusion.levels} levels"
    )
    print(table(measure(trained, clips, levels.tolist()), config.model.window))


if __name__ == "__main__":
    sys.exit(main())
