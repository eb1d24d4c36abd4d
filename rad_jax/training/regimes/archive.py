"""Frames with errors that the model has made elsewhere, for ``memory.frames = "archive"``.

Training on resampled frames predicts every frame of a clip once more. The loss predicts frames anyway, and its errors can be
kept for later steps:

    in the loss, of every frame whose level is one of ``memory.resample_levels``:    r = x0_hat - x
    the archive holds the ``memory.archive`` newest of them, beside the parameters
    in later steps, of every frame x that enters the memory:    x~ = x + g r    r one of the archive, g ~ U(0, archive_scale)

The errors are of other places than the frame that is given them: unlike resampled frames these say nothing wrong about a place.
They look like what a rollout writes, and cost a training step next to nothing. Levels of training are uniform, so those of the
errors are too. ``memory.resample_after`` and ``memory.resample_clean`` leave frames true as they do for resampled ones. Before
the first errors are there all frames are true.

Banks of a model's own errors are those of SVI (arXiv 2510.09212) and Robust Dreamer (arXiv 2605.30855); the rest is ours.
"""

from typing import NamedTuple

import jax.numpy as jnp
from einops import rearrange

from rad_jax.axes import Array, Float, Int
from rad_jax.config import MemoryConfig, ModelConfig


class Archive(NamedTuple):
    """The newest errors of a model, in a ring.

    Attributes:
      residuals: predicted minus true latents; zero where there is none yet.
      filled: how many there are.
      place: where the next one goes.
    """

    residuals: Float[Array, "size rows cols ch"]
    filled: Int[Array, ""]
    place: Int[Array, ""]


def empty_archive(config: ModelConfig) -> Archive | None:
    """The archive before the first step; None where frames get no errors of it."""
    memory = config.memory
    if memory.frames != "archive" or memory.kind == "none":
        return None
    zero = jnp.zeros((), jnp.int32)
    return Archive(jnp.zeros((memory.archive, *config.latent), config.state_dtype), zero, zero)


def record(
    memory: MemoryConfig,
    archive: Archive,
    residuals: Float[Array, "b k w rows cols ch"],
    levels: Int[Array, "b k w"],
) -> Archive:
    """The archive after the residuals of a step: those of the levels that count take the places of the oldest ones."""
    size, (lowest, highest) = memory.archive, memory.resample_levels
    levels = rearrange(levels, "b k w -> (b k w)")
    counts = (lowest <= levels) & (levels <= highest)
    number, total = jnp.cumsum(counts) - 1, counts.sum()
    # If there are more than places, only the last ones: two for one place would have no order.
    counts &= number >= total - size
    place = jnp.where(counts, (archive.place + number) % size, size)  # size: nowhere
    values = rearrange(residuals, "b k w ... -> (b k w) ...").astype(archive.residuals.dtype)
    return Archive(
        archive.residuals.at[place].set(values, mode="drop"),
        jnp.minimum(archive.filled + total, size),
        (archive.place + total) % size,
    )


def add_errors(
    memory: MemoryConfig,
    archive: Archive,
    frames: Float[Array, "b t rows cols ch"],
    choice: Float[Array, "b t"],
    scale: Float[Array, "b t"],
) -> Float[Array, "b t rows cols ch"]:
    """Frames, each with an error of the archive.

    Args:
      choice: in [0, 1), which of the errors there are.
      scale: in [0, 1), how much of it, as a share of ``memory.archive_scale``.
    """
    scale = scale * memory.archive_scale * (jnp.arange(frames.shape[1]) >= memory.resample_after)
    # Rounding may take a choice close to 1 to the end; an empty archive has a zero at its first place.
    index = jnp.minimum((choice * archive.filled).astype(jnp.int32), jnp.maximum(archive.filled - 1, 0))
    return frames + (scale[..., None, None, None] * archive.residuals[index]).astype(frames.dtype)
