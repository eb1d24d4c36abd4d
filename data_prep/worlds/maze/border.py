"""The border of a frame: the colour of the target that is shown."""

import math

BORDER_BRIGHTNESS = 0.7


def border_width(pixels: int) -> int:
    """Width of the target-colour border of Memory Maze, at least one pixel."""
    return max(int(2 * math.sqrt(pixels // 64)), 1)
