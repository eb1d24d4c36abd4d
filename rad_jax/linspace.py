"""Evenly spaced float32 numbers with the rounding of ``torch.linspace``.

Published weights were trained on tables made with it, and its last bit is visible: multiplied by hundreds of radians in a
rotary embedding, or cut to an integer as a level of the sampler.
"""

import numpy as np


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
