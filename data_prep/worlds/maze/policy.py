"""Finding ways through a maze, and following them."""

import math
from collections import deque

import numpy as np
from jaxtyping import Bool

from data_prep.worlds.maze.layout import neighbours
from data_prep.worlds.maze.motion import FORWARD_ACTIONS, LEFT, RIGHT, State

Cell = tuple[int, int]

ALIGNED = math.radians(9.3)  # about half a turn step, so that turning on the spot can always end within it
_TURN_ON_THE_SPOT = math.radians(50)
_REACHED = 0.3


def shortest_path(free: Bool[np.ndarray, "y x"], start: Cell, goal: Cell) -> list[Cell]:
    """Cells from start to goal, both included, moving between cells that share an edge."""
    came_from: dict[Cell, Cell] = {goal: goal}
    queue = deque([goal])
    while start not in came_from:
        cell = queue.popleft()
        for other in neighbours(free, cell):
            if other not in came_from:
                came_from[other] = cell
                queue.append(other)
    path = [start]
    while path[-1] != goal:
        path.append(came_from[path[-1]])
    return path


def random_free_cell(rng: np.random.Generator, free: Bool[np.ndarray, "y x"]) -> Cell:
    y, x = np.argwhere(free)[rng.integers(free.sum())]
    return int(x), int(y)


def cell_of(state: State) -> Cell:
    return math.floor(state.x), math.floor(state.y)


def centre(cell: Cell) -> tuple[float, float]:
    return cell[0] + 0.5, cell[1] + 0.5


def heading_error(state: State, cell: Cell) -> float:
    """Angle in (-pi, pi] by which to turn left to face the centre of a cell."""
    x, y = centre(cell)
    return math.remainder(math.atan2(y - state.y, x - state.x) - state.heading, 2 * math.pi)


class Follower:
    """Walks along cells: a call gives the next action, or None when the last cell is reached."""

    def __init__(self, path: list[Cell]):
        self._ahead = deque(path)

    def __call__(self, state: State) -> int | None:
        while self._ahead and math.dist(state[:2], centre(self._ahead[0])) < _REACHED:
            self._ahead.popleft()
        if not self._ahead:
            return None
        forward, forward_left, forward_right = FORWARD_ACTIONS
        error = heading_error(state, self._ahead[0])
        if abs(error) > _TURN_ON_THE_SPOT:
            return LEFT if error > 0 else RIGHT
        if abs(error) > ALIGNED:
            return forward_left if error > 0 else forward_right
        return forward
