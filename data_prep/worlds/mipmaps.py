"""Levels of detail of procedural textures."""

import numpy as np
from einops import reduce, repeat
from jaxtyping import Float


def mipmaps(
    textures: Float[np.ndarray, "k y x c"], levels: int, factor: int
) -> Float[np.ndarray, "l k y x c"]:
    """The textures, box-filtered by ``factor ** level``, in float32.

    Every level is repeated to full size, so that one index serves all levels.
    """
    out = []
    for level in range(levels):
        side = factor**level
        coarse = reduce(textures, "k (y i) (x j) c -> k y x c", "mean", i=side, j=side)
        out.append(repeat(coarse, "k y x c -> k (y i) (x j) c", i=side, j=side))
    return np.stack(out).astype(np.float32)
