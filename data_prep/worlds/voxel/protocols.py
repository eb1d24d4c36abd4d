"""Whole walks through a world, each a function of its random generator and its world.

train   VRAG's random policy, from a random place, for a fixed number of steps
rotate  turn in place, always the same way; its training walks are a whole turn and then runs either way with pauses
loop    lap after lap of a polygon; evaluations do not wait at corners and have a whole lap in their context, training walks
        are drawn as VRAG's evaluation walks are
return  walk out along straight stretches and bends, turn around (the context of an evaluation), walk back

Only training walks are stopped by blocks: where one would stop a step of the others, the walk starts somewhere else.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
from jaxtyping import Float, Int

from data_prep.worlds.recipe import PROTOCOLS, SPLITS
from data_prep.worlds.voxel import motion, policy
from data_prep.worlds.voxel.blocks import SAND
from data_prep.worlds.voxel.motion import WALK, Action, State
from data_prep.worlds.voxel.recipe import Recipe
from data_prep.worlds.voxel.terrain import SIZE, World, random_world
from data_prep.worlds.walks import NoWalkError, first_walk, random_side, training_rotation

_WORLDS = 20  # that are drawn until one has a walk
_STARTS = 100  # places of a world that are tried
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


def draw_walk(recipe: Recipe, index: int) -> tuple[World, Walk]:
    """World and walk of an episode; a world that has no walk of the protocol is replaced by another.

    Raises:
      RecipeError: no world has such a walk.
    """
    split, protocol = SPLITS.index(recipe.split), PROTOCOLS.index(recipe.protocol)
    rng = np.random.default_rng((recipe.seed, split, protocol, index))
    return first_walk(
        recipe, index, lambda: random_world(rng), lambda world: _walk_in(rng, world, recipe), _WORLDS
    )


def _walk_in(rng: np.random.Generator, world: World, recipe: Recipe) -> Walk:
    if recipe.protocol == "rotate":  # the one protocol that draws its actions before its place
        actions = _actions(rng, recipe)
        return _walk(recipe, world, _start(rng, world), actions)
    for _ in range(_STARTS):
        walk = _walk(recipe, world, _start(rng, world), _actions(rng, recipe))
        if walk is not None:
            return walk
    raise NoWalkError(f"blocks are in the way of its {recipe.num_frames} frames")


def _actions(rng: np.random.Generator, recipe: Recipe) -> Iterable[Action]:
    steps = recipe.num_frames - 1
    if recipe.protocol == "train":
        return islice(policy.random_actions(rng, recipe.turns), steps)
    if recipe.protocol == "rotate" and not recipe.has_context:
        return [Action(turn=side) for side in training_rotation(rng, steps, policy.TURN)]
    if recipe.protocol == "rotate":
        lap = policy.rotation(random_side(rng))
    elif recipe.protocol == "return":
        lap = policy.out_and_back(rng, recipe.way_out)
    elif recipe.has_context:
        lap = policy.random_loop(rng, recipe.num_context - 1)
    else:
        lap = policy.random_pattern(rng)
    return islice(cycle(lap), steps)


def _start(rng: np.random.Generator, world: World) -> State:
    """The middle of a random column inland, standing on its ground, with a heading of whole degrees."""
    while True:
        x, z = (int(i) for i in rng.integers(SIZE, size=2))
        state = State(x + 0.5, float(world.ground[x, z] + 1), z + 0.5, int(rng.integers(-180, 180)))
        if world.blocks[x, world.ground[x, z], z] != SAND and motion.fits(*state[:3], world.obstacles):
            return state


def is_blocked(moved: float, action: Action, tolerance: float) -> bool:
    """Whether a step over the ground was shorter or longer, in blocks, than its action makes it in the open."""
    return abs(moved - WALK * abs(action.forward - action.back)) > tolerance


def _walk(recipe: Recipe, world: World, state: State, actions: Iterable[Action]) -> Walk | None:
    """The walk from a state; None if a block stops a step, unless it is that of the random policy."""
    states, done = [state], [Action()]
    for action in actions:
        before, state = state, motion.step(state, action, world.obstacles)
        moved = np.hypot(state.x - before.x, state.z - before.z)
        if recipe.protocol != "train" and is_blocked(moved, action, _TOLERANCE):
            return None
        states.append(state)
        done.append(action)
    pose = np.array([s[:4] for s in states], np.float64)
    return Walk(pose, np.array(done, np.int64), recipe.num_context if recipe.has_context else None)
