"""How a maze looks: wall and floor patterns of 32 x 32 texels at three levels of detail, and the border of a frame."""

import math
from functools import cache

import numpy as np
from jaxtyping import Bool, Float

from data_prep.worlds.views import mipmaps

TEXELS = 32
WALL_PATTERNS = 8
FLOOR_PATTERNS = 2
LEVELS = 3  # box-filtered by 1, 4 and 16 texels

# Mean colours (red, green, blue in [0, 1]) of the eight wall textures of labmaze's style 01, one per wall pattern.
WALL_PALETTE = np.array(
    [
        (0.16, 0.55, 0.80),
        (0.75, 0.26, 0.42),
        (0.68, 0.80, 0.64),
        (0.37, 0.53, 0.31),
        (0.31, 0.33, 0.70),
        (0.88, 0.50, 0.43),
        (0.68, 0.14, 0.11),
        (0.82, 0.70, 0.16),
    ],
    np.float32,
)
# Floor colours of corridors and of rooms, one per floor pattern.
FLOOR_PALETTE = np.array([(0.085, 0.135, 0.165), (0.165, 0.215, 0.25)], np.float32)
_FLOOR_CONTRAST = 0.35

BORDER_BRIGHTNESS = 0.7  # of the colour of the target around a frame


@cache
def wall_patterns() -> Float[np.ndarray, "l k y x"]:
    """Brightness of walls, (LEVELS, WALL_PATTERNS, TEXELS, TEXELS) float32 in [0.5, 1.1]."""
    random = np.random.RandomState(7)
    return _levels([_pattern(random) for _ in range(WALL_PATTERNS)])


@cache
def floor_patterns() -> Float[np.ndarray, "l k y x"]:
    """Brightness of floors, (LEVELS, FLOOR_PATTERNS, TEXELS, TEXELS) float32 around 1, fainter than that of walls."""
    random = np.random.RandomState(3)
    return _levels([(_pattern(random) - 1) * _FLOOR_CONTRAST + 1 for _ in range(FLOOR_PATTERNS)])


def border(pixels: int) -> Bool[np.ndarray, "H W"]:
    """Where a frame shows the colour of the target: around its edge, as wide as in Memory Maze, at least one pixel."""
    width = max(int(2 * math.sqrt(pixels // 64)), 1)
    return np.pad(np.zeros((pixels - 2 * width,) * 2, bool), width, constant_values=True)


def _levels(patterns: list[np.ndarray]) -> Float[np.ndarray, "l k y x"]:
    return mipmaps(np.stack(patterns)[..., None], LEVELS, factor=4)[..., 0]


def _pattern(random: np.random.RandomState) -> Float[np.ndarray, "y x"]:
    """Ten faint rectangles and nine dark lines, all wrapping around the edges."""
    brightness = np.ones((TEXELS, TEXELS))
    for _ in range(10):
        rows = (random.randint(TEXELS) + np.arange(random.randint(4, 16))) % TEXELS
        columns = (random.randint(TEXELS) + np.arange(random.randint(4, 16))) % TEXELS
        brightness[np.ix_(rows, columns)] *= random.uniform(0.9, 1.08)
    for _ in range(9):
        line = (random.randint(TEXELS) + np.arange(random.randint(6, 32))) % TEXELS
        across = [random.randint(TEXELS)]
        cells = np.ix_(line, across) if random.rand() < 0.5 else np.ix_(across, line)
        brightness[cells] *= 0.68
    return np.clip(brightness, 0.5, 1.1)
