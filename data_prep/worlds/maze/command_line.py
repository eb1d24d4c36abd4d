"""What the commands that write maze episodes share: their options, the recorded command, the writing of a split."""

import argparse
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import MISSING, fields
from pathlib import Path

from data_prep.common.progress_bar import ProgressBar
from data_prep.common.recipe_checks import RecipeError
from data_prep.worlds.maze.episodes import episode_spec
from data_prep.worlds.maze.layout import LARGEST_SIZE
from data_prep.worlds.maze.recipe import CONTEXT_SHARE, PROTOCOLS, SPLIT_OFFSETS, Recipe
from rad_jax.data import Episode, write_split

_SHARD_BYTES = 2**27
_SHARD_EPISODES = 1024


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """The options that every renderer has; those that are not given are `None`."""
    share = f"{CONTEXT_SHARE:.0%}%"  # argparse formats help texts
    add = parser.add_argument
    switch = argparse.BooleanOptionalAction
    add("--out", type=Path, required=True, help="directory of the data set")
    add("--protocol", required=True, metavar="|".join(PROTOCOLS), help="what the agent does")
    add("--episodes", type=int, required=True, help="number of episodes of the split")
    add("--split", metavar="|".join(SPLIT_OFFSETS), help="default: train; for return and loop test")
    add("--seed", type=int, help="default 0")
    add("--size", type=int, help=f"cells along a side of the inner maze, odd, 3 to {LARGEST_SIZE} (9)")
    add("--pixels", type=int, help="height and width of the frames (64)")
    add("--border", action=switch, help="target colour around the frame (yes, in the room no)")
    add("--frames", type=int, help="train, rotate: frames of an episode (1001; rotate: two turns)")
    add("--context", type=int, help="rotate, evaluation: frames that are given (a turn and two)")
    add("--turn-degrees", type=float, help="rotate: exact turns of so much (real kinematics; in the room 30)")
    add("--look-around", action=switch, help="return, loop: turn on the spot before the way back")
    add("--min-frames", type=int, help=f"return, loop: shortest episode, {share} of it context (100)")
    add("--max-frames", type=int, help="return, loop: longest episode (300)")
    add("--shard-episodes", type=int, help="episodes of a shard file (about 128 MiB of frames)")


def recipe_from(options: argparse.Namespace, kind: type[Recipe], **defaults: object) -> Recipe:
    """The recipe that the options ask for; without --split, the split that the protocol is for.

    Raises:
      RecipeError: see `Recipe`.
    """
    given = {f.name: getattr(options, f.name, None) for f in fields(kind)}
    given = defaults | {name: value for name, value in given.items() if value is not None}
    given.setdefault("split", "test" if options.protocol in ("return", "loop") else "train")
    expect_positive("episodes", options.episodes)
    expect_positive("shard_episodes", options.shard_episodes)
    return kind(**given)


def expect_positive(name: str, value: int | None) -> None:
    """Raises `RecipeError` for a number below 1."""
    if value is not None and value < 1:
        raise RecipeError(f"{name}: {value} is out of range, expected at least 1")


def recorded_command(program: str, recipe: Recipe, episodes: int) -> str:
    """The command line that writes the same split, with DIR for the directory."""
    words = [f"python -m data_prep.{program} --out DIR", f"--episodes {episodes}"]
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        default = field.default
        if field.name == "split" or default is MISSING or value != default:
            flag = field.name.replace("_", "-")
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
