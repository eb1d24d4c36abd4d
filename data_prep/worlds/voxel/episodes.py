"""From a recipe to episodes: a world, a walk through it, its frames."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from data_prep.worlds.voxel import protocols
from data_prep.worlds.voxel.protocols import Walk
from data_prep.worlds.voxel.recipe import PROTOCOLS, SPLITS, Recipe
from data_prep.worlds.voxel.render import Scene, render
from data_prep.worlds.voxel.terrain import World, offset, random_world
from data_prep.worlds.walks import first_walk, oracle_poses

_WORLDS = 20  # that are drawn until one has a walk


class VoxelEpisode(NamedTuple):
    """A walk, its frames, and for an evaluation what the perfect-map oracle shows in their place."""

    walk: Walk
    frames: UInt8[np.ndarray, "t H W 3"]
    oracle: UInt8[np.ndarray, "t H W 3"] | None


def make_episode(recipe: Recipe, index: int) -> VoxelEpisode:
    """An episode: a function of the recipe and its index alone.

    Raises:
      RecipeError: no world has a walk of the protocol.
    """
    world, walk = draw_walk(recipe, index)
    scene = Scene.of(world)
    oracle = None
    if walk.n_context is not None:
        oracle = _frames(recipe, scene, oracle_poses(walk.pose, walk.n_context, 3, offset))
    return VoxelEpisode(walk, _frames(recipe, scene, walk.pose), oracle)


def draw_walk(recipe: Recipe, index: int) -> tuple[World, Walk]:
    """World and walk of an episode; a world that has no walk of the protocol is replaced by another."""
    split, protocol = SPLITS.index(recipe.split), PROTOCOLS.index(recipe.protocol)
    rng = np.random.default_rng((recipe.seed, split, protocol, index))
    wanted = f"episode {index}, protocol {recipe.protocol}, {recipe.num_frames} frames"
    return first_walk(lambda: random_world(rng), lambda world: _walk_in(rng, world, recipe), _WORLDS, wanted)


def _walk_in(rng: np.random.Generator, world: World, recipe: Recipe) -> Walk:
    if recipe.protocol == "train":
        return protocols.train_walk(rng, world, recipe.num_frames, recipe.turns)
    walk_of = {
        "rotate": protocols.rotate_walk,
        "loop": protocols.loop_walk,
        "return": protocols.return_walk,
    }[recipe.protocol]
    return walk_of(rng, world, recipe.num_frames, recipe.num_context if recipe.has_context else None)


def _frames(recipe: Recipe, scene: Scene, pose: Float[np.ndarray, "t 4"]) -> UInt8[np.ndarray, "t H W 3"]:
    """The frames of poses; poses that are the same are rendered once."""
    key = pose.copy()
    key[:, 3] %= 360
    views, inverse = np.unique(key, axis=0, return_inverse=True)
    frames = render(scene, views, height=recipe.height, width=recipe.width, supersample=recipe.supersample)
    return frames[inverse.reshape(-1)]
