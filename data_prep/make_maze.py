"""Write maze episodes: a split of a data set, and if wanted evaluation episodes in a second directory.

    python -m data_prep.make_maze --out datasets/maze9 --protocol train --size 9 --episodes 1000
    python -m data_prep.make_maze --out datasets/maze9_loop --protocol loop --size 9 --episodes 100
    python -m data_prep.make_maze --out datasets/room --protocol rotate --room --episodes 8192 \
        --test-out datasets/room_test --test-episodes 64

The same command resumes a run that was stopped. Every episode is a function of the seed, the split and its index; splits share
no world.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from data_prep.common.command import Parser, run
from data_prep.common.recipe_checks import RecipeError
from data_prep.worlds.maze.command_line import add_recipe_options, expect_positive, recipe_from, write
from data_prep.worlds.maze.dataset import make_episodes
from data_prep.worlds.maze.protocols import draw_walk
from data_prep.worlds.maze.recipe import Recipe
from data_prep.worlds.maze.world import ROOM_SIZE

PROGRAM = "make_maze"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = _parser().parse_args(arguments)
    return run(PROGRAM, partial(_make, options))


def _make(options: argparse.Namespace) -> None:
    jobs = _jobs(options)
    for _, recipe, _ in jobs:
        draw_walk(recipe, 0)  # a recipe that has no walks is refused before anything is written
    for directory, recipe, episodes in jobs:
        make = partial(make_episodes, recipe)
        write(PROGRAM, directory, recipe, make, episodes, options.shard_episodes)


def _jobs(options: argparse.Namespace) -> list[tuple[str, Recipe, int]]:
    """Directory, recipe and number of episodes of every split to write, checked."""
    recipe = recipe_from(options, Recipe, **({"size": ROOM_SIZE} if options.room else {}))
    jobs = [(options.out, recipe, options.episodes)]
    if (options.test_out is None) != (options.test_episodes is None):
        raise RecipeError("test_out and test_episodes go together: one of them is missing")
    if options.test_out is not None:
        expect_positive("test_episodes", options.test_episodes)
        if recipe.split != "train" or options.protocol != "rotate":
            raise RecipeError(
                "test_out: only for --protocol rotate --split train; other evaluations are calls of their own"
            )
        if Path(options.test_out).absolute() == Path(options.out).absolute():
            raise RecipeError(
                "test_out: evaluations hold more than training episodes, expected another directory"
            )
        jobs.append((options.test_out, replace(recipe, split="test", frames=None), options.test_episodes))
    return jobs


def _parser() -> argparse.ArgumentParser:
    parser = Parser(PROGRAM, __doc__)
    add_recipe_options(parser)
    add = parser.add_argument
    switch = argparse.BooleanOptionalAction
    add("--room", action=switch, help="rotate: turn in the middle of a random room, no maze")
    add("--supersample", type=int, help="rays per pixel and direction (1)")
    add(
        "--test-out",
        type=Path,
        help="rotate: a second directory, for episodes to evaluate in worlds of the same kind",
    )
    add("--test-episodes", type=int, help="rotate: number of evaluation episodes, split test")
    return parser


if __name__ == "__main__":
    sys.exit(main())
