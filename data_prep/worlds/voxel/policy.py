"""Sequences of actions: those of VRAG's collectors, and a way out and back along itself.

The player turns and walks in separate steps; as there is no inertia, a way can be walked back exactly.
"""

from collections.abc import Iterator

import numpy as np

from data_prep.worlds.voxel.motion import TURN_DEGREES, Action
from data_prep.worlds.walks import random_side

TURN = 360 // TURN_DEGREES  # steps of a whole turn
HALF_TURN = TURN // 2
CORNERS = (2, 3, 6)  # of polygons, as in VRAG: at these, a corner is a whole number of turning steps
_HELD = 5  # steps for which a random action is held
_FORWARD, _JUMP = 0.95, 0.2
_SIDE = (3, 9)  # steps of a side of a polygon, and of a stretch of a way out
_WAIT = 9  # most steps of waiting at a corner
_PATTERNS, _PATTERN_PROBABILITY = (0, *CORNERS), (0.4, 0.2, 0.2, 0.2)  # 0: rotation in place
_LONGEST_BEND = 4  # turning steps between two stretches of a way out


def random_actions(rng: np.random.Generator, turn_probability: float) -> Iterator[Action]:
    """Endless random actions, each held for 5 steps; ``turn_probability`` is that of each side."""
    while True:
        forward, jump = rng.random() < _FORWARD, rng.random() < _JUMP
        turn = rng.choice((-1, 0, 1), p=(turn_probability, 1 - 2 * turn_probability, turn_probability))
        yield from [Action(forward=int(forward), jump=int(jump), turn=int(turn))] * _HELD


def polygon(side: int, corners: int, forward: int, wait: int) -> list[Action]:
    """One lap of a polygon.

    Args:
      side: -1 with corners to the left, 1 to the right.
      corners: one of `CORNERS`; with 2 the lap goes out and back.
      forward: steps of every side; 0: rotation in place.
      wait: steps of waiting at every corner.
    """
    edge = [Action(forward=1)] * forward + [Action(turn=side)] * (TURN // corners) + [Action()] * wait
    return edge * corners


def random_pattern(rng: np.random.Generator) -> list[Action]:
    """One lap of a rotation in place (probability .4) or of a polygon of 2, 3 or 6 corners (.2 each), either way round."""
    corners = int(rng.choice(_PATTERNS, p=_PATTERN_PROBABILITY))
    forward, wait = int(rng.integers(_SIDE[0], _SIDE[1] + 1)), int(rng.integers(_WAIT + 1))
    side = random_side(rng)
    return rotation(side) if corners == 0 else polygon(side, corners, forward, wait)


def rotation(side: int) -> list[Action]:
    """A whole turn in place."""
    return polygon(side, 2, 0, 0)


def random_loop(rng: np.random.Generator, longest: int) -> list[Action]:
    """One lap of a polygon without waiting, of at most ``longest`` steps, which are at least 24."""
    while True:
        corners, forward = int(rng.choice(CORNERS)), int(rng.integers(_SIDE[0], _SIDE[1] + 1))
        lap = polygon(random_side(rng), corners, forward, 0)
        if len(lap) <= longest:
            return lap


SHORTEST_LOOP = len(polygon(1, CORNERS[0], _SIDE[0], 0))


def out_and_back(rng: np.random.Generator, out: int) -> list[Action]:
    """A way out of straight stretches and bends, half a turn, and the same way back; 2 ``out`` + half a turn steps."""
    way: list[Action] = []
    while len(way) < out:
        way += [Action(forward=1)] * int(rng.integers(_SIDE[0], _SIDE[1] + 1))
        way += [Action(turn=random_side(rng))] * int(rng.integers(1, _LONGEST_BEND + 1))
    way = way[:out]
    back = [action._replace(turn=-action.turn) for action in reversed(way)]
    return way + [Action(turn=random_side(rng))] * HALF_TURN + back
