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
from functools import partial
from pathlib import Path

from data_prep.common.command import positive, run
from data_prep.common.pool import Pool
from data_prep.worlds.maze.episodes import new_parser, write
from data_prep.worlds.memory_maze.dataset import make_episode
from data_prep.worlds.memory_maze.package import check_installed
from data_prep.worlds.memory_maze.recipe import MemoryMazeRecipe
from data_prep.worlds.recipe import recipe_from

PROGRAM = "make_memory_maze"
WORKER_BYTES = 0.7e9  # of a process with MuJoCo (1.5e9 without `patches`), which limits how many there can be


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = new_parser(PROGRAM, __doc__, MemoryMazeRecipe)
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
    with Pool(count, limit_threads) as pool:  # even a single worker is a process: this one never loads MuJoCo
        episodes = pool.lookahead(partial(make_episode, recipe), range(options.episodes))
        write(PROGRAM, options, recipe, episodes)


def limit_threads() -> None:
    """Initializer of a worker: Mesa's software renderer gets one thread, because the processes already fill the cores."""
    os.environ.setdefault("LP_NUM_THREADS", "1")


def default_count() -> int:
    """Returns as many processes as cores and free memory allow, at least one."""
    fit = int(0.9 * _available_bytes() / WORKER_BYTES)
    return max(min(len(os.sched_getaffinity(0)), fit), 1)


def _available_bytes() -> float:
    """Free memory of this machine, or of the container if that is less."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    meminfo = {name: int(value.split()[0]) * 1024 for name, value in (line.split(":") for line in lines)}
    available = meminfo["MemAvailable"]
    limit, used = (Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory.current"))
    if limit.exists() and limit.read_text().strip() != "max":
        available = min(available, int(limit.read_text()) - int(used.read_text()))
    return available


if __name__ == "__main__":
    sys.exit(main())
