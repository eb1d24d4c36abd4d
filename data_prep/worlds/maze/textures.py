"""Procedural wall and floor patterns: brightness maps of 32 x 32 texels at three levels of detail."""

from functools import cache

import numpy as np
from einops import reduce, repeat

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


@cache
def wall_patterns() -> np.ndarray:
    """Brightness of walls, (LEVELS, WALL_PATTERNS, TEXELS, TEXELS) float32 in [0.5, 1.1]."""
    random = np.random.RandomState(7)
    return _levels(np.stack([_pattern(random) for _ in range(WALL_PATTERNS)]))


@cache
def floor_patterns() -> np.ndarray:
    """Brightness of floors, (LEVELS, FLOOR_PATTERNS, TEXELS, TEXELS) float32 around 1, fainter than that of walls."""
    random = np.random.RandomState(3)
    maps = np.stack([_pattern(random) for _ in range(FLOOR_PATTERNS)])
    return _levels((maps - 1) * _FLOOR_CONTRAST + 1)


def _pattern(random: np.random.RandomState) -> np.ndarray:
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


def _levels(maps: np.ndarray) -> np.ndarray:
    """The maps at every level of detail, all repeated to full size so that one index serves all levels."""
    levels = []
    for level in range(LEVELS):
        side = 4**level
        coarse = reduce(maps, "p (y i) (x j) -> p y x", "mean", i=side, j=side)
        levels.append(repeat(coarse, "p y x -> p (y i) (x j)", i=side, j=side))
    return np.stack(levels).astype(np.float32)
