"""The mouse pointer, which a recording of the game's picture lacks while an inventory or a menu is open."""

import numpy as np
from jaxtyping import Float, UInt8

SCREEN_ROWS = 720  # of the screen in whose pixels positions are given
_ARROW = """
#
##
#.#
#..#
#...#
#....#
#.....#
#......#
#.......#
#........#
#.....####
#..#..#
#.# #..#
##  #..#
     #..#
     ####
"""
_PIXELS = [
    (row, column, 0 if cell == "#" else 255)
    for row, line in enumerate(_ARROW.strip("\n").split("\n"))
    for column, cell in enumerate(line)
    if cell != " "
]
_ROWS, _COLUMNS, _SHADES = np.array(_PIXELS).T


def with_pointer(
    frame: UInt8[np.ndarray, "H W 3"], tip: Float[np.ndarray, "2"]
) -> UInt8[np.ndarray, "H W 3"]:
    """A frame with the pointer in it, whose tip is at (x, y) of the screen; NaN draws nothing."""
    if np.isnan(tip).any():
        return frame
    left, top = (int(p) for p in tip * (frame.shape[0] / SCREEN_ROWS))
    rows, columns = _ROWS + top, _COLUMNS + left
    inside = (rows >= 0) & (rows < frame.shape[0]) & (columns >= 0) & (columns < frame.shape[1])
    frame = frame.copy()
    frame[rows[inside], columns[inside]] = _SHADES[inside, None]
    return frame
