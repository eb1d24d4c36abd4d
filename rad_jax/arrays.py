"""Small functions of arrays: evenly spaced numbers, bounded batches of images, content hashes."""

import hashlib
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Shaped

from rad_jax.axes import Array


def linspace(first: int | float, last: int | float, count: int) -> np.ndarray:
    """``count`` points (count,) float32 from ``first`` to ``last``, each counted from the nearer of the two."""
    first, last = np.float32(first), np.float32(last)
    if count == 1:
        return np.array([first])
    # A float32 step, then a fused multiply-add: the product is exact in float64, and only the sum is rounded.
    step = np.float64((last - first) / np.float32(count - 1))
    index = np.arange(count)
    points = np.where(index < count // 2, first + step * index, last - step * index[::-1])
    return points.astype(np.float32)


def in_pieces(
    function: Callable[..., Array], at_once: int, *arrays: Shaped[Array, "..."]
) -> Shaped[Array, "..."]:
    """``function`` of arrays (m, H, W, C), applied to arrays (..., H, W, C) of the same leading axes.

    At most ``at_once`` images are computed together, but never less than one frame of everything. It is the last leading axis,
    time, that is cut: the axes before it may be split over devices, and stay so. Every piece takes frames from all over that
    axis, so that it too may be split if it is the only one. The results are those of one call as long as ``function`` treats
    every image by itself.
    """
    leading = arrays[0].shape[:-3]
    count, frames = math.prod(leading), leading[-1] if leading else 1
    if count <= max(1, at_once) or frames == 1:
        results = function(*(x.reshape(count, *x.shape[-3:]) for x in arrays))
        return results.reshape(*leading, *results.shape[1:])
    pieces = -(-frames // max(1, at_once // math.prod(leading[:-1])))
    each = -(-frames // pieces)

    def cut(x):
        padding = [(0, 0)] * (x.ndim - 4) + [(0, each * pieces - frames)] + [(0, 0)] * 3
        x = rearrange(jnp.pad(x, padding), "... (t k) h w c -> k ... t h w c", k=pieces)
        return x.reshape(pieces, -1, *x.shape[-3:])

    results = jax.lax.map(lambda piece: function(*piece), tuple(map(cut, arrays)))
    results = results.reshape(pieces, *leading[:-1], each, *results.shape[2:])
    results = jnp.moveaxis(results, 0, len(leading))
    results = results.reshape(*leading[:-1], each * pieces, *results.shape[len(leading) + 1 :])
    return jax.lax.slice_in_dim(results, 0, frames, axis=len(leading) - 1)


def fingerprint(tensors: Mapping[str, np.ndarray]) -> str:
    """sha256 over names, types, shapes and bytes, whatever the order of the tensors."""
    digest = hashlib.sha256()
    for name, array in sorted(tensors.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
