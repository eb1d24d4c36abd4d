"""What the commands that record in VRAG's layout share: their options, and the writing of a worker's episodes."""

import argparse
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from data_prep.common.command import Parser, natural
from data_prep.common.progress_bar import ProgressBar
from data_prep.common.recipe_checks import RecipeError
from data_prep.worlds import recipe as recipes
from data_prep.worlds.voxel.episodes import VoxelEpisode, is_written, write_episode
from data_prep.worlds.voxel.recipe import Recipe
from rad_jax.data import DataError
from rad_jax.files import FileLock, Locked, remove_temporaries, write_json


def new_parser(program: str, description: str | None, kind: type[Recipe]) -> Parser:
    """A parser of the options of a recipe, and of which share of the episodes to write."""
    parser = recipes.new_parser(program, description, kind)
    parser.add_argument("--worker", default="0", type=_folder, help="folder under --out (0)")
    parser.add_argument("--first", default=0, type=natural, help="index of the first episode (0)")
    return parser


def _folder(name: str) -> str:
    if Path(name).name != name or name.startswith("."):
        raise argparse.ArgumentTypeError(f"{name!r} is not the name of a folder")
    return name


def write(options: argparse.Namespace, recipe: Recipe, make: Callable[[Recipe, int], VoxelEpisode]) -> None:
    """Write the episodes that the options ask for, or those that are missing, with a progress bar; ``make`` makes one.

    Raises:
      RecipeError: the indices of the episodes do not fit into the names of files.
      DataError: the directory holds episodes of another recipe, or another process is writing to it.
    """
    end = options.first + options.episodes
    if end > 10**6:
        raise RecipeError(f"first + episodes: {end} does not fit into names of 6 digits")
    directory, indices = options.out / options.worker, range(options.first, end)
    directory.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(directory / ".lock")
    except Locked as error:
        raise DataError(f"{error.owner} is writing to {directory}: give each a --worker of its own") from None
    with lock, closing(ProgressBar(f"{directory} {recipe.protocol}")) as bar:
        if lock.exclusive:
            remove_temporaries(directory, "*")
        _claim(directory / "recipe.json", recipe)
        missing = [index for index in indices if not is_written(directory, index)]
        written = len(indices) - len(missing)
        bar(written, len(indices))
        for done, index in enumerate(missing, written + 1):
            write_episode(directory, index, make(recipe, index), recipe.quality)
            bar(done, len(indices))


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
