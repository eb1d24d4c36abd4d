"""Write episodes of the real Memory Maze, on MuJoCo, with the walks of make_maze.

    python -m data_prep.make_memory_maze --out datasets/memory_maze9 --protocol train --size 9 --episodes 1000
    python -m data_prep.make_memory_maze --out datasets/memory_maze9_loop --protocol loop --size 9 --episodes 100

It needs pip install -e ".[memory-maze]" and OpenGL: EGL, which needs no GPU, or OSMesa (MUJOCO_GL=osmesa).
The same command, with any number of workers, resumes a run that was stopped. Every episode is a function of the seed, the split
and its index; splits share no world.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from data_prep.common.command import Parser, positive, run
from data_prep.common.pool import Pool
from data_prep.worlds.maze.command_line import add_options, write
from data_prep.worlds.maze.protocols import draw_walk
from data_prep.worlds.memory_maze.package import check_installed
from data_prep.worlds.memory_maze.recipe import MemoryMazeRecipe
from data_prep.worlds.memory_maze.workers import WORKER_BYTES, default_count, limit_threads
from data_prep.worlds.recipe import recipe_from
from rad_jax.data import Episode

PROGRAM = "make_memory_maze"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = _parser().parse_args(arguments)
    return run(PROGRAM, partial(_make, options))


def _make(options: argparse.Namespace) -> None:
    recipe = recipe_from(options, MemoryMazeRecipe)
    check_installed()
    draw_walk(recipe, 0)  # in the ray-cast maze, which tells quickly whether there are walks
    count = min(options.workers or default_count(), options.episodes)
    with Pool(count, limit_threads) as pool:
        episodes = pool.lookahead(partial(make_episode, recipe), range(options.episodes))
        write(PROGRAM, options.out, recipe, episodes, options.episodes, options.shard_episodes)


def make_episode(recipe: MemoryMazeRecipe, index: int) -> Episode:
    """One episode, in a process that has MuJoCo; this one never loads it."""
    from data_prep.worlds.memory_maze import dataset

    return dataset.make_episode(recipe, index)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(PROGRAM, __doc__)
    add_options(parser, MemoryMazeRecipe, without=("room", "supersample"))
    parser.add_argument(
        "--workers",
        type=positive,
        help=f"processes, {WORKER_BYTES / 1e9:.1f} GB of memory each (as many as cores and memory allow)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
