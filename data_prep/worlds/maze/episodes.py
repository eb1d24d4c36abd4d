"""How maze episodes are stored, whichever renderer made their frames: their arrays, and the commands' way to write a split."""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import fields

import numpy as np
from jaxtyping import UInt8

from data_prep.common.command import Parser, positive
from data_prep.common.progress_bar import ProgressBar
from data_prep.worlds import recipe as recipes
from data_prep.worlds.maze.motion import ACTIONS
from data_prep.worlds.maze.protocols import Walk, cells_for, draw_walk
from data_prep.worlds.maze.recipe import LAPS, Recipe
from data_prep.worlds.maze.world import World
from data_prep.worlds.recipe import CONTEXT_SHARE
from rad_jax.data import Episode, EpisodeSpec, write_split

CHUNK = 20  # frames per record
SHORT = 32  # an episode up to this long is one record
_SHARD_BYTES = 2**27
_SHARD_EPISODES = 1024


def new_parser(program: str, description: str | None, kind: type[Recipe]) -> Parser:
    """A parser of the options of a recipe, and of how to cut the data set into files."""
    parser = recipes.new_parser(program, description, kind)
    parser.add_argument(
        "--shard-episodes", type=positive, help="episodes of a shard file (about 128 MiB of frames)"
    )
    return parser


def recorded_command(program: str, recipe: Recipe, episodes: int) -> str:
    """The command line that writes the same split, with DIR for the directory."""
    words = [f"python -m data_prep.{program} --out DIR", f"--episodes {episodes}"]
    for field in fields(recipe):
        value, flag = getattr(recipe, field.name), field.name.replace("_", "-")
        if field.name != "split" and value == field.default:
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words.append(f"--{flag} {value:g}" if isinstance(value, float) else f"--{flag} {value}")
    return " ".join(words)


def write(
    program: str,
    options: argparse.Namespace,
    recipe: Recipe,
    make_episodes: Callable[[range], Iterable[Episode]],
) -> None:
    """Write the split of a recipe that the options ask for, or the shards that are missing, with a progress bar.

    Raises:
      RecipeError: the recipe has no walks.
      DataError: the directory holds another data set, or another process is writing to it.
    """
    spec = episode_spec(recipe, command=recorded_command(program, recipe, options.episodes))
    in_shard = max(_SHARD_BYTES // recipe.episode_bytes, 1)
    with ProgressBar(f"{options.out} {recipe.split}") as bar:
        write_split(
            options.out,
            recipe.split,
            spec,
            make_episodes,
            options.episodes,
            episodes_per_shard=options.shard_episodes or min(in_shard, _SHARD_EPISODES),
            progress=bar,
        )


def episode_spec(recipe: Recipe, **info: str) -> EpisodeSpec:
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
        **info,
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
        longest = cells_for(CONTEXT_SHARE * recipe.max_frames)
        statics["path"] = np.full((longest, 2), -1, np.int32)
        statics["path"][: len(walk.path)] = walk.path
    return arrays, statics
