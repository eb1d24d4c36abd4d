"""What the commands that write maze episodes share: their options, the recorded command, the writing of a split."""

import argparse
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import fields
from pathlib import Path

from data_prep.common.command import positive
from data_prep.common.progress_bar import ProgressBar
from data_prep.worlds import recipe as recipes
from data_prep.worlds.maze.episodes import episode_spec
from data_prep.worlds.maze.recipe import Recipe
from rad_jax.data import Episode, write_split

_SHARD_BYTES = 2**27
_SHARD_EPISODES = 1024


def add_options(parser: argparse.ArgumentParser, kind: type[Recipe], without: Sequence[str] = ()) -> None:
    """The options of a recipe, and how to cut the data set into files."""
    recipes.add_options(parser, kind, without)
    parser.add_argument(
        "--shard-episodes", type=positive, help="episodes of a shard file (about 128 MiB of frames)"
    )


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
    directory: str | Path,
    recipe: Recipe,
    make_episodes: Callable[[range], Iterable[Episode]],
    episodes: int,
    shard_episodes: int | None = None,
) -> None:
    """Write the split of a recipe, or the shards that are missing, with a progress bar.

    Raises:
      DataError: the directory holds another data set, or another process is writing to it.
    """
    if shard_episodes is None:
        shard_episodes = min(
            max(_SHARD_BYTES // (recipe.frame_bytes * recipe.num_frames), 1), _SHARD_EPISODES
        )
    with closing(ProgressBar(f"{directory} {recipe.split}")) as bar:
        write_split(
            directory,
            recipe.split,
            episode_spec(recipe, {"command": recorded_command(program, recipe, episodes)}),
            make_episodes,
            episodes,
            episodes_per_shard=shard_episodes,
            progress=bar,
        )
