"""Rotary position embeddings (RoPE), as in the Oasis model that RAD's Minecraft base descends from.

Pairs of neighbouring features are rotated. Tables are computed on the host: angles in bfloat16 are wrong by a radian after a
thousand positions. Those in space reach hundreds of radians, of which float32 keeps five digits behind the point; they are
rounded as the Oasis programs round them, so that weights trained there see the same numbers.
"""

import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat
from jax.typing import ArrayLike

from rad_jax.arrays import linspace
from rad_jax.axes import Array, Float

TEMPORAL_BASE = 10_000.0
SPATIAL_MAX_FREQUENCY = 256.0


def temporal_frequencies(head_width: int) -> np.ndarray:
    """Radians per frame of the ``head_width / 2`` pairs."""
    return TEMPORAL_BASE ** (-np.arange(0, head_width, 2) / head_width)


def spatial_frequencies(head_width: int, max_frequency: float = SPATIAL_MAX_FREQUENCY) -> np.ndarray:
    """Radians per half of the frame's height (or width) of the ``head_width / 4`` pairs of each of the two axes."""
    return np.float32(np.pi) * linspace(1, max_frequency / 2, head_width // 4)


def temporal_angles(frames: int, head_width: int) -> np.ndarray:
    """Angles (frames, head_width) of positions 0..frames-1, relative to the start of the window."""
    frequency = temporal_frequencies(head_width)
    return repeat(np.arange(frames)[:, None] * frequency, "t f -> t (f r)", r=2)


def spatial_angles(
    rows: int, columns: int, head_width: int, max_frequency: float = SPATIAL_MAX_FREQUENCY
) -> np.ndarray:
    """Angles (rows * columns, head_width): the first half of the features turns with the row, the second with the column."""
    frequency = spatial_frequencies(head_width, max_frequency)

    def axis(length: int) -> np.ndarray:
        return repeat(linspace(-1, 1, length)[:, None] * frequency, "p f -> p (f r)", r=2)

    row = repeat(axis(rows), "i f -> i j f", j=columns)
    column = repeat(axis(columns), "j f -> i j f", i=rows)
    return rearrange(np.concatenate([row, column], axis=-1, dtype=np.float64), "i j f -> (i j) f")


def rotate(x: Float[Array, "*b e"], angles: ArrayLike) -> Float[Array, "*b e"]:
    """Rotates feature pairs (2i, 2i+1) of ``x`` by ``angles``, which broadcasts against ``x``."""
    precision = jnp.promote_types(x.dtype, jnp.float32)
    angles = jnp.asarray(angles, precision)
    even, odd = jnp.moveaxis(rearrange(x.astype(precision), "... (f r) -> ... f r", r=2), -1, 0)
    turned = rearrange(jnp.stack([-odd, even]), "r ... f -> ... (f r)")
    return (x * jnp.cos(angles) + turned * jnp.sin(angles)).astype(x.dtype)
