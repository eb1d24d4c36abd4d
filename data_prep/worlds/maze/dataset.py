"""From a recipe to episodes of the ray-cast maze: worlds, walks, frames, perfect-map oracle."""

from collections.abc import Iterator

import numpy as np

from data_prep.worlds.maze import render
from data_prep.worlds.maze.environment import RayCastMaze
from data_prep.worlds.maze.episodes import dress
from data_prep.worlds.maze.oracle import oracle_poses
from data_prep.worlds.maze.protocols import Walk
from data_prep.worlds.maze.recipe import Recipe
from data_prep.worlds.maze.walks import draw
from data_prep.worlds.maze.world import World, maze_world, room_world, stack
from rad_jax.data import Episode

_RENDERED_BYTES = 2**26  # frames are rendered in lots of about this size


def make_episodes(recipe: Recipe, indices: range) -> Iterator[Episode]:
    """The episodes of some indices, in order. Each is a function of the recipe and its index alone."""
    lot: list[tuple[World, Walk]] = []
    frame_bytes = 3 * recipe.pixels**2 * (2 if recipe.has_context else 1)
    for index in indices:
        lot.append(draw_walk(recipe, index))
        if sum(len(walk.pose) for _, walk in lot) * frame_bytes >= _RENDERED_BYTES:
            yield from _finish(recipe, lot)
            lot = []
    yield from _finish(recipe, lot)


def draw_walk(recipe: Recipe, index: int) -> tuple[World, Walk]:
    """World and walk of one episode.

    Raises:
      RecipeError: no world has a walk of this protocol.
    """

    def new_environment(rng: np.random.Generator) -> RayCastMaze:
        return RayCastMaze(rng, room_world(rng) if recipe.room else maze_world(rng, recipe.size))

    environment, walk = draw(recipe, index, new_environment)
    return environment.world, walk


def _finish(recipe: Recipe, lot: list[tuple[World, Walk]]) -> Iterator[Episode]:
    """Render a lot of walks together and dress them as episodes."""
    if not lot:
        return
    frames = _render_walks(recipe, lot, [walk.pose for _, walk in lot])
    oracles = [None] * len(lot)
    if recipe.has_context:
        poses = [oracle_poses(walk.pose, walk.n_context) for _, walk in lot]
        oracles = _render_walks(recipe, lot, poses)
    for (world, walk), seen, known in zip(lot, frames, oracles, strict=True):
        yield dress(recipe, world, walk, seen, known)


def _render_walks(recipe: Recipe, lot: list[tuple[World, Walk]], poses: list[np.ndarray]) -> list[np.ndarray]:
    """The frames of every walk seen from its poses; equal views of one world are rendered once."""
    lengths = [len(pose) for pose in poses]
    world = np.repeat(np.arange(len(lot), dtype=np.int32), lengths)
    target = np.concatenate([walk.target for _, walk in lot])
    if not recipe.has_border:
        target = np.zeros_like(target)  # not seen
    pose = np.concatenate(poses)
    key = np.concatenate([world[:, None], target[:, None], pose.view(np.int32)], axis=1)
    _, first, inverse = np.unique(key, axis=0, return_index=True, return_inverse=True)
    views = render.render(
        stack([world for world, _ in lot]),
        world[first],
        pose[first],
        target[first],
        pixels=recipe.pixels,
        supersample=recipe.supersample,
        border=recipe.has_border,
    )
    return [views[rows] for rows in np.split(inverse.reshape(-1), np.cumsum(lengths)[:-1])]
