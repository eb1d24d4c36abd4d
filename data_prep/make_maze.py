"""Write maze episodes: a split of a data set, and with it, if wanted, its evaluation episodes.

    python -m data_prep.make_maze --out datasets/maze9 --protocol train --size 9 --episodes 1000
    python -m data_prep.make_maze --out datasets/maze9_loop --protocol loop --size 9 --episodes 100
    python -m data_prep.make_maze --out datasets/room --protocol rotate --room --episodes 8192 \
        --test-out datasets/room_test --test-episodes 64

A run that was stopped continues when the same command is given again. Every episode is a function of the
seed, the split and its index; splits share no world.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import MISSING, fields, replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from data_prep.maze.dataset import draw_walk, episode_spec, make_episodes
from data_prep.maze.layout import LARGEST_SIZE
from data_prep.maze.protocols import CONTEXT_SHARE
from data_prep.maze.recipe import PROTOCOLS, SPLIT_OFFSETS, Recipe, RecipeError
from data_prep.maze.world import ROOM_SIZE
from rad_jax.data.episodes import DataError, write_split

_SHARD_BYTES = 2**27
_SHARD_EPISODES = 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        jobs = _jobs(options)
        for _, recipe, _ in jobs:
            draw_walk(recipe, 0)  # a recipe without walks is found out before anything is written
        for directory, recipe, episodes in jobs:
            write(directory, recipe, episodes, options.shard_episodes)
    except (RecipeError, DataError, OSError) as error:
        print(f"make_maze: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("make_maze: stopped; the same command continues", file=sys.stderr)
        return 130
    return 0


def write(directory: str | Path, recipe: Recipe, episodes: int, shard_episodes: int | None = None) -> None:
    """Write the split of a recipe, or what is missing of it, with a progress bar.

    Raises:
      DataError: the directory holds another data set, or another process is writing to it.
    """
    frame_bytes = 3 * recipe.pixels**2 * (2 if recipe.has_context else 1)
    if shard_episodes is None:
        shard_episodes = min(max(_SHARD_BYTES // (frame_bytes * recipe.num_frames), 1), _SHARD_EPISODES)
    with closing(_Bar(f"{directory} {recipe.split}")) as bar:
        write_split(
            directory,
            recipe.split,
            episode_spec(recipe, {"command": command(recipe, episodes)}),
            partial(make_episodes, recipe),
            episodes,
            episodes_per_shard=shard_episodes,
            progress=bar,
        )


class _Bar:
    """A progress bar that opens when the writer first reports, so that a refused job shows none."""

    def __init__(self, label: str):
        self._label, self._bar = label, None

    def __call__(self, done: int, total: int) -> None:
        if self._bar is None:  # episodes of an earlier run do not count for the rate
            self._bar = tqdm(
                desc=self._label, total=total, initial=done, unit="episode", smoothing=0, mininterval=0.5
            )
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def command(recipe: Recipe, episodes: int) -> str:
    """The command line that writes the same split; only the directory is left open."""
    words = ["python -m data_prep.make_maze --out DIR", f"--episodes {episodes}"]
    for field in fields(Recipe):
        value = getattr(recipe, field.name)
        default = field.default
        if field.name == "split" or default is MISSING or value != default:
            flag = field.name.replace("_", "-")
            if isinstance(value, bool):
                words.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                words.append(f"--{flag} {value:g}" if isinstance(value, float) else f"--{flag} {value}")
    return " ".join(words)


def _jobs(options: argparse.Namespace) -> list[tuple[str, Recipe, int]]:
    """What to write, all of it checked before anything is written."""
    given = {f.name: getattr(options, f.name) for f in fields(Recipe) if getattr(options, f.name) is not None}
    laps = options.protocol in ("return", "loop")
    given.setdefault("split", "test" if laps else "train")
    if options.room:
        given.setdefault("size", ROOM_SIZE)
    recipe = Recipe(**given)
    _expect_positive("episodes", options.episodes)
    _expect_positive("shard_episodes", options.shard_episodes)
    jobs = [(options.out, recipe, options.episodes)]
    if (options.test_out is None) != (options.test_episodes is None):
        raise RecipeError("test_out and test_episodes go together: one of them is missing")
    if options.test_out is not None:
        _expect_positive("test_episodes", options.test_episodes)
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


def _expect_positive(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise RecipeError(f"{name}: {value} is out of range, expected at least 1")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        """Say what is wrong in one line."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def _parser() -> argparse.ArgumentParser:
    share = f"{CONTEXT_SHARE:.0%}%"  # argparse formats help texts
    parser = _Parser(
        prog="make_maze",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    switch = argparse.BooleanOptionalAction
    add("--out", required=True, help="directory of the data set")
    add("--protocol", required=True, metavar="|".join(PROTOCOLS), help="what the agent does")
    add("--episodes", type=int, required=True, help="number of episodes of the split")
    add("--split", metavar="|".join(SPLIT_OFFSETS), help="default: train; for return and loop test")
    add("--seed", type=int, help="default 0")
    add("--size", type=int, help=f"cells along a side of the inner maze, odd, 3 to {LARGEST_SIZE} (9)")
    add("--room", action=switch, help="rotate: turn in the middle of a random room, no maze")
    add("--pixels", type=int, help="height and width of the frames (64)")
    add("--supersample", type=int, help="rays per pixel and direction (1)")
    add("--border", action=switch, help="target colour around the frame (yes, in the room no)")
    add("--frames", type=int, help="train, rotate: frames of an episode (1001; rotate: two turns)")
    add("--context", type=int, help="rotate, evaluation: frames that are given (a turn and two)")
    add("--turn-degrees", type=float, help="rotate: exact turns of so much (real kinematics; in the room 30)")
    add("--look-around", action=switch, help="return, loop: turn on the spot before the way back")
    add("--min-frames", type=int, help=f"return, loop: shortest episode, {share} of it context (100)")
    add("--max-frames", type=int, help="return, loop: longest episode (300)")
    add("--test-out", help="rotate: a second directory, for the evaluation episodes of the same worlds' kind")
    add("--test-episodes", type=int, help="rotate: number of evaluation episodes, split test")
    add("--shard-episodes", type=int, help="episodes of a shard file (about 128 MiB of frames)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
