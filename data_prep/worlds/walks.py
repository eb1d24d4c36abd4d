"""What the worlds share: the search for a world that has a walk, and the poses of the perfect-map oracle."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from data_prep.common.recipe_checks import RecipeError

World, Walk = TypeVar("World"), TypeVar("Walk")


class NoWalkError(Exception):
    """This world has no walk that fits the protocol; another one may."""


def first_walk(
    new_world: Callable[[], World], walk_in: Callable[[World], Walk], tries: int, wanted: str
) -> tuple[World, Walk]:
    """Draw worlds until one has a walk.

    Args:
      new_world: draws the next world.
      walk_in: the walk in a world; raises `NoWalkError` if it has none.
      tries: how many worlds are drawn at most.
      wanted: the episode and its protocol, for the error.

    Raises:
      RecipeError: none of the worlds has a walk.
    """
    for _ in range(tries):
        world = new_world()
        try:
            return world, walk_in(world)
        except NoWalkError as error:
            reason = error
    raise RecipeError(f"{wanted}: {tries} worlds have no such walk, the last one because {reason}")


def oracle_poses(
    pose: Float[np.ndarray, "t p"],
    n_context: int,
    coordinates: int,
    subtract: Callable[[np.ndarray, np.ndarray], np.ndarray] = np.subtract,
) -> Float[np.ndarray, "t p"]:
    """The poses that the perfect-map oracle renders: those of the context, then the nearest of its positions.

    The oracle knows the whole world and the true heading, but places itself by its context. It is a ceiling for the scores of
    a model: all that it lacks is the exact position.

    Args:
      pose: position and heading of every frame.
      n_context: frames of the context, at least 1.
      coordinates: how many of the columns are the position; the others are the heading.
      subtract: difference of two positions, for worlds that wrap around.
    """
    context, predicted = pose[:n_context], pose[n_context:]
    places = context[:, :coordinates]
    distance = np.linalg.norm(subtract(predicted[:, None, :coordinates], places), axis=-1)
    nearest = places[distance.argmin(axis=1)]
    return np.concatenate([context, np.concatenate([nearest, predicted[:, coordinates:]], axis=1)])
