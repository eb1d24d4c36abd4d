"""Write episodes of the real Memory Maze, on MuJoCo, with the walks of make_maze.

    python -m data_prep.make_memory_maze --out datasets/memory_maze9 --protocol train --size 9 --episodes 1000
    python -m data_prep.make_memory_maze --out datasets/memory_maze9_loop --protocol loop --size 9 --episodes 100

It needs pip install -e ".[memory-maze]" and OpenGL: EGL, which needs no GPU, or OSMesa (MUJOCO_GL=osmesa).
The same command, with any number of workers, resumes a run that was stopped. Every episode is a function of the seed, the split
and its index; splits share no world.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from data_prep.common.command import positive, run
from data_prep.common.pool import Pool
from data_prep.worlds.maze import episodes
from data_prep.worlds.maze.protocols import draw_walk
from data_prep.worlds.memory_maze.package import check_installed
from data_prep.worlds.memory_maze.recipe import MemoryMazeRecipe
from data_prep.worlds.recipe import recipe_from
from data_prep.worlds.walks import oracle_poses
from rad_jax.data import Episode

PROGRAM = "make_memory_maze"
WORKER_BYTES = 0.7e9  # of a process with MuJoCo (1.5e9 without `patches`), which limits how many there can be


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = episodes.new_parser(PROGRAM, __doc__, MemoryMazeRecipe)
    parser.add_argument(
        "--workers",
        type=positive,
        help=f"processes, {WORKER_BYTES / 1e9:.1f} GB of memory each (as many as cores and memory allow)",
    )
    return run(PROGRAM, partial(_make, parser.parse_args(arguments)))


def _make(options: argparse.Namespace) -> None:
    recipe = recipe_from(options, MemoryMazeRecipe)
    check_installed()
    count = min(options.workers or default_count(), options.episodes)
    # Mesa's software renderer gets one thread in each process, because the processes already fill the cores.
    os.environ.setdefault("LP_NUM_THREADS", "1")
    with Pool(count) as pool:
        made = pool.lookahead(partial(make_episode, recipe), range(options.episodes))
        episodes.write(PROGRAM, options, recipe, made)


def make_episode(recipe: MemoryMazeRecipe, index: int) -> Episode:
    """One episode, a function of the recipe and its index alone; equal bytes where OpenGL draws equal pixels."""
    from data_prep.worlds.memory_maze.environment import MuJoCoMaze

    with closing(MuJoCoMaze(recipe.size, recipe.pixels, recipe.has_border)) as maze:

        def new_environment(rng: np.random.Generator) -> MuJoCoMaze:
            maze.reset(int(rng.integers(2**32)))
            return maze

        _, walk = draw_walk(recipe, index, new_environment)
        # Exact turns are views from poses; everything else is what the agent saw on its way.
        frames = np.stack(maze.frames) if recipe.exact_turn is None else maze.render(walk.pose, walk.target)
        oracle = None
        if recipe.has_context:
            later = slice(walk.n_context, None)
            known = maze.render(oracle_poses(walk.pose, walk.n_context, 2)[later], walk.target[later])
            oracle = np.concatenate([frames[: walk.n_context], known])
        return episodes.make_episode(recipe, maze.world, walk, frames, oracle)


def default_count() -> int:
    """Returns as many processes as cores and free memory allow, at least one."""
    fit = int(0.9 * _available_bytes() / WORKER_BYTES)
    return max(min(len(os.sched_getaffinity(0)), fit), 1)


def _available_bytes() -> float:
    """Free memory of this machine, or of the container if that is less."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    limit, used = (Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory.current"))
    if limit.exists() and limit.read_text().strip() != "max":
        available = min(available, int(limit.read_text()) - int(used.read_text()))
    return available


if __name__ == "__main__":
    sys.exit(main())
