"""Random maze layouts in the manner of labmaze: rooms and corridors on an odd lattice, every free cell connected."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from data_prep.worlds.recipe import RecipeError

SMALLEST_SIZE, LARGEST_SIZE = 3, 31
_ROOM_TRIES = 60
_EXTRA_DOOR_PROBABILITY = 0.25
_STEPS = ((1, 0), (-1, 0), (0, 1), (0, -1))


@dataclass(frozen=True)
class LayoutRules:
    """What a maze of one size holds. Room sides are odd numbers of cells from 3 to ``room_max``."""

    size: int
    targets: int
    max_rooms: int
    room_max: int = 5


@dataclass(frozen=True)
class Layout:
    """One maze, without its surrounding wall.

    Attributes:
      free: cells one can stand in.
      room: cells of rooms.
      targets: ``(x, y)`` cells of the targets.
    """

    free: Bool[np.ndarray, "y x"]
    room: Bool[np.ndarray, "y x"]
    targets: Int[np.ndarray, "k 2"]


def rules_for(size: int) -> LayoutRules:
    """Rules of Memory Maze for 9, 11, 13 and 15; smaller mazes get as many rooms and targets as fit.

    Raises:
      RecipeError: the size is even or outside [3, 31].
    """
    if size % 2 == 0 or not SMALLEST_SIZE <= size <= LARGEST_SIZE:
        raise RecipeError(
            f"size: {size} is not a maze size, expected an odd number from {SMALLEST_SIZE} to {LARGEST_SIZE}"
        )
    if size <= 5:
        return LayoutRules(size, targets=1, max_rooms=1, room_max=3)
    if size == 7:
        return LayoutRules(size, targets=2, max_rooms=4, room_max=3)
    if size < 15:
        return LayoutRules(size, targets=(size - 3) // 2, max_rooms=6)
    return LayoutRules(size, targets=6, max_rooms=9, room_max=3)


def random_layout(rng: np.random.Generator, rules: LayoutRules) -> Layout:
    """Draw layouts until one has a room for every target."""
    while True:
        regions, rooms = _place_rooms(rng, rules)
        room = regions > 0
        _carve_corridors(rng, regions, first_region=len(rooms) + 1)
        free = _open_doors(rng, regions)
        _prune_dead_ends(free, room)
        if len(rooms) >= rules.targets:
            chosen = np.array(rooms)[rng.permutation(len(rooms))[: rules.targets]]
            targets = chosen[:, :2] + rng.integers(chosen[:, 2:])
            return Layout(free[1:-1, 1:-1], room[1:-1, 1:-1], targets - 1)


def _place_rooms(
    rng: np.random.Generator, rules: LayoutRules
) -> tuple[Int[np.ndarray, "y x"], list[tuple[int, int, int, int]]]:
    """Region map of the maze with its surrounding wall (0 wall, 1.. rooms) and the rooms ``(x, y, width, height)``."""
    outer = rules.size + 2
    regions = np.zeros((outer, outer), np.int32)
    rooms = []
    sides = np.arange(3, rules.room_max + 1, 2)
    for _ in range(_ROOM_TRIES):
        if len(rooms) == rules.max_rooms:
            break
        width, height = rng.choice(sides, 2)
        x = 1 + 2 * int(rng.integers((rules.size - width) // 2 + 1))
        y = 1 + 2 * int(rng.integers((rules.size - height) // 2 + 1))
        if not regions[y - 1 : y + height + 1, x - 1 : x + width + 1].any():
            rooms.append((x, y, int(width), int(height)))
            regions[y : y + height, x : x + width] = len(rooms)
    return regions, rooms


def _carve_corridors(rng: np.random.Generator, regions: Int[np.ndarray, "y x"], first_region: int) -> None:
    """Fill every lattice cell outside rooms with backtracking mazes, each a region of its own."""
    inside, region = range(1, len(regions) - 1), first_region
    for start in [(x, y) for y in inside[::2] for x in inside[::2]]:
        if regions[start[1], start[0]]:
            continue
        regions[start[1], start[0]] = region
        trail = [start]
        while trail:
            x, y = trail[-1]
            ahead = [
                (dx, dy)
                for dx, dy in _STEPS
                if x + 2 * dx in inside and y + 2 * dy in inside and not regions[y + 2 * dy, x + 2 * dx]
            ]
            if not ahead:
                trail.pop()
                continue
            dx, dy = ahead[rng.integers(len(ahead))]
            regions[y + dy, x + dx] = regions[y + 2 * dy, x + 2 * dx] = region
            trail.append((x + 2 * dx, y + 2 * dy))
        region += 1


def _open_doors(rng: np.random.Generator, regions: Int[np.ndarray, "y x"]) -> Bool[np.ndarray, "y x"]:
    """Free cells, after opening as many walls between regions as connect them, and a few more."""
    doors = []
    for y, x in np.argwhere(regions[1:-1, 1:-1] == 0) + 1:
        for a, b in ((regions[y, x - 1], regions[y, x + 1]), (regions[y - 1, x], regions[y + 1, x])):
            if a and b and a != b:
                doors.append((y, x, a, b))
    free = regions > 0
    part = np.arange(regions.max() + 1)  # of the maze, that a region is connected to
    for i in rng.permutation(len(doors)):
        y, x, a, b = doors[i]
        if part[a] != part[b]:
            part[part == part[a]] = part[b]
            free[y, x] = True
        elif rng.random() < _EXTRA_DOOR_PROBABILITY:
            free[y, x] = True
    return free


def _prune_dead_ends(free: Bool[np.ndarray, "y x"], room: Bool[np.ndarray, "y x"]) -> None:
    """Wall up, in place, the cells outside rooms that have one way out, until there are none."""
    while True:
        ways_out = sum(np.roll(free, (dy, dx), (0, 1)).astype(int) for dx, dy in _STEPS)
        dead = free & ~room & (ways_out <= 1)
        if not dead.any():
            return
        free &= ~dead


def neighbours(free: Bool[np.ndarray, "y x"], cell: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Free cells ``(x, y)`` that share an edge with a cell."""
    for dx, dy in _STEPS:
        x, y = cell[0] + dx, cell[1] + dy
        if 0 <= x < free.shape[1] and 0 <= y < free.shape[0] and free[y, x]:
            yield x, y
