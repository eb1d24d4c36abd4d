"""Worlds: a layout with its surrounding wall, dressed with patterns, colours and targets."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from data_prep.worlds.maze import textures
from data_prep.worlds.maze.layout import Layout, random_layout, rules_for

# Colours of the targets of Memory Maze, in the order of its targets.
TARGET_PALETTE = (
    np.array(
        [(170, 38, 30), (99, 170, 88), (39, 140, 217), (93, 105, 199), (220, 193, 59), (220, 128, 107)],
        np.float32,
    )
    / 220
)
ROOM_SIZE = 3
_PILLAR_PROBABILITY = 0.3
ROOM_TARGETS = 2


@dataclass(frozen=True)
class World:
    """All that the renderer needs. Arrays over cells include the surrounding wall, one cell thick.

    Attributes:
      wall: 1 where a wall stands.
      wall_pattern: texture of the wall in a cell, below ``textures.WALL_PATTERNS``.
      wall_colour: in [0, 1].
      floor_pattern: 0 corridor, 1 room.
      targets: target centres (x, y) on the floor, in cells of the inner maze.
      target_colour: in [0, 1].
    """

    wall: UInt8[np.ndarray, "y x"]
    wall_pattern: UInt8[np.ndarray, "y x"]
    wall_colour: Float[np.ndarray, "y x 3"]
    floor_pattern: UInt8[np.ndarray, "y x"]
    targets: Float[np.ndarray, "k 2"]
    target_colour: Float[np.ndarray, "k 3"]

    @property
    def free(self) -> Bool[np.ndarray, "y x"]:
        """Free cells of the inner maze."""
        return self.wall[1:-1, 1:-1] == 0


def maze_world(rng: np.random.Generator, size: int) -> World:
    """A random Memory Maze: a layout whose walls are textured in 3 x 3 blocks.

    Raises:
      RecipeError: there are no mazes of this size (see ``layout.rules_for``).
    """
    layout = random_layout(rng, rules_for(size))
    blocks = rng.integers(textures.WALL_PATTERNS, size=(3, 3))
    block = np.searchsorted([(size + 2) // 3, 2 * (size + 2) // 3], np.arange(size + 2), side="right")
    pattern = blocks[np.ix_(block, block)]
    return _dress(layout, pattern, textures.WALL_PALETTE[pattern], TARGET_PALETTE[: len(layout.targets)])


def room_world(rng: np.random.Generator) -> World:
    """A random room of 3 x 3 cells to look around in from its middle.

    Every wall cell has a random colour of its own; pillars stand in some of the corners; two targets, of random colours too,
    lie in cells that are neither the middle nor a pillar.
    """
    free = np.ones((ROOM_SIZE, ROOM_SIZE), bool)
    free[::2, ::2] = rng.random((2, 2)) >= _PILLAR_PROBABILITY
    places = [(x, y) for y in range(3) for x in range(3) if free[y, x] and (x, y) != (1, 1)]
    targets = np.array(places)[rng.permutation(len(places))[:ROOM_TARGETS]]
    outer = (ROOM_SIZE + 2, ROOM_SIZE + 2)
    pattern = rng.integers(textures.WALL_PATTERNS, size=outer)
    colour = rng.uniform(0.05, 1, (*outer, 3))
    layout = Layout(free, np.ones_like(free), targets)
    return _dress(layout, pattern, colour, rng.uniform(0.05, 1, (ROOM_TARGETS, 3)))


def _dress(
    layout: Layout,
    wall_pattern: Int[np.ndarray, "y x"],
    wall_colour: Float[np.ndarray, "y x 3"],
    target_colour: Float[np.ndarray, "k 3"],
) -> World:
    return World(
        wall=np.pad(~layout.free, 1, constant_values=True).astype(np.uint8),
        wall_pattern=wall_pattern.astype(np.uint8),
        wall_colour=wall_colour.astype(np.float32),
        floor_pattern=np.pad(layout.room, 1).astype(np.uint8),
        targets=(layout.targets + 0.5).astype(np.float32),
        target_colour=target_colour.astype(np.float32),
    )
