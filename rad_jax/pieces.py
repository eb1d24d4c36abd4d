"""A function of images over many images, a bounded number at a time, so that its activations need not all fit at once."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Shaped

from rad_jax.axes import Array


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
