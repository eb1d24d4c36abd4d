"""Small functions of arrays: evenly spaced numbers, frames of videos, bounded batches of images, content hashes."""

import hashlib
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Shaped

from rad_jax.axes import Array, Int


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


def fit(length: int, x: Shaped[Array, "..."], axis: int = 1) -> Shaped[Array, "..."]:
    """The first ``length`` entries of ``x`` along ``axis``, with zeros behind its end if it has fewer."""
    x = jax.lax.slice_in_dim(x, 0, min(length, x.shape[axis]), axis=axis)
    padding = [(0, 0)] * x.ndim
    padding[axis] = (0, length - x.shape[axis])
    return jnp.pad(x, padding)


def window_of(x: Shaped[Array, "b t ..."], start: Int[Array, "b"], length: int) -> Shaped[Array, "b w ..."]:
    """The ``length`` frames of every video from its own ``start`` on; ``start + length`` must not be beyond the end."""
    return jax.vmap(lambda video, first: jax.lax.dynamic_slice_in_dim(video, first, length))(x, start)


def apply_in_chunks(
    function: Callable[..., Array], at_once: int, *arrays: Shaped[Array, "..."]
) -> Shaped[Array, "..."]:
    """Applies a per-image function to many images in chunks, to bound the memory of its activations.

    Args:
      function: of arrays (m, H, W, C); treats every image by itself.
      at_once: images of a chunk at most, but never fewer than one frame of every video.
      arrays: arguments of ``function`` (..., t, H, W, C), all of the same leading axes.

    Returns:
      What one call on all images would give, (..., t, *what the function makes of an image).

    The time axis is cut: the axes before it may be sharded over devices, and stay so. A chunk takes every so many-th frame
    rather than neighbours, so that a sharded time axis stays so too.
    """
    leading = arrays[0].shape[:-3]
    count, frames = math.prod(leading), leading[-1] if leading else 1
    if count <= max(1, at_once) or frames == 1:
        results = function(*(x.reshape(count, *x.shape[-3:]) for x in arrays))
        return results.reshape(*leading, *results.shape[1:])
    chunks = -(-frames // max(1, at_once // math.prod(leading[:-1])))
    each = -(-frames // chunks)

    def cut(x: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        padding = [(0, 0)] * (x.ndim - 4) + [(0, each * chunks - frames)] + [(0, 0)] * 3
        x = rearrange(jnp.pad(x, padding), "... (t k) h w c -> k ... t h w c", k=chunks)
        return x.reshape(chunks, -1, *x.shape[-3:])

    results = jax.lax.map(lambda chunk: function(*chunk), tuple(map(cut, arrays)))
    results = results.reshape(chunks, *leading[:-1], each, *results.shape[2:])
    results = jnp.moveaxis(results, 0, len(leading))
    results = results.reshape(*leading[:-1], each * chunks, *results.shape[len(leading) + 1 :])
    return jax.lax.slice_in_dim(results, 0, frames, axis=len(leading) - 1)


def fingerprint(tensors: Mapping[str, np.ndarray]) -> str:
    """sha256 over names, types, shapes and bytes, whatever the order of the tensors."""
    digest = hashlib.sha256()
    for name, array in sorted(tensors.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
