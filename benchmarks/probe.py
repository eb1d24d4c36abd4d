"""What a memory holds of a frame to come, what the model reads of it, and what it makes of that: not stored, or not read?

    python -m benchmarks.probe --workdir DIR --context N [--data DIR] [--split train] [--clips 512]

A memory that predicts badly may have lost what it saw, or hold it where the model does not find it. The memory of a trained run
is taken after the context of every clip, and the frames of the next window are asked for, each one alone: pure noise, with its
own condition, so that all it can know is in the memory. A reader that was never part of the model is fitted on most of the
clips, and scored on the others, by the share of the variance of a frame's latents that it explains:

    pose      knows the pose alone: what frames seen from there have in common
    stored    is given the memory, all numbers of it
    read      is given what the memory branch of every layer returns for the frame
    made      the model's own prediction of the frame; nothing is fitted
    context   is given the latents of the context, of which nothing is lost: what such a reader can do at all

The reader is kernel ridge regression, linear in what it is given and smooth in the pose p (Gaussian, of width r):

    K(i, j) = exp(-|p_i - p_j|^2 / 2 r^2) (1 + <x_i, x_j>)

with x centred and scaled number by number; r and the ridge are chosen on clips of their own. So it finds what is linear in the
memory around a pose, as reading by a query is. A look-up among slots whose order is another in every clip is not: for a bank,
and for `atlas` where it leaves out frames, "stored" says too little. It is a lower bound for all, which rises with the number
of clips: the column of half of them tells how far from its end it is.

The question is that of the geometry head of GIM-World (arXiv 2606.02436), asked here after training and about latents.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from data_prep.common.command import Parser, positive, run
from rad_jax import diffusion
from rad_jax.axes import Array, Float, Int, PyTree
from rad_jax.config import NO_POSE
from rad_jax.data import DataError, Episodes
from rad_jax.model import RAD
from rad_jax.model.addressing import pose_of
from rad_jax.model.memory import Memory, at_start
from rad_jax.model.names import named_leaves
from rad_jax.rollout.predict import Clip, read_clip
from rad_jax.runs.restore import TrainedModel, load_trained

PROBE = 5  # purpose of the key, beside those of training, generation, Figure 3 and calibration
BATCH = 32
FEWEST = 8  # clips
WIDTHS = (0.1, 0.2, 0.4, 0.8)
RIDGES = tuple(10.0**power for power in range(-4, 3))
READERS = (
    "read",
    "attend",
    "run",
    "run_with_states",
)  # the methods of a mixer that return something for every frame


class Samples(NamedTuple):
    """Frames to come, in rows, those of a clip one after another; and what is known of each.

    Attributes:
      clip: the number of its clip, a row of ``stored`` and ``context``.
      pose: of the frame, as a bank tells poses apart.
      stored: of every clip, all numbers of its memory.
      context: of every clip, the latents of its context.
      read: what the memory branch returns, in all layers.
      made: the latents that the model predicts.
      truth: those that are right.
    """

    clip: Int[np.ndarray, "m"]
    pose: Float[np.ndarray, "m p"]
    stored: Float[np.ndarray, "v _"]
    context: Float[np.ndarray, "v _"]
    read: Float[np.ndarray, "m _"]
    made: Float[np.ndarray, "m _"]
    truth: Float[np.ndarray, "m _"]


def collect(trained: TrainedModel, clips: Sequence[Clip]) -> Samples:
    """Asks for the first frames, as many as a window has, behind the context of every clip.

    Raises:
      DataError: the model is given no pose, the context is not the same in all clips, or they are too short.
    """
    config, model, params = trained.config, trained.model, trained.params
    if not config.model.heading_at:
        raise DataError(f"the probe asks by pose: {NO_POSE}")
    window, stride = config.model.window, config.model.memory.stride
    context = min(clip.context for clip in clips) // stride * stride
    if not context or min(len(clip.actions) for clip in clips) < context + window:
        raise DataError(
            f"clips with a context of {context} frames: expected at least {max(stride, 1)}, and {window} to predict"
        )
    ask = jax.jit(partial(_ask, model, config.diffusion))
    key = jax.random.fold_in(jax.random.key(config.seed), PROBE)
    noise = jax.random.normal(key, config.model.latent, config.model.state_dtype)
    found = []
    for first in range(0, len(clips), BATCH):
        some = clips[first : first + BATCH]
        latents = jnp.stack([clip.encoded(trained.tokenizer)[: context + window] for clip in some])
        actions = jnp.stack([clip.actions[: context + window] for clip in some])
        memory, read, made = ask(params, latents[:, :context], actions, noise)
        answers = {
            "pose": rearrange(pose_of(config.model, actions[:, context:]), "b w p -> (b w) p"),
            "stored": _flat(memory),
            "context": rearrange(latents[:, :context], "b ... -> b (...)"),
            "read": rearrange(read, "b w ... -> (b w) (...)"),
            "made": rearrange(made, "b w ... -> (b w) (...)"),
            "truth": rearrange(latents[:, context:], "b w ... -> (b w) (...)"),
        }
        found.append({name: np.asarray(value, np.float32) for name, value in answers.items()})
    arrays = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
    return Samples(np.repeat(np.arange(len(clips)), window), **arrays)


def _ask(
    model: RAD,
    config: diffusion.DiffusionConfig,
    params: PyTree,
    frames: Float[Array, "b t rows cols ch"],
    actions: Float[Array, "b s a"],
    noise: Float[Array, "rows cols ch"],
) -> tuple[Memory, Float[Array, "b w l n d"], Float[Array, "b w rows cols ch"]]:
    """The memory after frames of a context, and what is read and made of each of the frames behind it, alone in its window."""
    batch, context = frames.shape[:2]
    variables, start = {"params": params}, jnp.full((batch, 1), context)
    memory = model.apply(variables, frames, actions[:, :context], start, method=RAD.prefetch)
    memory = at_start(memory, 0)
    level = jnp.full((batch, 1), config.levels - 1)
    noised = jnp.broadcast_to(noise, (batch, 1, *noise.shape))

    def of_frame(action: Float[Array, "b a"]) -> tuple[Array, Array]:
        (prediction, _), captured = model.apply(
            variables,
            noised,
            level,
            action[:, None],
            memory,
            capture_intermediates=_is_read,
            mutable="intermediates",
        )
        clean, _ = diffusion.clean_and_noise(config, noised, prediction, level)
        return _returned(captured), clean[:, 0]

    read, made = jax.lax.map(of_frame, jnp.moveaxis(actions[:, context:], 1, 0))
    return memory, rearrange(read, "w l b 1 n d -> b w l n d"), rearrange(made, "w b ... -> b w ...")


def _is_read(module: object, method: str) -> bool:
    return method in READERS and getattr(module, "name", None) == "mixer"


def _returned(captured: PyTree) -> Float[Array, "l b 1 n d"]:
    """What the mixers of all layers returned for the one frame."""
    methods = captured["intermediates"]["block"]["memory"]["mixer"]
    name = next(name for name in READERS if name in methods)
    (found,) = methods[name]
    return found if name in READERS[:2] else found[1]


def _flat(memory: Memory) -> Float[np.ndarray, "b _"]:
    """All numbers of a memory, video after video."""
    leaves = [np.asarray(leaf) for leaf in named_leaves((memory.state, memory.tape)).values()]
    return np.concatenate([rearrange(leaf.astype(np.float32), "b ... -> b (...)") for leaf in leaves], axis=1)


class Parts(NamedTuple):
    """Clips to fit a reader to, to choose its width and ridge by, and to score it on."""

    fitted: np.ndarray
    chosen: np.ndarray
    scored: np.ndarray

    @classmethod
    def of(cls, clips: int) -> "Parts":
        """Three quarters of the clips, an eighth, and the last eighth.

        Raises:
          DataError: there are too few.
        """
        if clips < FEWEST:
            raise DataError(
                f"{clips} clips: expected at least {FEWEST}, to fit a reader and to score it on others"
            )
        numbers = np.arange(clips)
        return cls(*np.split(numbers, [clips * 3 // 4, clips * 7 // 8]))


def explained(samples: Samples, parts: Parts, features: Float[np.ndarray, "m _"] | None = None) -> float:
    """The share of the variance of the latents of the scored frames that a fitted reader explains.

    Args:
      features: what it is given of every frame, or of every clip; None: the pose alone.
    """
    gram = 0.0 if features is None else linear_kernel(features, samples, parts)
    rows = [np.flatnonzero(np.isin(samples.clip, part)) for part in parts]
    apart = np.square(samples.pose[:, None] - samples.pose[None]).sum(-1, dtype=np.float64)
    mean = samples.truth[rows[0]].mean(0)
    centred = samples.truth.astype(np.float64) - mean
    best, scored = -np.inf, -np.inf
    for width in WIDTHS:
        kernel = np.exp(-apart / (2 * width**2)) * (1 + gram)
        values, vectors = np.linalg.eigh(kernel[np.ix_(rows[0], rows[0])])
        inside = vectors.T @ centred[rows[0]]
        outside = [kernel[np.ix_(part, rows[0])] @ vectors for part in rows[1:]]
        for ridge in RIDGES:
            weights = inside / (np.maximum(values, 0) + ridge)[:, None]
            on_chosen, on_scored = (
                share(centred[part], seen @ weights) for part, seen in zip(rows[1:], outside, strict=True)
            )
            if on_chosen > best:
                best, scored = on_chosen, on_scored
    return scored


def linear_kernel(features: np.ndarray, samples: Samples, parts: Parts) -> Float[np.ndarray, "m m"]:
    """Inner products of what is known of frames, centred and scaled by the fitted ones: of size 1 on average."""
    of_clips = len(features) != len(samples.clip)
    fitted = parts.fitted if of_clips else np.flatnonzero(np.isin(samples.clip, parts.fitted))
    x = features.astype(np.float64) - features[fitted].mean(0, dtype=np.float64)
    size = np.square(x[fitted]).mean(0)
    x = x / np.sqrt(np.where(size > 0, size, 1)) / np.sqrt(x.shape[1])
    gram = x @ x.T
    return gram[np.ix_(samples.clip, samples.clip)] if of_clips else gram


def share(truth: np.ndarray, predicted: np.ndarray) -> float:
    """1 - squared error / variance around the mean of the fitted frames, which is zero here."""
    return float(1 - np.square(truth - predicted).sum() / np.square(truth).sum())


def table(samples: Samples) -> str:
    """The shares as text, for all clips to fit to and for half of them."""
    parts = Parts.of(int(samples.clip.max()) + 1)
    half = parts._replace(fitted=parts.fitted[::2])
    lines = [f"{'':<10}{'explained':>10}{'half of the clips':>20}{'numbers':>10}"]
    for name in ("pose", "stored", "read", "context"):
        given = None if name == "pose" else getattr(samples, name)
        shares = [explained(samples, part, given) for part in (parts, half)]
        lines.append(
            f"{name:<10}{shares[0]:10.3f}{shares[1]:20.3f}{0 if given is None else given.shape[1]:10,}"
        )
    rows = np.isin(samples.clip, parts.scored)
    mean = samples.truth[np.isin(samples.clip, parts.fitted)].mean(0)
    lines.append(f"{'made':<10}{share(samples.truth[rows] - mean, samples.made[rows] - mean):10.3f}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = Parser("benchmarks.probe", __doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True, help="of the trained run")
    parser.add_argument("--data", type=Path, help="episodes; else those that the run was trained on")
    parser.add_argument("--split", default="train", help="of them")
    parser.add_argument("--context", type=positive, help="frames that are given; else what the episodes say")
    parser.add_argument("--clips", type=positive, default=512, help="how many episodes")
    return run("benchmarks.probe", partial(_measure, parser.parse_args(arguments)), continues=False)


def _measure(options: argparse.Namespace) -> None:
    trained = load_trained(options.workdir)
    config = trained.config
    episodes = Episodes(options.data or Path(config.data.path), options.split)
    count, odometry = min(options.clips, len(episodes)), trained.odometry
    clips = [
        read_clip(episodes, index, config, trained.tokenizer, options.context, odometry=odometry)
        for index in range(count)
    ]
    print(
        f"{config.name} after {trained.step} steps, {count} clips of {episodes}, context {clips[0].context}"
    )
    print(table(collect(trained, clips)))


if __name__ == "__main__":
    sys.exit(main())
