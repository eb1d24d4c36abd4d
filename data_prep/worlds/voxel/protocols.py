"""Whole walks through a world, each a function of its random generator and its world.

train   VRAG's random policy, from a random place, for a fixed number of steps
rotate  turn in place, always the same way; its training walks are a whole turn and then runs either way with pauses
loop    lap after lap of a polygon; evaluations do not wait at corners and have a whole lap in their context, training walks
        are drawn as VRAG's evaluation walks are
return  walk out along straight stretches and bends, turn around (the context of an evaluation), walk back

Only training walks are stopped by blocks: where one would stop a step of the others, the walk starts somewhere else.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int

from data_prep.worlds.voxel import motion, policy
from data_prep.worlds.voxel.blocks import SAND
from data_prep.worlds.voxel.motion import WALK, Action, State
from data_prep.worlds.voxel.recipe import Recipe
from data_prep.worlds.voxel.terrain import SIZE, World, random_world
from data_prep.worlds.walks import NoWalkError, first_walk, random_side, training_rotation

Place = TypeVar("Place", bound=tuple)

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
    return first_walk(recipe, index, random_world, _walk_in, _WORLDS)


def _walk_in(rng: np.random.Generator, world: World, recipe: Recipe) -> Walk:
    step = partial(motion.step, obstacles=world.obstacles)
    # A rotation, which nothing stops, is the one protocol that draws its actions before its place.
    rotation = draw_actions(rng, recipe) if recipe.protocol == "rotate" else None
    for _ in range(_STARTS):
        start = _start(rng, world)
        followed = follow(recipe, start, rotation or draw_actions(rng, recipe), step, _TOLERANCE)
        if followed is not None:
            return followed[0]
    raise NoWalkError(f"blocks are in the way of its {recipe.num_frames} frames")


def draw_actions(rng: np.random.Generator, recipe: Recipe) -> Iterator[Action]:
    """The actions of an episode."""
    steps = recipe.num_frames - 1
    if recipe.protocol == "train":
        actions = policy.random_actions(rng, recipe.turn_probability)
    elif recipe.protocol == "return":
        actions = cycle(policy.out_and_back(rng, recipe.way_out))
    elif recipe.protocol == "loop" and recipe.has_context:
        actions = cycle(policy.random_loop(rng, recipe.num_context - 1))
    elif recipe.protocol == "loop":
        actions = cycle(policy.random_pattern(rng))
    elif recipe.has_context or not recipe.turns_back:
        actions = cycle(policy.rotation(random_side(rng)))
    else:
        actions = (Action(turn=side) for side in training_rotation(rng, steps, policy.TURN))
    return islice(actions, steps)


def _start(rng: np.random.Generator, world: World) -> State:
    """The middle of a random column inland, standing on its ground, with a heading of whole degrees."""
    while True:
        x, z = (int(i) for i in rng.integers(SIZE, size=2))
        state = State(x + 0.5, float(world.ground[x, z] + 1), z + 0.5, int(rng.integers(-180, 180)))
        if world.blocks[x, world.ground[x, z], z] != SAND and motion.fits(*state[:3], world.obstacles):
            return state


def follow(
    recipe: Recipe,
    start: Place,
    actions: Iterable[Action],
    step: Callable[[Place, Action], Place],
    tolerance: float,
) -> tuple[Walk, list[Place]] | None:
    """Do the actions one after another; None if a block stops one of them, unless it is of the random policy.

    Args:
      start: the first place, whose first four values are x, y, z and yaw.
      step: the place after an action.
      tolerance: blocks by which a step over the ground may be shorter or longer than its action makes it in the open.

    Returns:
      The walk, and every place on it.
    """
    places, done = [start], [Action()]
    for action in actions:
        places.append(step(places[-1], action))
        done.append(action)
        (x0, _, z0), (x1, _, z1) = (place[:3] for place in places[-2:])
        unlike = abs(np.hypot(x1 - x0, z1 - z0) - WALK * abs(action.forward - action.back))
        if recipe.protocol != "train" and unlike > tolerance:
            return None
    pose = np.array([place[:4] for place in places], np.float64)
    n_context = recipe.num_context if recipe.has_context else None
    return Walk(pose, np.array(done, np.int64), n_context), places
