"""How far every empty cell is from the nearest block, which is how far a ray may leap without looking."""

import numpy as np
from einops import rearrange
from jaxtyping import UInt8, UInt64

FARTHEST = 15  # larger distances are set to it
_BITS = 64


def chebyshev_distance(blocks: UInt8[np.ndarray, "x y z"]) -> UInt8[np.ndarray, "x y z"]:
    """Distance, as the largest coordinate difference, to the nearest cell that is not air; 0 inside blocks.

    x and z wrap around, y does not: below and above the grid there is nothing. At most `FARTHEST`. A column of cells is one
    integer with a bit for each cell, so that a few operations grow the neighbourhood of all blocks by a cell.

    Raises:
      ValueError: more than 64 cells along y.
    """
    height = blocks.shape[1]
    if height > _BITS:
        raise ValueError(f"{height} cells along y, expected at most {_BITS}")
    cells = np.zeros((blocks.shape[0], blocks.shape[2], _BITS), bool)
    cells[..., :height] = rearrange(blocks, "x y z -> x z y") != 0
    near = np.packbits(cells, axis=-1, bitorder="little").view("<u8")[..., 0]
    distance = np.zeros(cells.shape, np.uint8)
    for _ in range(FARTHEST):
        distance += 1 - _bits(near)
        near = near | near << 1 | near >> 1
        for axis in (0, 1):
            near = near | np.roll(near, 1, axis) | np.roll(near, -1, axis)
    return rearrange(distance[..., :height], "x z y -> x y z")


def _bits(columns: UInt64[np.ndarray, "x z"]) -> UInt8[np.ndarray, "x z y"]:
    return np.unpackbits(columns[..., None].view(np.uint8), axis=-1, bitorder="little")
