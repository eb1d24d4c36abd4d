"""Write episodes of Luanti, a voxel engine, in VRAG's layout, pairs of mp4 and npz: one frame per action, in lock-step.

    python -m data_prep.make_luanti --out recordings/luanti --protocol train --episodes 20 --frames 301 --size 128x72
    python -m data_prep.make_luanti --out recordings/luanti_rotate --protocol rotate --episodes 10 --size 128x72
    python -m data_prep.convert --format vrag --src recordings/luanti --dst datasets/luanti

It needs the engine and a virtual display; on Debian: apt-get install minetest xvfb libgl1-mesa-dri. A run that was stopped
continues when the same command is given again. Places and actions are functions of the seed, the protocol and the index of
an episode; plants are where the engine put them this time. Several processes share the work if each gets a worker and a
first index of its own: --worker 1 --first 100 --episodes 100.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields
from functools import cache, partial
from pathlib import Path

from data_prep.common.command import Parser, run
from data_prep.make_voxel import add_options, episode_indices, write
from data_prep.worlds.luanti.engine import Engine, expect_installed
from data_prep.worlds.luanti.recipe import Recipe
from data_prep.worlds.luanti.session import record

PROGRAM = "make_luanti"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = _parser().parse_args(arguments)
    return run(PROGRAM, partial(_make, options))


def _make(options: argparse.Namespace) -> None:
    given = {f.name: getattr(options, f.name, None) for f in fields(Recipe)}
    given = {name: value for name, value in given.items() if value is not None}
    given.setdefault("split", "train" if options.protocol == "train" else "test")
    recipe = Recipe(**given)
    indices = episode_indices(options.first, options.episodes)
    expect_installed()
    with ExitStack() as stack:

        @cache
        def engine() -> Engine:  # not started where nothing is missing, or nothing may be written
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="luanti-")))
            return stack.enter_context(Engine(home, recipe.map_seed, recipe.width, recipe.height))

        write(options.out, recipe, indices, options.worker, lambda r, i: record(r, i, engine()))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(PROGRAM, __doc__)
    add_options(parser)
    parser.add_argument(
        "--map-seed", type=int, help="of the landscape; every episode has a place of its own in it (1)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
