"""What a walk is made in: a world with an agent in it.

The protocols move an agent through an `Environment` and know nothing else of it, so one policy makes the walks of every
renderer: of the ray-cast maze, whose environment is here, and of MuJoCo's (`data_prep.worlds.memory_maze`).
"""

import math
from typing import Protocol

import numpy as np

from data_prep.worlds.maze import motion
from data_prep.worlds.maze.motion import State
from data_prep.worlds.maze.world import World

_TOUCH = 0.4  # cells: radius of a target and of the agent


class Environment(Protocol):
    """An agent in a world.

    world:  where it is; known before the agent is there.
    state:  where the agent is.
    target: the target whose colour is shown.
    """

    world: World
    state: State
    target: int

    def start(self, state: State) -> None:
        """Put the agent, at rest, where a walk begins."""

    def act(self, action: int) -> float:
        """Take one action, an index into ``motion.ACTIONS``; returns the reward, 1 where the target was touched."""


class RayCastMaze:
    """The embedded maze: the measured kinematics, and targets that count when they are entered."""

    def __init__(self, rng: np.random.Generator, world: World):
        self.world = world
        self._rng, self._free, self._targets = rng, world.free, world.targets.tolist()

    def start(self, state: State) -> None:
        self.state = state
        self.target = int(self._rng.integers(len(self._targets)))
        self._touching = self._touches()

    def act(self, action: int) -> float:
        self.state = motion.step(self.state, action, self._free)
        was_touching, self._touching = self._touching, self._touches()
        entered = self._touching and not was_touching
        if entered and len(self._targets) > 1:
            others = [k for k in range(len(self._targets)) if k != self.target]
            self.target = others[self._rng.integers(len(others))]
            self._touching = self._touches()
        return float(entered)

    def _touches(self) -> bool:
        return math.dist((self.state.x, self.state.y), self._targets[self.target]) < _TOUCH
