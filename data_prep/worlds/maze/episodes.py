"""The form in which maze episodes are stored, whichever renderer made their frames: schema, observations, and the way back."""

from typing import Any

import numpy as np
from jaxtyping import UInt8

from data_prep.worlds.maze.layout import rules_for
from data_prep.worlds.maze.motion import ACTIONS
from data_prep.worlds.maze.protocols import Walk, longest_path
from data_prep.worlds.maze.recipe import LAPS, Recipe
from data_prep.worlds.maze.world import ROOM_TARGETS, World
from rad_jax.data import Episode, EpisodeSpec

CHUNK = 20  # frames per record
SHORT = 32  # an episode up to this long is one record


def episode_spec(recipe: Recipe, info: dict[str, Any] | None = None) -> EpisodeSpec:
    """The schema of the recipe's episodes; ``info`` is added to what the recipe says about itself.

    Every frame has an action (one-hot), a pose, and the observations of Memory Maze under their names there: agent_pos and
    agent_dir (the pose again), target_pos, target_color, and targets_vec and target_vec, which point to the targets as the
    agent sees them, (to its right, ahead), in cells. An episode has maze_layout, targets_pos and the rest of its world, so
    that it can be rendered from other poses. Evaluations also have n_context and path, padded with -1.
    """
    outer = recipe.size + 2
    targets = ROOM_TARGETS if recipe.room else rules_for(recipe.size).targets
    image = ((recipe.pixels, recipe.pixels, 3), "uint8")
    arrays = {
        "frames": image,
        "actions": ((len(ACTIONS),), "float32"),
        "pose": ((4,), "float32"),
        "reward": ((), "float32"),
        "target": ((), "int32"),
        "agent_pos": ((2,), "float32"),
        "agent_dir": ((2,), "float32"),
        "target_pos": ((2,), "float32"),
        "target_vec": ((2,), "float32"),
        "target_color": ((3,), "float32"),
        "targets_vec": ((targets, 2), "float32"),
    }
    statics = {
        "maze_layout": ((recipe.size, recipe.size), "uint8"),
        "targets_pos": ((targets, 2), "float32"),
        "targets_color": ((targets, 3), "float32"),
        "wall_pattern": ((outer, outer), "uint8"),
        "wall_color": ((outer, outer, 3), "float32"),
        "floor_pattern": ((outer, outer), "uint8"),
    }
    if recipe.has_context:
        arrays["oracle"] = image
        statics["n_context"] = ((), "int32")
    if recipe.protocol in LAPS:
        statics["path"] = ((longest_path(recipe.max_frames), 2), "int32")
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
    chunk = recipe.num_frames if recipe.num_frames <= SHORT else CHUNK
    return EpisodeSpec(f"{recipe.place}_{recipe.protocol}", arrays, statics, about, chunk)


def make_episode(
    recipe: Recipe,
    world: World,
    walk: Walk,
    frames: UInt8[np.ndarray, "t H W 3"],
    oracle: UInt8[np.ndarray, "t H W 3"] | None = None,
) -> Episode:
    """An episode as it is stored; ``oracle`` is the perfect-map prediction of an evaluation."""
    position, direction = walk.pose[:, :2], walk.pose[:, 2:]
    right = np.stack([direction[:, 1], -direction[:, 0]], axis=1)
    offset = world.targets - position[:, None]
    seen = np.stack([(offset * axis[:, None]).sum(-1) for axis in (right, direction)], axis=-1)
    episode = {
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
        "maze_layout": world.free.astype(np.uint8),
        "targets_pos": world.targets,
        "targets_color": world.target_colour,
        "wall_pattern": world.wall_pattern,
        "wall_color": world.wall_colour,
        "floor_pattern": world.floor_pattern,
    }
    if recipe.has_context:
        episode["oracle"] = oracle
        episode["n_context"] = np.int32(walk.n_context)
    if recipe.protocol in LAPS:
        episode["path"] = np.full((longest_path(recipe.max_frames), 2), -1, np.int32)
        episode["path"][: len(walk.path)] = walk.path
    return episode
