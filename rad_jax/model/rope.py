"""Rotary position embeddings (RoPE), as in the Oasis model that RAD's Minecraft base descends from.

Pairs of neighbouring features are rotated. Tables are computed on the host: angles in bfloat16 are wrong by a radian after a
thousand positions. Those in space reach hundreds of radians, of which float32 keeps five digits behind the point; they are
rounded as the Oasis programs round them, so that weights trained there see the same numbers.
"""

import math

import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat
from jax.typing import ArrayLike

from rad_jax.arrays import linspace
from rad_jax.axes import Array, Float
from rad_jax.config import ModelConfig

TEMPORAL_BASE = 10_000.0
SPATIAL_MAX_FREQUENCY = 256.0
TURNS = 7  # multiples of the heading: 0..6
REACHES = (1.0, 2.0, 4.0)  # radians per unit of a weighted position
GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))  # between the directions of neighbouring pairs, which so never repeat


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


def pose_angles(
    pose: Float[Array, "*b p"], rows: int, columns: int, head_width: int, view_angle: float | None = None
) -> Float[Array, "*b n e"]:
    """Angles of the tokens of a frame that was seen from ``pose``: positions, then cosine and sine of the heading.

    Pair i turns by `spatial_angles`, by i mod `TURNS` times the heading, and by the position along a direction of its own, at
    one of `REACHES`. So a token's address is its place in the frame and its pose in one, and what two addresses have in
    common depends on their difference alone. The heading enters in whole multiples, so that a full turn changes nothing.

    Args:
      view_angle: of the camera, in radians, from the left edge of the frame to the right one. Then the heading is that of the
        ray of the token's column, in place of the column: a wall has one address in whatever column it is seen. Headings
        grow to the left.
    """
    pairs = head_width // 2
    turns = np.arange(pairs) % TURNS
    place = spatial_angles(rows, columns, head_width)
    if view_angle is not None:
        of_column = np.arange(head_width) >= head_width // 2
        ray = repeat(np.linspace(-1, 1, columns), "j -> (i j) 1", i=rows) * -view_angle / 2
        place = np.where(of_column, 0.0, place) + ray * np.repeat(turns, 2)
    heading = jnp.arctan2(pose[..., -1:], pose[..., -2:-1])
    angles = heading * turns
    if positions := pose.shape[-1] - 2:
        reach = np.asarray(REACHES)[np.arange(pairs) % len(REACHES)]
        direction = GOLDEN_ANGLE * np.arange(pairs)
        axes = np.stack([np.cos(direction + axis * np.pi / positions) for axis in range(positions)])
        angles = angles + pose[..., :-2] @ jnp.asarray(reach * axes, pose.dtype)
    return repeat(angles, "... f -> ... 1 (f r)", r=2) + jnp.asarray(place, pose.dtype)


def token_angles(
    config: ModelConfig, head_width: int, *pose: Float[Array, "b t p"]
) -> Float[Array | np.ndarray, "*b n 1 e"]:
    """By which heads of tokens are rotated: their place in the frame, and with a pose also where the frame was seen from."""
    grid, memory = config.grid, config.memory
    if not pose:
        return spatial_angles(*grid, head_width)[:, None]
    view = math.radians(memory.view_angle) if memory.rotate == "ray" else None
    return pose_angles(*pose, *grid, head_width, view)[..., None, :]


def rotate(x: Float[Array, "*b e"], angles: ArrayLike) -> Float[Array, "*b e"]:
    """Rotates feature pairs (2i, 2i+1) of ``x`` by ``angles``, which broadcasts against ``x``."""
    precision = jnp.promote_types(x.dtype, jnp.float32)
    known = (
        np if isinstance(angles, np.ndarray) else jnp
    )  # of what is known beforehand, the program holds the result
    angles = known.asarray(angles, precision)
    even, odd = jnp.moveaxis(rearrange(x.astype(precision), "... (f r) -> ... f r", r=2), -1, 0)
    turned = rearrange(jnp.stack([-odd, even]), "r ... f -> ... (f r)")
    return (x * known.cos(angles) + turned * known.sin(angles)).astype(x.dtype)
