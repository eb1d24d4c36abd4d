"""The form in which maze episodes are stored, whichever renderer made their frames."""

from typing import Any

import numpy as np
from jaxtyping import UInt8

from data_prep.worlds.maze.motion import ACTIONS
from data_prep.worlds.maze.protocols import Walk, draw_walk, longest_path
from data_prep.worlds.maze.recipe import LAPS, Recipe
from data_prep.worlds.maze.world import World
from rad_jax.data import Episode, EpisodeSpec

CHUNK = 20  # frames per record
SHORT = 32  # an episode up to this long is one record


def episode_spec(recipe: Recipe, info: dict[str, Any] | None = None) -> EpisodeSpec:
    """The schema of the recipe's episodes, see `make_episode`; ``info`` is added to what the recipe says about itself.

    Raises:
      RecipeError: the recipe has no walks.
    """
    environment, walk = draw_walk(recipe, 0)
    image = np.zeros((1, recipe.pixels, recipe.pixels, 3), np.uint8)
    arrays, statics = _arrays(recipe, environment.world, walk, image, image)
    cells = 1 / recipe.size
    about = {
        "source": recipe.source,
        "actions": list(ACTIONS),
        "pose": ["x", "y", "cos", "sin"],
        "pose_scale": [cells, cells, 1.0, 1.0],
        "fps": 4,
        **recipe.as_info(),
        **(info or {}),
    }
    return EpisodeSpec(
        f"{recipe.place}_{recipe.protocol}",
        {name: (array.shape[1:], array.dtype.name) for name, array in arrays.items()},
        {name: (array.shape, array.dtype.name) for name, array in statics.items()},
        about,
        recipe.num_frames if recipe.num_frames <= SHORT else CHUNK,
    )


def make_episode(
    recipe: Recipe,
    world: World,
    walk: Walk,
    frames: UInt8[np.ndarray, "t H W 3"],
    oracle: UInt8[np.ndarray, "t H W 3"] | None = None,
) -> Episode:
    """An episode as it is stored; ``oracle`` is the perfect-map prediction of an evaluation.

    Every frame has an action (one-hot), a pose, and the observations of Memory Maze under their names there: agent_pos and
    agent_dir (the pose again), target_pos, target_color, and targets_vec and target_vec, which point to the targets as the
    agent sees them, (to its right, ahead), in cells; all of them float32. An episode has maze_layout, targets_pos and the rest
    of its world, so that it can be rendered from other poses. Evaluations also have n_context, and path, padded with -1.
    """
    arrays, statics = _arrays(recipe, world, walk, frames, oracle)
    return arrays | statics


def _arrays(
    recipe: Recipe, world: World, walk: Walk, frames: np.ndarray, oracle: np.ndarray | None
) -> tuple[Episode, Episode]:
    """The arrays of `make_episode` that have a row per frame, and those that an episode has one of."""
    position, direction = walk.pose[:, :2], walk.pose[:, 2:]
    right = np.stack([direction[:, 1], -direction[:, 0]], axis=1)
    offset = world.targets - position[:, None]
    seen = np.stack([(offset * axis[:, None]).sum(-1) for axis in (right, direction)], axis=-1)
    arrays = {
        "frames": frames,
        "actions": (walk.action[:, None] == np.arange(len(ACTIONS))).astype(np.float32),
        "pose": walk.pose,
        "reward": walk.reward,
        "target": walk.target,
        "agent_pos": position,
        "agent_dir": direction,
        "target_pos": world.targets[walk.target],
        "target_vec": seen[np.arange(len(seen)), walk.target],
        "target_color": world.target_colour[walk.target],
        "targets_vec": seen,
    }
    statics = {
        "maze_layout": world.free.astype(np.uint8),
        "targets_pos": world.targets,
        "targets_color": world.target_colour,
        "wall_pattern": world.wall_pattern,
        "wall_color": world.wall_colour,
        "floor_pattern": world.floor_pattern,
    }
    if recipe.has_context:
        arrays["oracle"] = oracle
        statics["n_context"] = np.int32(walk.n_context)
    if recipe.protocol in LAPS:
        statics["path"] = np.full((longest_path(recipe.max_frames), 2), -1, np.int32)
        statics["path"][: len(walk.path)] = walk.path
    return arrays, statics
