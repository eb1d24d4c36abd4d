"""The kinds of blocks and what they look like: 16 x 16 texels for the sides, the top and the bottom, at five levels of detail.

All textures are drawn by the rules below; none is taken from a game.
"""

from functools import cache

import numpy as np
from einops import repeat
from jaxtyping import Float

from data_prep.worlds.views import mipmaps

NAMES = (
    *("air", "grass", "dirt", "stone", "sand", "water", "log", "leaves", "snow"),
    *("planks", "cobble", "red_flowers", "yellow_flowers"),
)
AIR, GRASS, DIRT, STONE, SAND, WATER, LOG, LEAVES, SNOW, PLANKS, COBBLE, RED_FLOWERS, YELLOW_FLOWERS = range(
    len(NAMES)
)

SIDE, TOP, BOTTOM = range(3)
TEXELS = 16
LEVELS = 5  # box-filtered by 1, 2, 4, 8 and 16 texels

Texture, Brightness = Float[np.ndarray, "y x 3"], Float[np.ndarray, "y x"]

_GREEN, _BROWN, _GREY = (0.40, 0.62, 0.24), (0.50, 0.35, 0.23), (0.50, 0.50, 0.52)


@cache
def textures() -> Float[np.ndarray, "l blocks faces y x 3"]:
    """Colours in [0, 1], float32, rows from the top of a side downwards."""
    random = np.random.default_rng(11)
    grass, dirt, stone = (_grain(random, colour, 0.10) for colour in (_GREEN, _BROWN, _GREY))
    stone = stone * _blotches(random, 10, (2, 6), 0.88)[..., None]
    sand = _grain(random, (0.87, 0.80, 0.56), 0.05)
    snow = _grain(random, (0.93, 0.95, 0.98), 0.025)
    water = _grain(random, (0.20, 0.38, 0.75), 0.04) * _waves()[..., None]
    leaves = _grain(random, (0.20, 0.42, 0.15), 0.22) * _blotches(random, 22, (1, 3), 0.6)[..., None]
    sides = {
        GRASS: _fringed(random, dirt, grass),
        DIRT: dirt,
        STONE: stone,
        SAND: sand,
        WATER: water,
        LOG: random.uniform(0.65, 1.1, (1, TEXELS, 1)) * _grain(random, (0.40, 0.30, 0.19), 0.10),
        LEAVES: leaves,
        SNOW: _fringed(random, dirt, snow),
        PLANKS: _boards(random),
        COBBLE: _pebbles(random),
    }
    ends = {GRASS: grass, SNOW: snow, LOG: _rings(random)}
    for block, colour in ((RED_FLOWERS, (0.86, 0.13, 0.12)), (YELLOW_FLOWERS, (0.98, 0.85, 0.12))):
        sides[block] = sides[GRASS]
        ends[block] = _blossoms(random, grass, colour)
    faces = np.zeros((len(NAMES), 3, TEXELS, TEXELS, 3))
    for block, side in sides.items():
        faces[block] = side, ends.get(block, side), dirt if block in (GRASS, SNOW) else side
        if block == LOG:
            faces[block, BOTTOM] = ends[LOG]
    return mipmaps(np.clip(faces, 0, 1), LEVELS, factor=2)


def _grain(random: np.random.Generator, colour: tuple[float, float, float], contrast: float) -> Texture:
    """A colour whose brightness varies from texel to texel, and a little in broader spots."""
    fine = random.uniform(-1, 1, (TEXELS, TEXELS))
    broad = repeat(random.uniform(-1, 1, (4, 4)), "y x -> (y i) (x j)", i=4, j=4)
    return np.array(colour) * (1 + contrast * (0.7 * fine + 0.5 * broad))[..., None]


def _blotches(
    random: np.random.Generator, count: int, sides: tuple[int, int], brightness: float
) -> Brightness:
    """Brightness with darker rectangles that wrap around the edges."""
    out = np.ones((TEXELS, TEXELS))
    for _ in range(count):
        rows, columns = (
            (random.integers(TEXELS) + np.arange(random.integers(*sides))) % TEXELS for _ in "yx"
        )
        out[np.ix_(rows, columns)] *= brightness
    return np.maximum(out, brightness**2)


def _waves() -> Brightness:
    y, x = np.mgrid[:TEXELS, :TEXELS]
    phase = 2 * np.pi * (y / 8 + 0.12 * np.sin(2 * np.pi * x / TEXELS))
    return 1 + 0.10 * np.sin(phase)


def _fringed(random: np.random.Generator, below: Texture, above: Texture) -> Texture:
    """A side whose upper three to five rows are those of another texture."""
    depth = random.integers(3, 6, TEXELS)
    return np.where((np.arange(TEXELS)[:, None] < depth)[..., None], above, below)


def _rings(random: np.random.Generator) -> Texture:
    y, x = np.mgrid[:TEXELS, :TEXELS] - (TEXELS - 1) / 2
    ring = np.maximum(np.abs(x), np.abs(y)).astype(int) % 2
    return _grain(random, (0.68, 0.54, 0.33), 0.05) * (1 - 0.2 * ring)[..., None]


def _boards(random: np.random.Generator) -> Texture:
    """Four boards above one another, with dark joints."""
    y, x = np.mgrid[:TEXELS, :TEXELS]
    board = random.uniform(0.88, 1.05, 4)[y // 4]
    joint = (y % 4 == 3) | (x == np.array([3, 11, 6, 14])[y // 4])
    return _grain(random, (0.72, 0.55, 0.32), 0.05) * (board * np.where(joint, 0.65, 1))[..., None]


def _pebbles(random: np.random.Generator) -> Texture:
    """Stones around scattered centres (wrapping around), with dark joints between them."""
    centres = random.uniform(0, TEXELS, (14, 2))
    place = np.stack(np.mgrid[:TEXELS, :TEXELS], -1)[:, :, None] + 0.5
    away = np.abs(place - centres)
    away = np.minimum(away, TEXELS - away)
    distance = np.sort(np.linalg.norm(away, axis=-1), axis=-1)
    nearest = np.linalg.norm(away, axis=-1).argmin(-1)
    brightness = random.uniform(0.75, 1.15, 14)[nearest] * np.where(
        distance[..., 1] - distance[..., 0] < 1, 0.55, 1
    )
    return _grain(random, (0.55, 0.55, 0.55), 0.05) * brightness[..., None]


def _blossoms(random: np.random.Generator, ground: Texture, colour: tuple[float, float, float]) -> Texture:
    out = ground.copy()
    for y, x in random.integers(TEXELS, size=(9, 2)):
        rows, columns = (np.arange(at, at + 3) % TEXELS for at in (y, x))
        out[np.ix_(rows, columns)] = np.array(colour) * random.uniform(0.85, 1.1)
    return out
