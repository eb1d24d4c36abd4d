"""Whole walks through a world, each a function of its random generator and its world.

train   VRAG's random policy, for a fixed number of steps
rotate  turn in place, always the same way; its training walks are a whole turn and then runs either way with pauses
loop    lap after lap of a polygon; evaluations do not wait at corners and have a whole lap in their context, training walks
        are drawn as VRAG's evaluation walks are
return  walk out along straight stretches and bends, turn around, walk back

Loops and returns are free of collisions: where a block would stop a step, the walk starts somewhere else.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
from jaxtyping import Float, Int

from data_prep.worlds.voxel import motion, policy
from data_prep.worlds.voxel.blocks import SAND
from data_prep.worlds.voxel.motion import WALK, Action, State
from data_prep.worlds.voxel.policy import HALF_TURN, TURN
from data_prep.worlds.voxel.terrain import SIZE, World
from data_prep.worlds.walks import NoWalkError

CONTEXT_SHARE = 0.6  # of the frames of an evaluation
_STARTS = 100  # places of a world that are tried
_PAUSE_PROBABILITY, _LONGEST_PAUSE, _SHORTEST_RUN = 0.5, 3, 3
_TOLERANCE = 1e-9  # blocks


@dataclass(frozen=True)
class Walk:
    """What the player did and where it was.

    Attributes:
      pose: x, y, z in blocks, yaw in degrees, as frame t sees them; float64.
      action: forward, back, jump, turn that led to frame t; zeros for the first frame.
      n_context: frames that are given in an evaluation; None for training walks.
    """

    pose: Float[np.ndarray, "t 4"]
    action: Int[np.ndarray, "t 4"]
    n_context: int | None = None


def train_walk(rng: np.random.Generator, world: World, frames: int, turn_probability: float) -> Walk:
    """Random actions from a random place."""
    actions = policy.random_actions(rng, turn_probability)
    return _walk(_start(rng, world), list(islice(actions, frames - 1)), world)


def rotate_walk(rng: np.random.Generator, world: World, frames: int, n_context: int | None) -> Walk:
    """Turn in place. ``n_context``: of an evaluation; None for a training walk."""
    if n_context is None:
        actions = _runs(rng, frames - 1)
    else:
        actions = list(islice(cycle(policy.rotation(policy.random_side(rng))), frames - 1))
    return _walk(_start(rng, world), actions, world, n_context)


def loop_walk(rng: np.random.Generator, world: World, frames: int, n_context: int | None) -> Walk:
    """Lap after lap of a polygon; the context of an evaluation holds a whole one.

    Raises:
      NoWalkError: blocks were in the way wherever it was tried.
    """

    def actions() -> Iterable[Action]:
        lap = policy.random_pattern(rng) if n_context is None else policy.random_loop(rng, n_context - 1)
        return islice(cycle(lap), frames - 1)

    return _free_walk(rng, world, actions, n_context)


def return_walk(rng: np.random.Generator, world: World, frames: int, n_context: int | None) -> Walk:
    """Out, around and back. The way out and the turn are the context; a training walk ends where it began.

    Raises:
      NoWalkError: blocks were in the way wherever it was tried.
    """
    out = way_out(frames, n_context)
    return _free_walk(rng, world, lambda: policy.out_and_back(rng, out)[: frames - 1], n_context)


def way_out(frames: int, n_context: int | None) -> int:
    """Steps of the way out of `return_walk`; below 1 there is no such walk."""
    if n_context is None:
        return (frames - HALF_TURN) // 2
    return n_context - 1 - HALF_TURN


SHORTEST_CONTEXT = {
    "rotate": 1,
    "loop": policy.SHORTEST_LOOP + 1,
    "return": HALF_TURN + 2,
}


def _runs(rng: np.random.Generator, steps: int) -> list[Action]:
    """A whole turn and up to four steps more, then runs of 3 steps to a whole turn, sometimes after a pause."""
    actions = [Action(turn=policy.random_side(rng))] * int(rng.integers(TURN, TURN + 5))
    while len(actions) < steps:
        if rng.random() < _PAUSE_PROBABILITY:
            actions += [Action()] * int(rng.integers(1, _LONGEST_PAUSE + 1))
        actions += [Action(turn=policy.random_side(rng))] * int(rng.integers(_SHORTEST_RUN, TURN + 1))
    return actions[:steps]


def _start(rng: np.random.Generator, world: World) -> State:
    """The middle of a random column inland, standing on its ground, with a heading of whole degrees."""
    obstacles = world.obstacles
    while True:
        x, z = (int(i) for i in rng.integers(SIZE, size=2))
        state = State(x + 0.5, float(world.ground[x, z] + 1), z + 0.5, int(rng.integers(-180, 180)))
        if world.blocks[x, world.ground[x, z], z] != SAND and motion.fits(*state[:3], obstacles):
            return state


def _free_walk(
    rng: np.random.Generator, world: World, new_actions: Callable[[], Iterable[Action]], n_context: int | None
) -> Walk:
    """A walk in which no block stops a step."""
    for _ in range(_STARTS):
        walk = _walk(_start(rng, world), new_actions(), world, n_context, stop_when_blocked=True)
        if walk is not None:
            return walk
    raise NoWalkError("blocks are in the way")


def is_blocked(moved: float, action: Action, tolerance: float) -> bool:
    """Whether a step over the ground was shorter or longer, in blocks, than its action makes it in the open."""
    return abs(moved - WALK * abs(action.forward - action.back)) > tolerance


def _walk(
    state: State,
    actions: Iterable[Action],
    world: World,
    n_context: int | None = None,
    stop_when_blocked: bool = False,
) -> Walk | None:
    obstacles = world.obstacles
    states, done = [state], [Action()]
    for action in actions:
        before, state = state, motion.step(state, action, obstacles)
        if stop_when_blocked:
            moved = np.hypot(state.x - before.x, state.z - before.z)
            if is_blocked(moved, action, _TOLERANCE):
                return None
        states.append(state)
        done.append(action)
    return Walk(np.array([s[:4] for s in states], np.float64), np.array(done, np.int64), n_context)
