"""Write episodes of the voxel landscape in VRAG's layout, pairs of mp4 and npz.

    python -m data_prep.make_voxel --out recordings/voxel --protocol train --episodes 200 --frames 301
    python -m data_prep.make_voxel --out recordings/voxel_rotate --protocol rotate --episodes 60
    python -m data_prep.convert --format vrag --src recordings/voxel --dst datasets/voxel --size 64x64

The same command resumes a run that was stopped. Every episode is a function of the seed, the split, the protocol and its index;
splits share no world. Several processes share the work if each gets a worker and a first index of its own:
--worker 1 --first 100 --episodes 100.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from data_prep.common.command import Parser, run
from data_prep.worlds.voxel.command_line import add_options, episode_indices, recipe_from, write
from data_prep.worlds.voxel.episodes import draw_walk, make_episode
from data_prep.worlds.voxel.recipe import Recipe

PROGRAM = "make_voxel"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(PROGRAM, partial(_make, parser().parse_args(arguments)))


def parser() -> Parser:
    """The options of the command."""
    parser = Parser(PROGRAM, __doc__)
    add_options(parser)
    parser.add_argument("--supersample", type=int, help="rays per pixel and direction (1)")
    return parser


def _make(options: argparse.Namespace) -> None:
    recipe = recipe_from(options, Recipe)
    indices = episode_indices(options.first, options.episodes)
    draw_walk(recipe, indices[0])  # a recipe that has no walks is refused before anything is written
    write(options.out / options.worker, recipe, indices, make_episode)


if __name__ == "__main__":
    sys.exit(main())
