"""From a recipe to episodes of the ray-cast maze: worlds, walks, frames, perfect-map oracle."""

from collections.abc import Iterator
from functools import partial

from data_prep.worlds.maze.episodes import make_episode
from data_prep.worlds.maze.protocols import draw_walk
from data_prep.worlds.maze.recipe import Recipe
from data_prep.worlds.maze.render import render
from data_prep.worlds.walks import oracle_poses
from rad_jax.data import Episode

_RENDERED_BYTES = 2**26  # of frames that are rendered together, about


def make_episodes(recipe: Recipe, indices: range) -> Iterator[Episode]:
    """The episodes of some indices, in order. Each is a function of the recipe and its index alone."""
    sizes = {"pixels": recipe.pixels, "supersample": recipe.supersample, "border": recipe.has_border}
    together = max(_RENDERED_BYTES // recipe.episode_bytes, 1)
    for start in range(0, len(indices), together):
        drawn = [draw_walk(recipe, index) for index in indices[start : start + together]]
        worlds, walks = [environment.world for environment, _ in drawn], [walk for _, walk in drawn]
        look = partial(render, worlds, targets=[walk.target for walk in walks], **sizes)
        frames = look([walk.pose for walk in walks])
        oracles = [None] * len(walks)
        if recipe.has_context:
            oracles = look([oracle_poses(walk.pose, walk.n_context, 2) for walk in walks])
        yield from map(make_episode, [recipe] * len(walks), worlds, walks, frames, oracles)
