"""Record Minecraft through MineRL as VRAG does, in its layout: DIR/WORKER/000000.mp4 + 000000.npz.

    python -m data_prep.collect_minerl --out recordings/minecraft --policy random --episodes 20000 --workers 24
    python -m data_prep.collect_minerl --out recordings/rotate --policy rotate --episodes 60 --frames 151
    python -m data_prep.convert --format vrag --src recordings/minecraft --dst datasets/minecraft --size 128x72

It needs MineRL 0.4.4 with Java 8 and a display (xvfb-run), which this command does not install. It has never been run against
MineRL: the tests use a stand-in, and `MineRL` and `open_minerl` follow MineRL's interface as VRAG's collector
(yeyutaihan/collect_mc) uses it.

Policies: random (random actions, each held for 5 steps, with probability .95 of forward, .2 of a jump, .25 of a turn of 20
degrees to each side), pattern (laps of polygons of 2, 3 or 6 corners, or turns in place), rotate (turns in place). An episode
in which the player dies is recorded again. The same command resumes a run that was stopped.
"""

import argparse
import contextlib
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from av.video.reformatter import Interpolation

from data_prep.common.command import MANY, Parser, between, natural, positive, run, seed, size
from data_prep.common.pool import Pool
from data_prep.worlds.voxel.episodes import Frame, missing, write_pair
from data_prep.worlds.voxel.motion import TURN_DEGREES, Action, Seen
from data_prep.worlds.voxel.policy import random_actions, random_pattern, random_side, rotation
from rad_jax.data import DataError

PROGRAM = "collect_minerl"
POLICIES = ("random", "pattern", "rotate")
_TRIES = 10  # recordings of an episode that ends early, before the command gives up
_BIT_RATE = 8_000_000  # per second; about what mp4v takes for 640x360


class MineRL:
    """A game of MineRL 0.4.4, one action at a time."""

    def __init__(self, game: Any):
        self._game = game

    def reset(self) -> Seen:
        """Starts in a new world."""
        return self._seen(self._game.reset())

    def step(self, action: Action) -> tuple[Seen, bool]:
        """Takes an action; also returns whether the episode is over."""
        keys = {name: np.array(getattr(action, name)) for name in ("forward", "back", "jump")}
        camera = np.array([0.0, float(action.turn * TURN_DEGREES)])
        seen, _, over, _ = self._game.step({**keys, "camera": camera})
        return self._seen(seen), bool(over)

    def _seen(self, observation: Mapping[str, Any]) -> Seen:
        place = observation["location_stats"]
        return Seen(*(float(place[name]) for name in ("xpos", "ypos", "zpos", "yaw")), observation["pov"])


OpenGame = Callable[[argparse.Namespace], MineRL]
"""Opens a game as the options say."""


