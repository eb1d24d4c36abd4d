"""The agent: how an action moves it, and the environment that a protocol moves it in.

The kinematics are those measured in Memory Maze, at its 4 actions per second. Turn rate and forward speed approach what the
action asks for exponentially. With ``r`` the speed at the start of a step as a fraction of the top speed, and ``s`` the
fraction asked for, the step covers ``s + (r - s) * LAG`` of a full step and ends at speed ``s + (r - s) * KEEP``. When nothing
is asked for, friction slows the agent further: the step covers ``r * COAST`` and ends at ``r * COAST_KEEP``. The constants
reproduce the real environment: turns of 14.1, 18.3, 18.4, 18.4 ... degrees, then 2.9 and 0 after release; forward steps of
0.111, 0.219, 0.243, 0.248, 0.250 cells; 0.246 while turning.
"""

import math
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool

from data_prep.worlds.maze.world import World

ACTIONS = ("noop", "forward", "left", "right", "forward_left", "forward_right")
NOOP, FORWARD, LEFT, RIGHT, FORWARD_LEFT, FORWARD_RIGHT = range(6)
FORWARD_ACTIONS = (FORWARD, FORWARD_LEFT, FORWARD_RIGHT)
_TURN_OF = (0, 0, 1, -1, 1, -1)

TURN_DEGREES = 18.4  # per step, at full speed
STEP_CELLS = 0.25  # per step, at full speed
RADIUS = 0.1  # of the agent, in cells
# LAG, KEEP, COAST and COAST_KEEP of turning and of walking.
_TURNING = (0.2337, 0.0147, 0.16, 0.0)
_WALKING = (0.556, 0.224, 0.2, 0.2)
_SLIP_WHEN_TURNING = 0.016
_TOUCH = 0.4  # cells: radius of a target and of the agent


class State(NamedTuple):
    """Position in cells, heading in radians, and the speeds as fractions of their top (turn: left is positive)."""

    x: float
    y: float
    heading: float
    turn: float = 0.0
    speed: float = 0.0


def step(state: State, action: int, free: Bool[np.ndarray, "y x"]) -> State:
    """The state after an action, an index into ``ACTIONS``, in a maze with these free cells.

    x and y move one after the other, each refused if the agent would touch a wall.
    """
    turned, turn = _approach(state.turn, _TURN_OF[action], *_TURNING)
    moved, speed = _approach(state.speed, int(action in FORWARD_ACTIONS), *_WALKING)
    heading = state.heading + math.radians(TURN_DEGREES) * turned
    distance = STEP_CELLS * moved * (1 - _SLIP_WHEN_TURNING * abs(turned))
    x = state.x + distance * math.cos(heading)
    if touches_wall(x, state.y, free):
        x = state.x
    y = state.y + distance * math.sin(heading)
    if touches_wall(x, y, free):
        y = state.y
    return State(x, y, heading, turn, speed)


def touches_wall(x: float, y: float, free: Bool[np.ndarray, "y x"]) -> bool:
    """Whether the square around a position, of half side ``RADIUS``, reaches into a wall or out of the maze."""
    height, width = free.shape
    left, right = math.floor(x - RADIUS), math.floor(x + RADIUS)
    low, high = math.floor(y - RADIUS), math.floor(y + RADIUS)
    if left < 0 or low < 0 or right >= width or high >= height:
        return True
    return not free[low : high + 1, left : right + 1].all()


def _approach(
    rate: float, asked: int, lag: float, keep: float, coast: float, coast_keep: float
) -> tuple[float, float]:
    """The part of a full step that is covered, and the rate at its end."""
    if asked == 0:
        return rate * coast, rate * coast_keep
    return asked + (rate - asked) * lag, asked + (rate - asked) * keep


class Environment(Protocol):
    """An agent in a world.

    Protocols move an agent through an `Environment` and know nothing else of the renderer, so the same policy makes the walks
    of the ray-cast maze and of MuJoCo's (`data_prep.worlds.memory_maze`).

    Attributes:
      world: where the agent is; known before `start`.
      state: position, heading and speeds of the agent.
      target: the target whose colour is shown.
    """

    world: World
    state: State
    target: int

    def start(self, state: State) -> None:
        """Put the agent, at rest, where a walk begins."""

    def act(self, action: int) -> float:
        """Take one action, an index into ``ACTIONS``; returns the reward, 1 where the target was touched."""


class RayCastMaze:
    """The embedded maze: the measured kinematics, and targets that count when the agent enters them."""

    def __init__(self, rng: np.random.Generator, world: World):
        self.world = world
        self._rng, self._free, self._targets = rng, world.free, world.targets.tolist()

    def start(self, state: State) -> None:
        self.state = state
        self.target = int(self._rng.integers(len(self._targets)))
        self._touching = self._touches()

    def act(self, action: int) -> float:
        self.state = step(self.state, action, self._free)
        was_touching, self._touching = self._touching, self._touches()
        entered = self._touching and not was_touching
        if entered and len(self._targets) > 1:
            others = [k for k in range(len(self._targets)) if k != self.target]
            self.target = others[self._rng.integers(len(others))]
            self._touching = self._touches()
        return float(entered)

    def _touches(self) -> bool:
        return math.dist((self.state.x, self.state.y), self._targets[self.target]) < _TOUCH
