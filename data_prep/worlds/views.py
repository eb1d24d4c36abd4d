"""What the renderers share: levels of detail of procedural textures, and drawing every view once."""

from collections.abc import Callable

import numpy as np
from einops import reduce, repeat
from jaxtyping import Float, Int, Shaped, UInt8
from numpy.typing import ArrayLike


def mipmaps(
    textures: Float[np.ndarray, "*k y x c"], levels: int, factor: int
) -> Float[np.ndarray, "l *k y x c"]:
    """The textures, box-filtered by ``factor ** level``, in float32.

    Every level is repeated to full size, so that one index serves all levels.
    """
    out = []
    for level in range(levels):
        side = factor**level
        coarse = reduce(textures, "... (y i) (x j) c -> ... y x c", "mean", i=side, j=side)
        out.append(repeat(coarse, "... y x c -> ... (y i) (x j) c", i=side, j=side))
    return np.stack(out).astype(np.float32)


def draw_views(
    keys: Shaped[np.ndarray, "v k"],
    together: int,
    draw: Callable[[Int[np.ndarray, " rows"]], ArrayLike],
) -> UInt8[np.ndarray, "v H W 3"]:
    """The frames of all views. Views whose keys are equal are drawn once.

    Args:
      keys: everything a view depends on.
      together: views of one call of ``draw``, always, so that a compiled program serves any number of views.
      draw: draws the views of some rows of ``keys``, uint8.
    """
    _, first, same_as = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    calls = [first[start : start + together] for start in range(0, len(first), together)]
    # The last call draws some of its views again.
    frames = [np.asarray(draw(np.resize(rows, together)))[: len(rows)] for rows in calls]
    return np.concatenate(frames)[same_as.reshape(-1)]
