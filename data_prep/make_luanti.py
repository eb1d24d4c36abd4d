"""Write episodes of Luanti, a voxel engine, in VRAG's layout, pairs of mp4 and npz: one frame per action, in lock-step.

    python -m data_prep.make_luanti --out recordings/luanti --protocol train --episodes 20 --frames 301 --size 128x72
    python -m data_prep.make_luanti --out recordings/luanti_rotate --protocol rotate --episodes 10 --size 128x72
    python -m data_prep.convert --format vrag --src recordings/luanti --dst datasets/luanti

It needs the engine and a virtual display; on Debian: apt-get install minetest xvfb libgl1-mesa-dri. The same command resumes a
run that was stopped. Places and actions are functions of the seed, the protocol and the index of an episode; where plants grow
is up to the engine and differs from run to run. Several processes share the work if each gets a worker and a first index of its
own: --worker 1 --first 100 --episodes 100.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path

from data_prep.common.command import run
from data_prep.worlds.luanti.engine import Engine, expect_installed
from data_prep.worlds.luanti.recipe import Recipe
from data_prep.worlds.luanti.session import record
from data_prep.worlds.recipe import recipe_from
from data_prep.worlds.voxel.episodes import new_parser, write

PROGRAM = "make_luanti"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = new_parser(PROGRAM, __doc__, Recipe).parse_args(arguments)
    return run(PROGRAM, partial(_make, options))


def _make(options: argparse.Namespace) -> None:
    recipe = recipe_from(options, Recipe)
    expect_installed()
    with ExitStack() as stack:

        @cache
        def engine() -> Engine:  # starts with the first missing episode, so not if none is missing
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="luanti-")))
            return stack.enter_context(Engine(home, recipe.map_seed, recipe.width, recipe.height))

        write(options, recipe, lambda r, i: record(r, i, engine()))


if __name__ == "__main__":
    sys.exit(main())
