"""Which frames a predicted frame sees, through attention and through memory, measured by gradients (the paper's Figure 3).

The influence of frame i on the prediction of frame j is the root mean square, over random directions and all latents, of the
gradient of the denoised frame j with respect to frame i. Frame j is pure noise, as in the first step of its sampler, so its
prediction can only hold what came from other frames. Frames of the window act through attention (and through the memory,
where it runs on through the window); frames before it can act through the memory alone.
"""

import dataclasses
import io
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from rad_jax.axes import Array, Float, Int, Key, PyTree
from rad_jax.config import Config, DiffusionConfig
from rad_jax.model import RAD
from rad_jax.rollout.predict import Clip
from rad_jax.tokenizer import Tokenizer

INFLUENCE = 3  # purpose of the key, beside those of training and generation
DIRECTIONS = 4
ROWS = 16
FLOOR = 1e-4  # influences below this fraction of the row's largest are drawn as nothing


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
    """Measures the influence of all frames of clean clips on some of their frames, as if these were predicted.

    Args:
      predicted: indices of frames, each at least 1. Their windows lie as in a rollout.
      key: of the noise and of the random directions.
    """
    # A memory that trained with cut gradients remembers all the same: the cut must not be taken for forgetting.
    memory = dataclasses.replace(model.config.memory, bptt="full")
    model = RAD(dataclasses.replace(model.config, memory=memory))
    window, stride = model.config.window, model.config.memory.stride
    predicted = np.asarray(predicted)
    starts = np.maximum(0, -(-(predicted - window + 1) // stride) * stride)
    influence = _influence(model, diffusion, params, frames, actions, predicted, starts, key)
    return EffectiveAttention(predicted, starts, np.asarray(influence))


def of_clip(
    model: RAD, params: PyTree, tokenizer: Tokenizer, config: Config, clip: Clip
) -> EffectiveAttention:
    """`effective_attention` in one evaluation clip, of `ROWS` of the frames after its context."""
    latents = clip.encoded(tokenizer)[None].astype(config.model.state_dtype)
    predicted = np.unique(np.linspace(clip.context, len(clip.frames) - 1, ROWS).round().astype(int))
    actions = jnp.asarray(clip.actions)[None]
    key = jax.random.fold_in(jax.random.key(config.seed), INFLUENCE)
    return effective_attention(model, config.diffusion, params, latents, actions, predicted, key)


@partial(jax.jit, static_argnums=(0, 1))
def _influence(
    model: RAD,
    diffusion: DiffusionConfig,
    params: PyTree,
    frames: Float[Array, "b t rows cols ch"],
    actions: Float[Array, "b t a"],
    predicted: Int[Array, "k"],
    starts: Int[Array, "k"],
    key: Key[Array, ""],
) -> Float[Array, "k t"]:
    batch = frames.shape[0]
    window = model.config.window
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


def draw(panels: Mapping[str, EffectiveAttention], context: int) -> bytes:
    """A PNG with a panel for each model: predicted frames downwards, the frames they see to the right.

    Each row is relative to its largest influence; a line marks where the window of the predicted frame begins.

    Args:
      context: frames that were given before the first predicted one.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.9 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for panel in axes.flat[len(panels) :]:
        panel.set_visible(False)
    for panel, (name, measured) in zip(axes.flat, panels.items()):
        length = measured.influence.shape[1]
        relative = measured.influence / np.maximum(measured.influence.max(1, keepdims=True), 1e-30)
        shown = np.ma.masked_less(relative, FLOOR)
        edges = np.arange(len(measured.predicted) + 1) - 0.5
        image = panel.pcolormesh(
            np.arange(length + 1) - 0.5, edges, shown, norm=LogNorm(FLOOR, 1), cmap="viridis"
        )
        panel.step(
            np.append(measured.window_starts, measured.window_starts[-1]) - 0.5,
            edges,
            color="#d2335c",
            lw=1.4,
        )
        panel.axvline(context - 0.5, color="#9aa1ac", lw=1)
        places = np.unique(np.linspace(0, len(measured.predicted) - 1, 5).round().astype(int))
        panel.set_yticks(places, [str(measured.predicted[place]) for place in places])
        panel.set_ylim(edges[-1], edges[0])
        panel.set_title(name, fontsize=10)
    figure.supxlabel("frame that is seen (red: start of the window; grey: end of the context)", fontsize=9)
    figure.supylabel("predicted frame", fontsize=9)
    figure.colorbar(image, ax=axes, label="influence, relative to the row's largest", shrink=0.8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
