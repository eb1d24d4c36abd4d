"""Write episodes of the voxel landscape in VRAG's layout, pairs of mp4 and npz.

    python -m data_prep.make_voxel --out recordings/voxel --protocol train --episodes 200 --frames 301
    python -m data_prep.make_voxel --out recordings/voxel_rotate --protocol rotate --episodes 60
    python -m data_prep.convert --format vrag --src recordings/voxel --dst datasets/voxel --size 64x64

A run that was stopped continues when the same command is given again. Every episode is a function of the seed, the split,
the protocol and its index; splits share no world. Several processes share the work if each gets a worker and a first index
of its own: --worker 1 --first 100 --episodes 100.
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path

from tqdm import tqdm

from data_prep.common.command import Parser, run
from data_prep.common.recipe_checks import RecipeError
from data_prep.worlds.voxel.episodes import VoxelEpisode, draw_walk, make_episode
from data_prep.worlds.voxel.files import is_written, write_episode
from data_prep.worlds.voxel.recipe import PROTOCOLS, SPLITS, Recipe
from rad_jax.data import DataError
from rad_jax.files import try_lock, write_json

PROGRAM, RECIPE = "make_voxel", "recipe.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = _parser().parse_args(arguments)
    return run(PROGRAM, partial(_make, options))


def _make(options: argparse.Namespace) -> None:
    recipe = _recipe(options)
    indices = episode_indices(options.first, options.episodes)
    draw_walk(recipe, indices[0])  # a recipe without walks is found out before anything is written
    write(options.out, recipe, indices, options.worker)


def _recipe(options: argparse.Namespace) -> Recipe:
    given = {f.name: getattr(options, f.name) for f in fields(Recipe)}
    given = {name: value for name, value in given.items() if value is not None}
    return Recipe(**({"split": "train" if options.protocol == "train" else "test"} | given))


def write(
    directory: Path,
    recipe: Recipe,
    indices: range,
    worker: str = "0",
    make: Callable[[Recipe, int], VoxelEpisode] = make_episode,
) -> None:
    """Write the episodes of some indices, or those of them that are missing, with a progress bar; ``make`` makes one.

    Raises:
      DataError: the worker's directory holds episodes of another recipe, or another process is writing to it.
    """
    place = directory / worker
    place.mkdir(parents=True, exist_ok=True)
    with _alone_in(place):
        _claim(place / RECIPE, recipe)
        done = sum(is_written(place, index) for index in indices)
        label = f"{place} {recipe.protocol}"
        with tqdm(desc=label, total=len(indices), initial=done, unit="episode", smoothing=0) as bar:
            for index in indices:
                if not is_written(place, index):
                    write_episode(place, index, make(recipe, index), recipe.quality)
                    bar.update()


@contextlib.contextmanager
def _alone_in(place: Path) -> Iterator[None]:
    """Holds a directory; a process that dies lets go of it."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        if not try_lock(descriptor):
            raise DataError(f"another process is writing to {place}: give each a --worker of its own")
        yield
    finally:
        os.close(descriptor)


def _claim(path: Path, recipe: Recipe) -> None:
    """Writes down the recipe of a directory, or compares it with the one that is there."""
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


def episode_indices(first: int, episodes: int) -> range:
    """The indices of some episodes.

    Raises:
      RecipeError: there are none, or they do not fit into the names of files.
    """
    for name, value, low in (("first", first, 0), ("episodes", episodes, 1)):
        if value < low:
            raise RecipeError(f"{name}: {value} is out of range, expected at least {low}")
    if first + episodes > 10**6:
        raise RecipeError(f"first + episodes: {first + episodes} does not fit into names of 6 digits")
    return range(first, first + episodes)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(PROGRAM, __doc__)
    add_options(parser)
    parser.add_argument("--supersample", type=int, help="rays per pixel and direction (1)")
    return parser


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of every world that is recorded in VRAG's layout; those that are not given are `None`."""
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


if __name__ == "__main__":
    sys.exit(main())
