"""From a recipe to the walk of an episode, in whichever environment."""

from collections.abc import Callable

import numpy as np

from data_prep.common.recipe_checks import RecipeError
from data_prep.worlds.maze import protocols
from data_prep.worlds.maze.environment import Environment
from data_prep.worlds.maze.protocols import NoWalkError, Walk
from data_prep.worlds.maze.recipe import SPLIT_OFFSETS, Recipe

_TRIES = 1000


def draw(
    recipe: Recipe, index: int, new_environment: Callable[[np.random.Generator], Environment]
) -> tuple[Environment, Walk]:
    """The environment and the walk of one episode; an environment without a walk of the protocol is replaced.

    Args:
      recipe: what to make.
      index: number of the episode in its split.
      new_environment: draws an environment, all of it from the generator.

    Raises:
      RecipeError: no environment has such a walk.
    """
    rng = np.random.default_rng((recipe.seed, SPLIT_OFFSETS[recipe.split], index))
    for _ in range(_TRIES):
        environment = new_environment(rng)
        try:
            return environment, _walk(recipe, rng, environment)
        except NoWalkError as error:
            reason = error
    raise RecipeError(
        f"episode {index}: no {recipe.protocol} walk in {_TRIES} mazes, in the last one because {reason}"
    )


def _walk(recipe: Recipe, rng: np.random.Generator, environment: Environment) -> Walk:
    if recipe.protocol == "train":
        return protocols.train_walk(rng, environment, recipe.num_frames)
    if recipe.protocol == "rotate":
        return protocols.rotate_walk(
            rng,
            environment,
            frames=recipe.num_frames,
            period=recipe.period,
            n_context=recipe.num_context if recipe.has_context else None,
            turn_degrees=recipe.exact_turn,
            centred=recipe.room,
        )
    walk = protocols.return_walk if recipe.protocol == "return" else protocols.loop_walk
    return walk(rng, environment, recipe.min_frames, recipe.max_frames, recipe.look_around)
