"""What an action does to the player, 20 times a second, in the measures of Minecraft.

In one step, in this order, the player turns by 20 degrees if told to; starts a jump if told to and standing, or else is pulled
down; moves along x, along z, then up or down, each unless a block is in the way. A standing player who walks against a block
whose top is free steps onto it. There is no inertia: the player walks at full speed or not at all.

Walking makes 4.317 blocks/s, gravity is 32 blocks/s^2, a jump starts at 8.4 blocks/s (and is 1.32 blocks high), the body is 0.6
wide and 1.8 high.
"""

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

STEPS_PER_SECOND = 20
TURN_DEGREES = 20
WALK = 4.317 / STEPS_PER_SECOND  # blocks per step
GRAVITY = 32 / STEPS_PER_SECOND**2  # blocks per step, per step
JUMP = 8.4 / STEPS_PER_SECOND
_FASTEST_FALL = 0.9  # blocks per step: no block is jumped over
HALF_WIDTH, BODY = 0.3, 1.8
_GROUND = 0.05  # below the feet, where the ground is felt
_SKIN = 1e-3  # of feet and head, which may touch a block
# Where the body touches: blocks are larger than the gaps between its points.
_BODY = tuple(product((-HALF_WIDTH, HALF_WIDTH), (_SKIN, BODY / 2, BODY - _SKIN), (-HALF_WIDTH, HALF_WIDTH)))
_FEET = tuple(product((-HALF_WIDTH, HALF_WIDTH), (-_GROUND,), (-HALF_WIDTH, HALF_WIDTH)))


class Action(NamedTuple):
    """forward, back and jump are 0 or 1; turn is -1 (left), 0 or 1 (right)."""

    forward: int = 0
    back: int = 0
    jump: int = 0
    turn: int = 0


class State(NamedTuple):
    """Position of the feet in blocks, yaw in degrees (a whole number in [-180, 180)), upward speed in blocks per step."""

    x: float
    y: float
    z: float
    yaw: int
    rising: float = 0.0


class Seen(NamedTuple):
    """What a game shows: position of the feet in blocks, yaw in degrees, and the frame on the screen."""

    x: float
    y: float
    z: float
    yaw: float
    frame: UInt8[np.ndarray, "H W 3"]


def step(state: State, action: Action, obstacles: Bool[np.ndarray, "x y z"]) -> State:
    """The state after an action; before it, no part of the body is in an obstacle.

    ``obstacles``, where the player cannot be, wraps around in x and z, and nothing is above it.
    """
    x, y, z = state[:3]
    yaw = (state.yaw + TURN_DEGREES * action.turn + 180) % 360 - 180
    standing = not fits(x, y, z, obstacles, _FEET)
    rising = JUMP if standing and action.jump else max(state.rising - GRAVITY, -_FASTEST_FALL)
    distance = WALK * (action.forward - action.back)
    heading = math.radians(yaw)
    for dx, dz in ((-distance * math.sin(heading), 0.0), (0.0, distance * math.cos(heading))):
        onto = math.floor(y + _SKIN) + 1.0
        for level in (y, onto) if standing else (y,):
            if fits(x + dx, level, z + dz, obstacles):
                x, y, z = x + dx, level, z + dz
                break
    if fits(x, y + rising, z, obstacles):
        return State(x, y + rising, z, yaw, rising)
    y = math.floor(y + rising + BODY) - BODY if rising > 0 else math.floor(y + rising) + 1.0
    return State(x, y, z, yaw)


def fits(
    x: float,
    y: float,
    z: float,
    obstacles: Bool[np.ndarray, "x y z"],
    points: Sequence[tuple[float, float, float]] = _BODY,
) -> bool:
    """Whether points of the body, relative to the feet, are free of obstacles with the feet at a position."""
    width, height, depth = obstacles.shape
    for dx, dy, dz in points:
        level = math.floor(y + dy)
        if level < 0:
            return False
        if level < height and obstacles[math.floor(x + dx) % width, level, math.floor(z + dz) % depth]:
            return False
    return True
