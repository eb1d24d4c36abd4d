"""Predicted videos: context frames in, generated frames out, for evaluation, samples and rollouts alike."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax import rollout
from rad_jax.axes import Float, PyTree
from rad_jax.config import Config
from rad_jax.data.condition import condition_arrays, condition_features
from rad_jax.data.episodes import DataError, Episodes
from rad_jax.model import RAD
from rad_jax.tokenizer import Tokenizer


class Clip(NamedTuple):
    """A video to continue: its frames (uint8), the condition of every frame, and how many frames are given."""

    name: str
    frames: np.ndarray
    actions: Float[np.ndarray, "t a"]
    context: int


def read_clip(episodes: Episodes, index: int, config: Config, context: int | None = None) -> Clip:
    """An episode as a clip; its context is ``n_context`` of the data set unless given."""
    names = ["frames", *condition_arrays(config.data.condition)]
    arrays = episodes.read(index, arrays=names)
    if context is None:
        if "n_context" not in episodes.spec.statics:
            raise DataError(f"{episodes} has no 'n_context' for its episodes: it was not made for evaluation")
        context = int(episodes.static(index)["n_context"])
    if not 1 <= context < len(arrays["frames"]):
        raise DataError(
            f"episode {episodes.ids[index]!r}: a context of {context} among {len(arrays['frames'])} frames"
        )
    actions = condition_features(episodes.spec, arrays, config.data.condition, config.data.heading_harmonics)
    return Clip(episodes.ids[index], arrays["frames"], actions, context)


def predict(
    model: RAD, params: PyTree, tokenizer: Tokenizer, config: Config, clips: Sequence[Clip], batch: int
) -> list[Float[np.ndarray, "t H W 3"]]:
    """What the model predicts for the frames after each clip's context, from its ``actions``, in [0, 1].

    Clips are generated ``batch`` at a time in arrays of one size, so that everything is compiled once. The noise of a frame
    is a function of ``config.seed``, the clip's place among ``clips`` and the frame, so that models whose windows part the
    clips into different batches, as strides do, start from the same noise.
    """
    predictions: list = [None] * len(clips)
    longest = max(clip.context for clip in clips)
    future = max(len(clip.actions) - clip.context for clip in clips)
    alike: dict[int, list[int]] = {}
    for index, clip in enumerate(clips):
        alike.setdefault(rollout.frames_in_window(model, clip.context), []).append(index)
    batch = min(batch, max(map(len, alike.values())))
    groups = [same[i : i + batch] for same in alike.values() for i in range(0, len(same), batch)]
    for group in groups:
        places = np.array(group + group[-1:] * (batch - len(group)))
        filled = [clips[i] for i in places]
        context = jnp.asarray(np.stack([_fit(clip.frames[: clip.context], longest) for clip in filled]))
        state = rollout.start(
            model,
            params,
            tokenizer.encode(context.astype(jnp.float32) / 255).astype(config.model.state_dtype),
            jnp.asarray(np.stack([_fit(clip.actions[: clip.context], longest) for clip in filled])),
            diffusion=config.diffusion,
            steps=config.sample.steps,
            lengths=np.array([clip.context for clip in filled]),
        )
        actions = jnp.asarray(np.stack([_fit(clip.actions[clip.context :], future) for clip in filled]))
        keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(config.seed)))(places)
        _, latents = rollout.generate(state, actions, keys)
        images = np.asarray(jnp.clip(tokenizer.decode(latents), 0, 1))
        for row, index in enumerate(group):
            predictions[index] = images[row, : len(clips[index].actions) - clips[index].context]
    return predictions


def _fit(x: np.ndarray, length: int) -> np.ndarray:
    """Zeros behind the last frame, up to ``length`` frames."""
    return np.concatenate([x, np.zeros((length - len(x), *x.shape[1:]), x.dtype)])
