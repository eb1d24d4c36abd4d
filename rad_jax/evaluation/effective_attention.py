"""Which frames a predicted frame sees, through attention and through memory, measured by gradients (the paper's Figure 3).

The influence of frame i on the prediction of frame j is the root mean square, over random directions and all latents, of the
gradient of the denoised frame j with respect to frame i. Frame j is pure noise, as in the first step of its sampler, so its
prediction can only hold what came from other frames. Frames of the window act through attention (and through the memory,
where it runs on through the window); frames before it can act through the memory alone.
"""

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from rad_jax.arrays import fit, window_of
from rad_jax.axes import Array, Float, Int, Key, PyTree
from rad_jax.config import DiffusionConfig
from rad_jax.model import RAD
from rad_jax.model.memory import at_start
from rad_jax.rollout.predict import Clip
from rad_jax.runs.restore import TrainedModel

INFLUENCE = 3  # purpose of the key, beside those of training and generation
DIRECTIONS = 4
ROWS = 16


class EffectiveAttention(NamedTuple):
    """The influence of every frame (columns) on some predicted frames (rows), and where the window of each begins."""

    predicted: Int[Array | np.ndarray, "k"]
    window_starts: Int[Array | np.ndarray, "k"]
    influence: Float[Array | np.ndarray, "k t"]


def of_clip(trained: TrainedModel, clip: Clip) -> EffectiveAttention:
    """`effective_attention` in one evaluation clip, of `ROWS` of the frames after its context."""
    config, model, params = trained.config, trained.model, trained.params
    latents = clip.encoded(trained.tokenizer)[None].astype(config.model.state_dtype)
    predicted = np.unique(np.linspace(clip.context, len(clip.frames) - 1, ROWS).round().astype(int))
    actions = jnp.asarray(clip.actions)[None]
    key = jax.random.fold_in(jax.random.key(config.seed), INFLUENCE)
    found = effective_attention(model, config.diffusion, params, latents, actions, predicted, key)
    return jax.device_get(found)


@partial(jax.jit, static_argnums=(0, 1))
def effective_attention(
    model: RAD,
    diffusion: DiffusionConfig,
    params: PyTree,
    frames: Float[Array, "b t rows cols ch"],
    actions: Float[Array, "b t a"],
    predicted: Int[Array | np.ndarray, "k"],
    key: Key[Array, ""],
) -> EffectiveAttention:
    """Measures the influence of all frames of clean clips on some of their frames, as if these were predicted.

    Args:
      predicted: indices of frames, each at least 1. Their windows lie as in a rollout.
      key: of the noise and of the random directions.
    """
    # A memory that trained with cut gradients remembers all the same: the cut must not be taken for forgetting.
    memory = dataclasses.replace(model.config.memory, bptt="full")
    model = RAD(dataclasses.replace(model.config, memory=memory))
    window, stride = model.config.window, model.config.memory.stride
    starts = jnp.maximum(0, -(-(predicted - window + 1) // stride) * stride)
    batch = frames.shape[0]
    key_noise, key_probe = jax.random.split(key)
    shape = (batch, *frames.shape[2:])
    noise = jax.random.normal(key_noise, shape, frames.dtype)
    probes = jax.random.rademacher(key_probe, (DIRECTIONS, *shape), frames.dtype)

    def prediction(frames, place, start):
        """The denoised frame at ``place`` in the window from ``start``, where it alone is noise."""
        memory = model.apply(
            {"params": params}, frames, actions, jnp.full((batch, 1), start), method=RAD.prefetch
        )
        noised = jax.lax.dynamic_update_slice_in_dim(frames, noise[:, None], place, 1)
        # Padding for windows that reach beyond the end; the frame never sees what comes after it.
        padded = (fit(x.shape[1] + window, x) for x in (noised, actions))
        video, condition = (window_of(x, jnp.full(batch, start), window) for x in padded)
        levels = (
            jnp.full((batch, window), model.config.context_level)
            .at[:, place - start]
            .set(diffusion.levels - 1)
        )
        seen, _ = model.apply({"params": params}, video, levels, condition, at_start(memory, 0))
        return jax.lax.dynamic_index_in_dim(seen, place - start, 1, keepdims=False)

    def row(where):
        _, pull = jax.vjp(lambda frames: prediction(frames, *where), frames)
        gradients = jax.vmap(lambda probe: pull(probe)[0])(probes)
        flat = rearrange(gradients, "p b t rows cols ch -> t (p b rows cols ch)")
        return jnp.sqrt(jnp.square(flat).mean(-1))

    return EffectiveAttention(predicted, starts, jax.lax.map(row, (predicted, starts)))
