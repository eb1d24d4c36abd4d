"""Rotary position embeddings (RoPE), as in the Oasis model that RAD's Minecraft base descends from.

Pairs of neighbouring features are rotated. Tables are computed in float64 on the host: angles in bfloat16 are wrong by
a radian after a thousand positions.
"""

import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat

from rad_jax.axes import Array, Float

TEMPORAL_BASE = 10_000.0
SPATIAL_MAX_FREQUENCY = 256.0


def temporal_angles(frames: int, head_width: int) -> np.ndarray:
    """Angles (frames, head_width) of positions 0..frames-1, relative to the start of the window."""
    frequency = TEMPORAL_BASE ** (-np.arange(0, head_width, 2) / head_width)
    return repeat(np.arange(frames)[:, None] * frequency, "t f -> t (f r)", r=2)


def spatial_angles(rows: int, columns: int, head_width: int) -> np.ndarray:
    """Angles (rows * columns, head_width): the first half of the features turns with the row, the second with the column."""
    frequency = np.pi * np.linspace(1, SPATIAL_MAX_FREQUENCY / 2, head_width // 4)

    def axis(length):
        return repeat(np.linspace(-1, 1, length)[:, None] * frequency, "p f -> p (f r)", r=2)

    row = repeat(axis(rows), "i f -> i j f", j=columns)
    column = repeat(axis(columns), "j f -> i j f", i=rows)
    return rearrange(np.concatenate([row, column], axis=-1), "i j f -> (i j) f")


def rotate(x: Float[Array, "*b e"], angles) -> Float[Array, "*b e"]:
    """Rotates feature pairs (2i, 2i+1) of ``x`` by ``angles``, which broadcasts against ``x``."""
    precision = jnp.promote_types(x.dtype, jnp.float32)
    angles = jnp.asarray(angles, precision)
    even, odd = jnp.moveaxis(rearrange(x.astype(precision), "... (f r) -> ... f r", r=2), -1, 0)
    turned = rearrange(jnp.stack([-odd, even]), "r ... f -> ... (f r)")
    return (x * jnp.cos(angles) + turned * jnp.sin(angles)).astype(x.dtype)
