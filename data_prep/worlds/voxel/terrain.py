"""A random world: hills and lakes from periodic noise, then trees, huts, boulders and flowers as landmarks."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from data_prep.worlds.voxel import blocks

SIZE = 128  # blocks along x and z; the view ends at 60, so that no place is in sight twice
HEIGHT = 48
WATER_LEVEL = 10  # y of the topmost blocks of water
_BASE = 18  # mean height of the ground
_NOISE = ((64, 14.0), (32, 7.0), (16, 4.0), (8, 1.5))  # cell size and amplitude of every octave
_LOWEST, _HIGHEST = 4, 33  # of the ground; trees and huts and who stands on them stay below the top
_SNOW_LINE, _BEACH = 26, 1


@dataclass(frozen=True)
class World:
    """Blocks of a world and the height of its ground before anything grew or was built on it.

    Attributes:
      blocks: index into `blocks.NAMES`; SIZE cells along x and z, HEIGHT along y.
      ground: y of the topmost block of the bare ground, water not counted.
    """

    blocks: UInt8[np.ndarray, "x y z"]
    ground: Int[np.ndarray, "x z"]

    @cached_property
    def obstacles(self) -> Bool[np.ndarray, "x y z"]:
        """Where the player cannot be. Players do not swim, so the air above water counts as blocked."""
        lake = (self.blocks == blocks.WATER).any(axis=1, keepdims=True)
        return (self.blocks != blocks.AIR) | lake


def offset(
    position: Float[np.ndarray, "*n 3"], other: Float[np.ndarray, "*m 3"]
) -> Float[np.ndarray, "*nm 3"]:
    """The difference of positions x, y, z in blocks, the short way around the world."""
    difference = position - other
    around = difference[..., [0, 2]]
    difference[..., [0, 2]] = np.mod(around + SIZE / 2, SIZE) - SIZE / 2
    return difference


def random_world(rng: np.random.Generator) -> World:
    """A random world; it wraps around at its edges."""
    ground = np.clip(np.round(_BASE + _noise(rng)), _LOWEST, _HIGHEST).astype(np.int64)
    world = World(_layers(ground), ground)
    for put, tries in _LANDMARKS.items():
        for _ in range(tries):
            x, z = rng.integers(SIZE, size=2).tolist()
            y = int(ground[x, z])
            if world.blocks[x, y, z] == blocks.GRASS and world.blocks[x, y + 1, z] == blocks.AIR:
                put(rng, world, x, y, z)
    return world


def _noise(rng: np.random.Generator) -> Float[np.ndarray, "x z"]:
    """Value noise of all octaves, periodic: random values at the corners of cells, smoothly blended in between."""
    total = np.zeros((SIZE, SIZE))
    for cell, amplitude in _NOISE:
        corners = rng.uniform(-1, 1, (SIZE // cell, SIZE // cell))
        place, part = np.divmod(np.arange(SIZE), cell)
        after, blend = (place + 1) % len(corners), part / cell
        blend = blend * blend * (3 - 2 * blend)
        along_x = corners[place] + blend[:, None] * (corners[after] - corners[place])
        total += amplitude * (along_x[:, place] + blend * (along_x[:, after] - along_x[:, place]))
    return total


def _layers(ground: Int[np.ndarray, "x z"]) -> UInt8[np.ndarray, "x y z"]:
    """Stone, three blocks of earth, and what covers it by height and slope; water up to its level."""
    y = np.arange(HEIGHT)[None, :, None]
    top = ground[:, None]
    steepness = sum(np.abs(ground - np.roll(ground, 1, axis)) for axis in (0, 1))[:, None]
    beach = top <= WATER_LEVEL + _BEACH
    cover = np.select(
        [beach, steepness >= 4, top >= _SNOW_LINE], [blocks.SAND, blocks.STONE, blocks.SNOW], blocks.GRASS
    )
    earth = np.where(beach, blocks.SAND, np.where(steepness >= 4, blocks.STONE, blocks.DIRT))
    return np.select(
        [y < top - 3, y < top, y == top, y <= WATER_LEVEL],
        [blocks.STONE, earth, cover, blocks.WATER],
        blocks.AIR,
    ).astype(np.uint8)


def _box(world: World, x: int, y: int, z: int, size: tuple[int, int, int]) -> tuple[np.ndarray, ...]:
    """Indices of the blocks of a box that starts at a corner, wrapping around."""
    return np.ix_(*(np.arange(at, at + n) % m for at, n, m in zip((x, y, z), size, world.blocks.shape)))


def _grow_tree(rng: np.random.Generator, world: World, x: int, y: int, z: int) -> None:
    foot, trunk = y + 1, int(rng.integers(4, 7))
    for level, radius in zip(range(foot + trunk - 2, foot + trunk + 2), (2, 2, 1, 1), strict=True):
        layer = _box(world, x - radius, level, z - radius, (2 * radius + 1, 1, 2 * radius + 1))
        # Corners are left out at random, so that no two trees are alike.
        leaf = rng.random((2 * radius + 1, 1, 2 * radius + 1)) < 0.5
        leaf[:, :, 1:-1] = leaf[1:-1] = True
        current = world.blocks[layer]
        world.blocks[layer] = np.where(leaf & (current == blocks.AIR), blocks.LEAVES, current)
    world.blocks[x, foot : foot + trunk, z] = blocks.LOG
    world.blocks[x, y, z] = blocks.DIRT


def _build_hut(rng: np.random.Generator, world: World, x: int, y: int, z: int) -> None:
    """Four walls with a door and windows, on a foundation; of planks under cobble or of cobble under planks."""
    wide, deep = rng.integers(5, 8, 2)
    footprint = _box(world, x, 0, z, (wide, HEIGHT, deep))
    floor = int(np.median(world.ground[footprint[0][:, 0, 0]][:, footprint[2][0, 0]]))
    wall, roof = rng.permuted([blocks.PLANKS, blocks.COBBLE])
    hut = world.blocks[footprint]
    hut[:, floor + 1 :] = blocks.AIR
    hut[:, max(floor - 4, 1) : floor + 1] = blocks.COBBLE
    hut[:, floor] = blocks.PLANKS
    room = hut[:, floor + 1 : floor + 5]
    room[[0, -1]] = room[:, :, [0, -1]] = wall
    room[:: wide - 1, :, :: deep - 1] = blocks.LOG  # the corners
    hut[:, floor + 5] = roof
    hut[1:-1, floor + 6, 1:-1] = roof
    hut[wide // 2, floor + 1 : floor + 3, 0 if rng.random() < 0.5 else -1] = blocks.AIR
    hut[0 if rng.random() < 0.5 else -1, floor + 2 : floor + 4, deep // 2] = blocks.AIR
    world.blocks[footprint] = hut
    world.ground[np.ix_(footprint[0][:, 0, 0], footprint[2][0, 0])] = floor


def _put_boulder(rng: np.random.Generator, world: World, x: int, y: int, z: int) -> None:
    rock = _box(world, x, y - 1, z, tuple(rng.integers(2, 4, 3)))
    world.blocks[rock] = np.where(world.blocks[rock] == blocks.AIR, blocks.COBBLE, world.blocks[rock])


def _sow_flowers(rng: np.random.Generator, world: World, x: int, y: int, z: int) -> None:
    """A patch of one colour: grass within three blocks, more often towards the middle."""
    flower = (blocks.RED_FLOWERS, blocks.YELLOW_FLOWERS)[rng.integers(2)]
    for dx, dz in rng.normal(0, 1.5, (14, 2)).round().astype(int):
        there = (x + dx) % SIZE, (z + dz) % SIZE
        column, top = world.blocks[there[0], :, there[1]], world.ground[there]
        if column[top] == blocks.GRASS:
            column[top] = flower


# In the order in which they are put, each at most so many times: where a random column is bare grass.
_LANDMARKS = {_build_hut: 6, _put_boulder: 24, _grow_tree: 120, _sow_flowers: 40}
