"""What the walks of all worlds share: training rotations, the search for a world with a walk, the poses of the oracle."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from data_prep.worlds.recipe import EpisodeRecipe, RecipeError

World, Walk = TypeVar("World"), TypeVar("Walk")

_PAUSE_PROBABILITY, _LONGEST_PAUSE, _SHORTEST_RUN = 0.5, 3, 3


class NoWalkError(Exception):
    """This world has no walk that fits the protocol; another one may."""


def random_side(rng: np.random.Generator) -> int:
    """-1, to the left, or 1, to the right."""
    return (-1, 1)[rng.integers(2)]


def training_rotation(rng: np.random.Generator, steps: int, whole_turn: int) -> list[int]:
    """The side of every step, 0 for a pause: a whole turn and up to four steps more, which show everything, then runs of 3
    steps to a whole turn, sometimes after a pause."""
    sides = [random_side(rng)] * int(rng.integers(whole_turn, whole_turn + 5))
    while len(sides) < steps:
        if rng.random() < _PAUSE_PROBABILITY:
            sides += [0] * int(rng.integers(1, _LONGEST_PAUSE + 1))
        sides += [random_side(rng)] * int(rng.integers(_SHORTEST_RUN, whole_turn + 1))
    return sides[:steps]


def first_walk(
    recipe: EpisodeRecipe,
    index: int,
    new_world: Callable[[np.random.Generator], World],
    walk_in: Callable[[np.random.Generator, World, EpisodeRecipe], Walk],
    tries: int,
) -> tuple[World, Walk]:
    """Draw worlds until one has a walk; ``walk_in`` raises `NoWalkError` where there is none.

    Raises:
      RecipeError: after so many tries no world had a walk; it names the episode, and why the last one had none.
    """
    rng = recipe.generator(index)
    for _ in range(tries):
        world = new_world(rng)
        try:
            return world, walk_in(rng, world, recipe)
        except NoWalkError as error:
            reason = error
    raise RecipeError(
        f"episode {index}, protocol {recipe.protocol}: {tries} tries found no such walk, the last one because {reason}"
    )


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
