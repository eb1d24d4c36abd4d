"""From a recipe to episodes of the ray-cast maze: worlds, walks, frames, perfect-map oracle."""

from collections.abc import Iterator

import numpy as np

from data_prep.worlds.maze import render
from data_prep.worlds.maze.episodes import make_episode
from data_prep.worlds.maze.protocols import Walk, draw_walk
from data_prep.worlds.maze.recipe import Recipe
from data_prep.worlds.maze.world import World, stack
from data_prep.worlds.walks import oracle_poses
from rad_jax.axes import Float
from rad_jax.data import Episode

_RENDERED_BYTES = 2**26  # of frames that are rendered together, about


def make_episodes(recipe: Recipe, indices: range) -> Iterator[Episode]:
    """The episodes of some indices, in order. Each is a function of the recipe and its index alone."""
    group: list[tuple[World, Walk]] = []
    for index in indices:
        environment, walk = draw_walk(recipe, index)
        group.append((environment.world, walk))
        if sum(len(walk.pose) for _, walk in group) * recipe.frame_bytes >= _RENDERED_BYTES:
            yield from _rendered(recipe, group)
            group = []
    if group:
        yield from _rendered(recipe, group)


def _rendered(recipe: Recipe, group: list[tuple[World, Walk]]) -> Iterator[Episode]:
    """The episodes of some walks, which are rendered together."""
    frames = _frames(recipe, group, [walk.pose for _, walk in group])
    oracles = [None] * len(group)
    if recipe.has_context:
        oracles = _frames(recipe, group, [oracle_poses(walk.pose, walk.n_context, 2) for _, walk in group])
    for (world, walk), seen, known in zip(group, frames, oracles, strict=True):
        yield make_episode(recipe, world, walk, seen, known)


def _frames(
    recipe: Recipe, group: list[tuple[World, Walk]], poses: list[Float[np.ndarray, "t 4"]]
) -> list[np.ndarray]:
    """The frames of every walk seen from its poses; equal views of one world are rendered once."""
    lengths = [len(pose) for pose in poses]
    world = np.repeat(np.arange(len(group), dtype=np.int32), lengths)
    target = np.concatenate([walk.target for _, walk in group])
    if not recipe.has_border:
        target = np.zeros_like(target)  # the border alone shows it, so views of other targets are equal
    pose = np.concatenate(poses)
    key = np.concatenate([world[:, None], target[:, None], pose.view(np.int32)], axis=1)
    _, first, inverse = np.unique(key, axis=0, return_index=True, return_inverse=True)
    views = render.render(
        stack([world for world, _ in group]),
        world[first],
        pose[first],
        target[first],
        pixels=recipe.pixels,
        supersample=recipe.supersample,
        border=recipe.has_border,
    )
    return [views[rows] for rows in np.split(inverse.reshape(-1), np.cumsum(lengths)[:-1])]
