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

from data_prep.common.command import run
from data_prep.worlds.recipe import recipe_from
from data_prep.worlds.voxel.episodes import VoxelEpisode, new_parser, write
from data_prep.worlds.voxel.protocols import draw_walk
from data_prep.worlds.voxel.recipe import Recipe
from data_prep.worlds.voxel.render import render, scene
from data_prep.worlds.voxel.terrain import offset
from data_prep.worlds.walks import oracle_poses

PROGRAM = "make_voxel"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(PROGRAM, partial(_make, parse(arguments)))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    return new_parser(PROGRAM, __doc__, Recipe).parse_args(arguments)


def _make(options: argparse.Namespace) -> None:
    recipe = recipe_from(options, Recipe)
    draw_walk(recipe, options.first)  # a recipe that has no walks is refused before anything is written
    write(options, recipe, make_episode)


def make_episode(recipe: Recipe, index: int) -> VoxelEpisode:
    """An episode: a function of the recipe and its index alone.

    Raises:
      RecipeError: no world has a walk of the protocol.
    """
    world, walk = draw_walk(recipe, index)
    sizes = {"height": recipe.height, "width": recipe.width, "supersample": recipe.supersample}
    look = partial(render, scene(world), **sizes)
    oracle = None
    if walk.n_context is not None:
        oracle = look(oracle_poses(walk.pose, walk.n_context, 3, offset))
    return VoxelEpisode(walk, look(walk.pose), oracle)


if __name__ == "__main__":
    sys.exit(main())
