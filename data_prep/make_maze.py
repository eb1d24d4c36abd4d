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
from collections.abc import Iterator, Sequence
from functools import partial

from data_prep.common.command import run
from data_prep.worlds.maze.episodes import make_episode, new_parser, write
from data_prep.worlds.maze.protocols import draw_walk
from data_prep.worlds.maze.recipe import Recipe
from data_prep.worlds.maze.render import render
from data_prep.worlds.maze.world import ROOM_SIZE
from data_prep.worlds.recipe import recipe_from
from data_prep.worlds.walks import oracle_poses
from rad_jax.data import Episode

PROGRAM = "make_maze"
_RENDERED_BYTES = 2**26  # of frames that are rendered together, about


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


def make_episodes(recipe: Recipe, indices: range) -> Iterator[Episode]:
    """The episodes of some indices, in order. Each is a function of the recipe and its index alone."""
    sizes = {"pixels": recipe.pixels, "supersample": recipe.supersample, "border": recipe.has_border}
    together = max(_RENDERED_BYTES // recipe.episode_bytes, 1)
    for start in range(0, len(indices), together):
        drawn = [draw_walk(recipe, index) for index in indices[start : start + together]]
        worlds, walks = [environment.world for environment, _ in drawn], [walk for _, walk in drawn]
        look = partial(render, worlds, targets=[walk.target for walk in walks], **sizes)
        frames = look([walk.pose for walk in walks])
        oracles = [None] * len(walks)
        if recipe.has_context:
            oracles = look([oracle_poses(walk.pose, walk.n_context, 2) for walk in walks])
        yield from map(make_episode, [recipe] * len(walks), worlds, walks, frames, oracles)


if __name__ == "__main__":
    sys.exit(main())
