"""What the commands that write maze episodes share: their options, the recorded command, the writing of a split."""

import argparse
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import fields

from data_prep.common.command import Parser, positive
from data_prep.common.progress_bar import ProgressBar
from data_prep.worlds import recipe as recipes
from data_prep.worlds.maze.episodes import episode_spec
from data_prep.worlds.maze.recipe import Recipe
from rad_jax.data import Episode, write_split

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
    spec = episode_spec(recipe, {"command": recorded_command(program, recipe, options.episodes)})
    in_shard = max(_SHARD_BYTES // (recipe.frame_bytes * recipe.num_frames), 1)
    with closing(ProgressBar(f"{options.out} {recipe.split}")) as bar:
        write_split(
            options.out,
            recipe.split,
            spec,
            make_episodes,
            options.episodes,
            episodes_per_shard=options.shard_episodes or min(in_shard, _SHARD_EPISODES),
            progress=bar,
        )
