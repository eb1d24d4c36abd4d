"""How fast people can walk at once: frames per second and milliseconds per frame of 1, 4 and 16 sessions of a trained run.

    python -m benchmarks.sessions --workdir DIR [--data DIR] [--counts 1 4 16] [--frames 200] [--lanes 1]

In every round each session acts once; the round ends when all their frames are pictures on the host. A session waits for a
round, so that its milliseconds per frame are those of rounds.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from data_prep.common.command import Parser, positive, run
from rad_jax.media import to_uint8
from rad_jax.play import Sessions
from rad_jax.rollout.predict import Clip, read_clip
from rad_jax.runs.datasets import open_episodes
from rad_jax.runs.restore import TrainedModel, load_trained

FIRST = 10  # rounds that do not count: they compile, and fill windows


def round_seconds(
    trained: TrainedModel, clips: Sequence[Clip], rounds: int, lanes: int
) -> tuple[np.ndarray, int]:
    """The seconds of every round of as many sessions as there are clips, and the bytes of a session."""
    config = trained.config
    sessions = Sessions(
        trained.model, trained.params, diffusion=config.diffusion, steps=config.sample.steps,
        slots=-(-len(clips) // lanes) * lanes, lanes=lanes,
    )  # fmt: skip
    decode = jax.jit(lambda latents: trained.tokenizer.decode(latents[None])[0])
    numbers = {}
    for seed, clip in enumerate(clips):
        latents = clip.encoded(trained.tokenizer)[: clip.context].astype(config.model.state_dtype)
        numbers[sessions.insert(latents, jnp.asarray(clip.actions[: clip.context]), seed)] = clip
    seconds = []
    for number in range(FIRST + rounds):
        actions = {
            session: clip.actions[clip.context + number % clip.span.future]
            for session, clip in numbers.items()
        }
        begin = time.perf_counter()
        for frame in sessions.step(actions).values():
            to_uint8(np.asarray(decode(frame)))
        seconds.append(time.perf_counter() - begin)
    return np.array(seconds[FIRST:]), sessions.bytes_per_session


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = Parser("benchmarks.sessions", __doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True, help="of the trained run")
    parser.add_argument("--data", type=Path, help="evaluation episodes; those of the run unless given")
    parser.add_argument("--counts", type=positive, nargs="+", default=[1, 4, 16], help="sessions")
    parser.add_argument("--frames", type=positive, default=200, help="of every session")
    parser.add_argument("--lanes", type=positive, default=1, help="sessions that are computed together")
    return run("benchmarks.sessions", partial(_measure, parser.parse_args(arguments)), continues=False)


def _measure(options: argparse.Namespace) -> None:
    trained = load_trained(options.workdir)
    config = trained.config
    where = {"path": str(options.data)} if options.data else {}
    episodes = open_episodes(dataclasses.replace(config.evaluate, **where))
    device = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    print(
        f"{config.name} after {trained.step} steps, {config.sample.steps} sampler steps, jax {jax.__version__}, {device}"
    )
    print(
        f"{'sessions':>8}{'frames/s each':>16}{'together':>10}{'p50 ms':>9}{'p95':>7}{'p99':>7}{'KiB each':>10}"
    )
    for count in options.counts:
        clips = [
            read_clip(episodes, index % len(episodes), config, trained.tokenizer, odometry=trained.odometry)
            for index in range(count)
        ]
        seconds, size = round_seconds(trained, clips, options.frames, options.lanes)
        each, (p50, p95, p99) = 1 / seconds.mean(), 1000 * np.percentile(seconds, [50, 95, 99])
        print(f"{count:8}{each:16.1f}{count * each:10.1f}{p50:9.1f}{p95:7.1f}{p99:7.1f}{size / 1024:10.0f}")


if __name__ == "__main__":
    sys.exit(main())
