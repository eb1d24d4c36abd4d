"""Write maze episodes, a split of a data set.

    python -m data_prep.make_maze --out datasets/maze9 --protocol train --size 9 --episodes 1000
    python -m data_prep.make_maze --out datasets/maze9_loop --protocol loop --size 9 --episodes 100
    python -m data_prep.make_maze --out datasets/room --protocol rotate --room --episodes 8192
    python -m data_prep.make_maze --out datasets/room_test --protocol rotate --room --split test --episodes 64

The same command resumes a run that was stopped. Every episode is a function of the seed, the split and its index; splits share
no world.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from data_prep.common.command import run
from data_prep.worlds.maze.dataset import make_episodes
from data_prep.worlds.maze.episodes import new_parser, write
from data_prep.worlds.maze.recipe import Recipe
from data_prep.worlds.maze.world import ROOM_SIZE
from data_prep.worlds.recipe import recipe_from

PROGRAM = "make_maze"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(PROGRAM, partial(_make, parse(arguments)))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    options = new_parser(PROGRAM, __doc__, Recipe).parse_args(arguments)
    if options.room and options.size is None:
        options.size = ROOM_SIZE
    return options


def _make(options: argparse.Namespace) -> None:
    recipe = recipe_from(options, Recipe)
    write(PROGRAM, options, recipe, partial(make_episodes, recipe))


if __name__ == "__main__":
    sys.exit(main())
