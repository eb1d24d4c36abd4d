"""Which frames a predicted frame sees, through attention and through memory (the paper's Figure 3), from gradients.

The influence of frame i on the prediction of frame j is the root mean square, over random directions and all latents, of the
gradient of the denoised frame j with respect to frame i. Frame j is pure noise, as in the first step of its sampler, so that
what its prediction holds has come from other frames. Frames of the window act through attention (and the memory, where it
runs on through the window); frames before it can act through the memory alone.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from rad_jax.axes import Array, Float, Int, Key, PyTree
from rad_jax.config import Config, DiffusionConfig
from rad_jax.model import RAD
from rad_jax.rollout.predict import Clip
from rad_jax.tokenizer import Tokenizer

DIRECTIONS = 4
ROWS = 16


class EffectiveAttention(NamedTuple):
    """The influence of every frame (columns) on some predicted frames (rows), and where the window of each begins."""

    predicted: Int[np.ndarray, "k"]
    window_starts: Int[np.ndarray, "k"]
    influence: Float[np.ndarray, "k t"]


def effective_attention(
    model: RAD,
    diffusion: DiffusionConfig,
    params: PyTree,
    frames: Float[Array, "b t rows cols ch"],
    actions: Float[Array, "b t a"],
    predicted: Int[np.ndarray, "k"],
    key: Key[Array, ""],
) -> EffectiveAttention:
    """Measures the influence of all frames of clean clips on some of their frames, if these were predicted.

    Args:
      predicted: indices of frames, each at least 1; the window of each lies as in a rollout.
    """
    window, stride = model.config.window, model.config.memory.stride
    predicted = np.asarray(predicted)
    starts = np.maximum(0, -(-(predicted - window + 1) // stride) * stride)
    influence = _influence(model, diffusion, params, frames, actions, predicted, starts, key)
    return EffectiveAttention(predicted, starts, np.asarray(influence))


def of_clip(
    model: RAD, params: PyTree, tokenizer: Tokenizer, config: Config, clip: Clip
) -> EffectiveAttention:
    """The same for one evaluation clip, at `ROWS` of the frames after its context."""
    latents = clip.encoded(tokenizer)[None].astype(config.model.state_dtype)
    predicted = np.unique(np.linspace(clip.context, len(clip.frames) - 1, ROWS).round().astype(int))
    actions = jnp.asarray(clip.actions)[None]
    return effective_attention(
        model, config.diffusion, params, latents, actions, predicted, jax.random.key(config.seed)
    )


@partial(jax.jit, static_argnums=(0, 1))
def _influence(model, diffusion, params, frames, actions, predicted, starts, key):
    batch = frames.shape[0]
    window = model.config.window
    key_noise, key_probe = jax.random.split(key)
    shape = (batch, *frames.shape[2:])
    noise = jax.random.normal(key_noise, shape, frames.dtype)
    probes = jax.random.rademacher(key_probe, (DIRECTIONS, *shape), frames.dtype)

    def prediction(frames, place, start):
        """The denoised frame at ``place``, alone in being noise, in the window from ``start``."""
        memory = model.apply(
            {"params": params}, frames, actions, jnp.full((batch, 1), start), method=RAD.prefetch
        )
        noised = jax.lax.dynamic_update_slice_in_dim(frames, noise[:, None], place, 1)
        # A window over the end is filled up; what comes after the frame is never seen by it.
        video, condition = (
            jnp.pad(x, [(0, 0), (0, window), *[(0, 0)] * (x.ndim - 2)]) for x in (noised, actions)
        )
        video, condition = (jax.lax.dynamic_slice_in_dim(x, start, window, 1) for x in (video, condition))
        levels = (
            jnp.full((batch, window), model.config.context_level)
            .at[:, place - start]
            .set(diffusion.levels - 1)
        )
        seen, _ = model.apply(
            {"params": params}, video, levels, condition, jax.tree.map(lambda s: s[:, 0], memory)
        )
        return jax.lax.dynamic_index_in_dim(seen, place - start, 1, keepdims=False)

    def row(where):
        _, pull = jax.vjp(lambda frames: prediction(frames, *where), frames)
        gradients = jax.vmap(lambda probe: pull(probe)[0])(probes)
        flat = rearrange(gradients, "p b t rows cols ch -> t (p b rows cols ch)")
        return jnp.sqrt(jnp.square(flat).mean(-1))

    return jax.lax.map(row, (predicted, starts))
