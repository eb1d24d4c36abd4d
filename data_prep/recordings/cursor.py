"""The mouse pointer, which a recording of the game's picture lacks while an inventory or a menu is open."""

import numpy as np
from jaxtyping import Float, UInt8

from data_prep.recordings.video import Draw

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
_SHADES = {"#": 0, ".": 255}


def _arrow() -> tuple[UInt8[np.ndarray, "h w"], np.ndarray]:
    lines = _ARROW.strip("\n").split("\n")
    width = max(map(len, lines))
    cells = np.array([list(line.ljust(width)) for line in lines])
    return np.vectorize(lambda cell: _SHADES.get(cell, 0), otypes=[np.uint8])(cells), cells != " "


def pointer(cursor: Float[np.ndarray, "t 2"]) -> Draw:
    """A function that draws the pointer into frame t, its tip at ``cursor[t]`` (x, y); NaN draws nothing."""
    shade, opaque = _arrow()

    def draw(index: int, frame: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        if np.isnan(cursor[index]).any():
            return frame
        left, top = (int(p) for p in cursor[index] * (frame.shape[0] / SCREEN_ROWS))
        rows, columns = (part[opaque] for part in np.indices(opaque.shape))
        inside = (rows + top < frame.shape[0]) & (columns + left < frame.shape[1])
        inside &= (rows + top >= 0) & (columns + left >= 0)
        frame = frame.copy()
        frame[rows[inside] + top, columns[inside] + left] = shade[opaque][inside, None]
        return frame

    return draw
