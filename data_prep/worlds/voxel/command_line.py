"""What the commands that record in VRAG's layout share: their options, and the writing of a worker's episodes."""

import argparse
import contextlib
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from data_prep.common.progress_bar import ProgressBar
from data_prep.common.recipe_checks import RecipeError
from data_prep.worlds.voxel.episodes import VoxelEpisode
from data_prep.worlds.voxel.files import is_written, write_episode
from data_prep.worlds.voxel.recipe import PROTOCOLS, SPLITS, Recipe
from rad_jax.data import DataError
from rad_jax.files import FileLock, Locked, remove_temporaries, write_json

Kind = TypeVar("Kind", bound=Recipe)

_RECIPE = "recipe.json"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that every such world has; those that are not given are `None`."""
    add = parser.add_argument
    add("--out", type=Path, required=True, help="directory of the recordings")
    add("--protocol", required=True, metavar="|".join(PROTOCOLS), help="what the player does")
    add("--episodes", type=int, required=True, help="number of episodes")
    add("--split", metavar="|".join(SPLITS), help="default: train for train, test for the others")
    add("--seed", type=int, help="default 0")
    add("--size", metavar="WIDTHxHEIGHT", help="of the videos in pixels (128x128)")
    add("--frames", type=int, help="of an episode (train 1201, training walks 151, evaluations 100)")
    add("--context", type=int, help="evaluations: frames that are given (60 %% of them)")
    add("--turn-probability", type=float, help="train: of a turn to each side (0.25)")
    add("--quality", type=int, help="quantiser of the video codec, 1 (best) to 31 (1)")
    add("--worker", default="0", type=_folder, help="folder under --out (0)")
    add("--first", default=0, type=int, help="index of the first episode (0)")


def _folder(name: str) -> str:
    if Path(name).name != name or name.startswith("."):
        raise argparse.ArgumentTypeError(f"{name!r} is not the name of a folder")
    return name


def recipe_from(options: argparse.Namespace, kind: type[Kind]) -> Kind:
    """The recipe that the options ask for; without --split, the split that the protocol is for.

    Raises:
      RecipeError: see `Recipe`.
    """
    given = {f.name: getattr(options, f.name, None) for f in fields(kind)}
    given = {name: value for name, value in given.items() if value is not None}
    return kind(**({"split": "train" if options.protocol == "train" else "test"} | given))


def episode_indices(first: int, episodes: int) -> range:
    """The indices of the episodes to write.

    Raises:
      RecipeError: there are none, or they do not fit into the names of files.
    """
    for name, value, low in (("first", first, 0), ("episodes", episodes, 1)):
        if value < low:
            raise RecipeError(f"{name}: {value} is out of range, expected at least {low}")
    if first + episodes > 10**6:
        raise RecipeError(f"first + episodes: {first + episodes} does not fit into names of 6 digits")
    return range(first, first + episodes)


def write(
    directory: Path, recipe: Recipe, indices: range, make: Callable[[Recipe, int], VoxelEpisode]
) -> None:
    """Write the episodes of some indices, or those that are missing, with a progress bar; ``make`` makes one.

    Raises:
      DataError: the directory holds episodes of another recipe, or another process is writing to it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with _held(directory), closing(ProgressBar(f"{directory} {recipe.protocol}")) as bar:
        _claim(directory / _RECIPE, recipe)
        missing = [index for index in indices if not is_written(directory, index)]
        written = len(indices) - len(missing)
        bar(written, len(indices))
        for index in missing:
            write_episode(directory, index, make(recipe, index), recipe.quality)
            written += 1
            bar(written, len(indices))


@contextlib.contextmanager
def _held(directory: Path) -> Iterator[None]:
    """Keeps a directory from other processes; one that dies lets go of it."""
    try:
        lock = FileLock(directory / ".lock")
    except Locked as error:
        raise DataError(f"{error.owner} is writing to {directory}: give each a --worker of its own") from None
    with lock:
        if lock.exclusive:
            remove_temporaries(directory, "*")
        yield


def _claim(path: Path, recipe: Recipe) -> None:
    """Writes the recipe of a directory, or compares it with the one that is there."""
    wanted = recipe.as_info()
    if not path.exists():
        write_json(path, wanted)
        return
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(
            f"{path} is damaged ({error}): delete it if its episodes are those of this recipe"
        ) from None
    for name in sorted({*wanted, *found}):
        if wanted.get(name) != found.get(name):
            raise DataError(
                f"{path.parent} holds other episodes: {name} = {found.get(name)}, not {wanted.get(name)}; "
                "name another --out or --worker"
            )