def main(arguments: Sequence[str] | None = None, open_game: OpenGame | None = None) -> int:
    """Run the command; returns the exit status. ``open_game`` opens the game; None for MineRL."""
    options = parse(arguments)
    return run(PROGRAM, partial(_collect, options, open_game or open_minerl))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command."""
    parser = Parser(PROGRAM, __doc__)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="directory of the recordings")
    add("--policy", choices=POLICIES, default="random", help="what the player does (random)")
    add("--episodes", type=positive, required=True, help="number of episodes of all workers")
    add("--workers", type=positive, default=1, help="processes, each with its own game and directory (1)")
    add("--frames", type=between(2, MANY), default=1201, help="of an episode (1201)")
    add("--size", type=size, default=(360, 640), metavar="WIDTHxHEIGHT", help="of the frames (640x360)")
    add("--seed", type=seed, default=0, help="of the actions; the game chooses its worlds (0)")
    add("--turn-probability", type=float, default=0.25, help="random: of a turn to each side (0.25)")
    add("--biome", type=natural, default=6, help="Minecraft's number of the only biome (6, the swamp)")
    options = parser.parse_args(arguments)
    if not 0 <= options.turn_probability <= 0.5:
        parser.error(f"--turn-probability: {options.turn_probability} is out of range, expected 0 to 0.5")
    return options


def _collect(options: argparse.Namespace, open_game: OpenGame) -> None:
    with Pool(min(options.workers, options.episodes)) as pool:
        counts = pool.map(partial(record_worker, options, open_game), range(options.workers))
        for worker, written in enumerate(counts):
            print(f"{options.out / str(worker)}: {written} new episodes")


def record_worker(options: argparse.Namespace, open_game: OpenGame, worker: int) -> int:
    """Records the missing episodes of one worker; returns their number.

    Raises:
      DataError: the game does not work, or an episode ended early every time.
    """
    directory = options.out / str(worker)
    share = options.episodes // options.workers + (worker < options.episodes % options.workers)
    unwritten = missing(directory, range(share))
    if not unwritten:
        return 0
    game = open_game(options)
    directory.mkdir(parents=True, exist_ok=True)
    for index in unwritten:
        for attempt in range(_TRIES):
            rng = np.random.default_rng((options.seed, worker, index, attempt))
            with contextlib.suppress(_EndedEarly):
                record(game, policy_actions(options, rng), options.frames, directory, index)
                break
        else:
            raise DataError(f"{directory}: episode {index} was over too early {_TRIES} times")
    return len(unwritten)


def policy_actions(options: argparse.Namespace, rng: np.random.Generator) -> Iterator[Action]:
    """Endless actions of an episode."""
    if options.policy == "random":
        return random_actions(rng, options.turn_probability)
    return itertools.cycle(random_pattern(rng) if options.policy == "pattern" else rotation(random_side(rng)))


class _EndedEarly(Exception):
    """An episode was over before it had all its frames."""


def record(game: MineRL, actions: Iterator[Action], frames: int, directory: Path, index: int) -> None:
    """Records one episode, frame by frame; both files or none. Raises `_EndedEarly`."""
    rows = [np.zeros(8, np.float32)]  # nothing led to the first frame, and VRAG says nothing of its pose

    def play() -> Iterator[Frame]:
        yield game.reset().frame
        for action in itertools.islice(actions, frames - 1):
            seen, over = game.step(action)
            rows.append(np.array([*action, *seen[:4]], np.float32))
            yield seen.frame
            if over and len(rows) < frames:
                raise _EndedEarly

    write_pair(directory, index, play(), {"actions": rows}, {"b": _BIT_RATE}, Interpolation.BILINEAR)


def open_minerl(options: argparse.Namespace) -> MineRL:
    """MineRL with a game of one biome, without structures and water. Raises `DataError` if it is not installed."""
    try:
        from minerl.herobraine.env_specs import simple_embodiment
        from minerl.herobraine.hero import handlers, mc
    except ImportError as error:
        raise DataError(
            f"MineRL 0.4.4 is not installed ({error}): see github.com/minerllabs/minerl"
        ) from None
    # Settings of a customised world; the others have Minecraft's defaults.
    off = ("Dungeons", "Strongholds", "Villages", "MineShafts", "Temples", "Monuments", "Mansions", "Ravines")
    world = {"fixedBiome": options.biome, "seaLevel": 1, "biomeSize": 8, "riverSize": 1}
    world |= {f"use{what}": False for what in (*off, "WaterLakes", "LavaLakes", "LavaOceans")}

    class Walk(simple_embodiment.SimpleEmbodimentEnvSpec):
        def create_observables(self):
            return [handlers.POVObservation(self.resolution), handlers.ObservationFromCurrentLocation()]

        def create_actionables(self):
            keys = simple_embodiment.SIMPLE_KEYBOARD_ACTION
            pressed = [
                handlers.KeybasedCommandAction(k, v) for k, v in mc.INVERSE_KEYMAP.items() if k in keys
            ]
            return [*pressed, handlers.CameraAction()]

        def create_server_world_generators(self):
            return [handlers.DefaultWorldGenerator(force_reset="true", generator_options=json.dumps(world))]

        def create_server_initial_conditions(self):
            return [
                handlers.TimeInitialCondition(allow_passage_of_time=False),
                handlers.SpawningInitialCondition(allow_spawning=True),
            ]

        # The other abstract methods of MineRL's class: no rewards, no end but death.
        create_rewardables = create_agent_start = create_agent_handlers = lambda self: []
        create_server_quit_producers = create_server_decorators = lambda self: []
        determine_success_from_rewards = is_from_folder = lambda self, _: False

        def get_docstring(self) -> str:
            return ""

    height, width = options.size
    spec = Walk(name="RadWalk-v0", resolution=(width, height))
    return MineRL(spec.make())


if __name__ == "__main__":
    sys.exit(main())
