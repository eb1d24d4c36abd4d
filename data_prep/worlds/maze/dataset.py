"""From a recipe to episodes of the ray-cast maze: worlds, walks, frames, perfect-map oracle."""

from collections.abc import Iterator, Sequence

import numpy as np

from data_prep.worlds.maze import render
from data_prep.worlds.maze.episodes import make_episode
from data_prep.worlds.maze.protocols import Walk, draw_walk
from data_prep.worlds.maze.recipe import Recipe
from data_prep.worlds.maze.world import World
from data_prep.worlds.walks import oracle_poses
from rad_jax.axes import Float
from rad_jax.data import Episode

_RENDERED_BYTES = 2**26  # of frames that are rendered together, about


def make_episodes(recipe: Recipe, indices: range) -> Iterator[Episode]:
    """The episodes of some indices, in order. Each is a function of the recipe and its index alone."""
    worlds, walks = [], []
    for index in indices:
        environment, walk = draw_walk(recipe, index)
        worlds.append(environment.world)
        walks.append(walk)
        rendered_bytes = sum(len(walk.pose) for walk in walks) * recipe.frame_bytes
        if rendered_bytes < _RENDERED_BYTES and index != indices[-1]:
            continue
        frames = _frames(recipe, worlds, walks, [walk.pose for walk in walks])
        oracles = [None] * len(walks)
        if recipe.has_context:
            known = [oracle_poses(walk.pose, walk.n_context, 2) for walk in walks]
            oracles = _frames(recipe, worlds, walks, known)
        yield from map(make_episode, [recipe] * len(walks), worlds, walks, frames, oracles)
        worlds, walks = [], []


def _frames(
    recipe: Recipe, worlds: Sequence[World], walks: Sequence[Walk], poses: Sequence[Float[np.ndarray, "t 4"]]
) -> list[np.ndarray]:
    """The frames of every walk seen from its poses."""
    lengths = [len(pose) for pose in poses]
    frames = render.render(
        worlds,
        np.repeat(np.arange(len(worlds), dtype=np.int32), lengths),
        np.concatenate(poses),
        np.concatenate([walk.target for walk in walks]),
        pixels=recipe.pixels,
        supersample=recipe.supersample,
        border=recipe.has_border,
    )
    return np.split(frames, np.cumsum(lengths)[:-1])
