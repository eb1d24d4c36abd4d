"""Record Minecraft through MineRL as VRAG does, in its layout: DIR/WORKER/000000.mp4 + 000000.npz.

    python -m data_prep.collect_minerl --out recordings/minecraft --policy random --episodes 20000 --workers 24
    python -m data_prep.collect_minerl --out recordings/rotate --policy rotate --episodes 60 --frames 151
    python -m data_prep.convert --format vrag --src recordings/minecraft --dst datasets/minecraft --size 128x72

It needs MineRL 0.4.4 with Java 8 and a display (xvfb-run), which this command does not install. It has never been run against
MineRL: the tests use a stand-in, and the adapter at the end of this file follows MineRL's interface as VRAG's collector
(yeyutaihan/collect_mc) uses it.

Policies: random (random actions, each held for 5 steps, with probability .95 of forward, .2 of a jump, .25 of a turn of 20
degrees to each side), pattern (laps of polygons of 2, 3 or 6 corners, or turns in place), rotate (turns in place). An episode
in which the player dies is recorded again. The same command resumes a run that was stopped.
"""

import io
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import av
import numpy as np
from jaxtyping import UInt8

from data_prep.common.command import Parser, run, size
from data_prep.common.pool import Pool
from data_prep.worlds.voxel.motion import TURN_DEGREES, Action
from data_prep.worlds.voxel.policy import random_actions, random_pattern, random_side, rotation
from rad_jax.data import DataError
from rad_jax.files import replacing, write_bytes

PROGRAM, FPS = "collect_minerl", 20
POLICIES = ("random", "pattern", "rotate")
_TRIES = 10  # recordings of an episode that ends early, before the command gives up
_BIT_RATE = 8_000_000  # per second; about what mp4v takes for 640x360


class Seen(NamedTuple):
    """A frame, and the place of the player in blocks and its yaw in degrees, clockwise."""

    frame: UInt8[np.ndarray, "H W 3"]
    x: float
    y: float
    z: float
    yaw: float


class Environment(Protocol):
    """A game that does one action at a time."""

    def reset(self) -> Seen:
        """Starts in a new world."""

    def step(self, action: Action) -> tuple[Seen, bool]:
        """Takes an action; also returns whether the episode is over."""


@dataclass(frozen=True)
class Job:
    """What to record.

    Attributes:
      out: directory of the recordings.
      policy: one of `POLICIES`.
      episodes: number of episodes of all workers.
      workers: processes, each with a game and a directory of its own.
      frames: frames of an episode.
      size: (height, width) of the frames.
      seed: seed of the actions; the game chooses its worlds itself.
      turn_probability: probability of a turn to each side (random policy).
      biome: Minecraft's number of the only biome; VRAG's is 6, the swamp.
    """

    out: Path
    policy: str
    episodes: int
    workers: int
    frames: int
    size: tuple[int, int]
    seed: int
    turn_probability: float
    biome: int


def main(
    arguments: Sequence[str] | None = None, open_environment: Callable[[Job], Environment] | None = None
) -> int:
    """Run the command; returns the exit status. ``open_environment`` opens the game; None for MineRL."""
    job = _job(arguments)
    return run(PROGRAM, partial(_collect, job, open_environment or open_minerl))


def _collect(job: Job, open_environment: Callable[[Job], Environment]) -> None:
    with Pool(min(job.workers, job.episodes)) as pool:
        counts = pool.map(partial(record_worker, job, open_environment), range(job.workers))
        for worker, written in enumerate(counts):
            print(f"{job.out / str(worker)}: {written} new episodes")


def record_worker(job: Job, open_environment: Callable[[Job], Environment], worker: int) -> int:
    """Records the missing episodes of one worker; returns their number.

    Raises:
      DataError: the game does not work, or an episode ended early every time.
    """
    directory = job.out / str(worker)
    share = job.episodes // job.workers + (worker < job.episodes % job.workers)
    missing = [index for index in range(share) if not all(path.exists() for path in _paths(directory, index))]
    if not missing:
        return 0
    directory.mkdir(parents=True, exist_ok=True)
    environment = open_environment(job)
    for index in missing:
        if not any(
            record(
                environment,
                policy_actions(job, np.random.default_rng((job.seed, worker, index, attempt))),
                job.frames,
                *_paths(directory, index),
            )
            for attempt in range(_TRIES)
        ):
            raise DataError(f"{directory}: episode {index} was over too early {_TRIES} times")
    return len(missing)


def policy_actions(job: Job, rng: np.random.Generator) -> Iterator[Action]:
    """Endless actions of an episode."""
    if job.policy == "random":
        return random_actions(rng, job.turn_probability)
    return itertools.cycle(random_pattern(rng) if job.policy == "pattern" else rotation(random_side(rng)))


def record(
    environment: Environment, actions: Iterable[Action], frames: int, video: Path, arrays: Path
) -> bool:
    """Records one episode, both files or none; returns whether it lasted for all frames."""
    try:
        with replacing(video) as temporary:
            rows = _record(environment, iter(actions), frames, temporary)
            arrays.unlink(missing_ok=True)  # of a pair that was half written
    except _EndedEarly:
        return False
    content = io.BytesIO()
    np.savez_compressed(content, actions=rows)
    write_bytes(arrays, content.getvalue())
    return True


class _EndedEarly(Exception):
    """An episode was over before it had all its frames."""


def _record(environment: Environment, actions: Iterator[Action], frames: int, path: Path) -> np.ndarray:
    """Plays an episode into a video, frame by frame; returns its rows. Raises `_EndedEarly`."""
    seen = environment.reset()
    rows = [np.zeros(8, np.float32)]  # nothing led to the first frame, and VRAG says nothing of its pose
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(FPS))
        stream.height, stream.width = seen.frame.shape[:2]
        stream.pix_fmt, stream.bit_rate = "yuv420p", _BIT_RATE
        container.mux(stream.encode(av.VideoFrame.from_ndarray(seen.frame, format="rgb24")))
        while len(rows) < frames:
            action = next(actions)
            seen, over = environment.step(action)
            rows.append(np.array([*action, *seen[1:]], np.float32))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(seen.frame, format="rgb24")))
            if over and len(rows) < frames:
                raise _EndedEarly
        container.mux(stream.encode(None))
    return np.stack(rows)


def _paths(directory: Path, index: int) -> tuple[Path, Path]:
    return directory / f"{index:06d}.mp4", directory / f"{index:06d}.npz"


# ---- MineRL 0.4.4


def open_minerl(job: Job) -> Environment:
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
    world = {"fixedBiome": job.biome, "seaLevel": 1, "biomeSize": 8, "riverSize": 1}
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

    height, width = job.size
    spec = Walk(name="RadWalk-v0", resolution=(width, height))
    return MineRL(spec.make())


class MineRL:
    """A game of MineRL 0.4.4 as an `Environment`."""

    def __init__(self, game: Any):
        self._game = game

    def reset(self) -> Seen:
        return self._seen(self._game.reset())

    def step(self, action: Action) -> tuple[Seen, bool]:
        keys = {name: np.array(getattr(action, name)) for name in ("forward", "back", "jump")}
        camera = np.array([0.0, float(action.turn * TURN_DEGREES)])
        seen, _, over, _ = self._game.step({**keys, "camera": camera})
        return self._seen(seen), bool(over)

    def _seen(self, observation: Mapping[str, Any]) -> Seen:
        place = observation["location_stats"]
        return Seen(observation["pov"], *(float(place[name]) for name in ("xpos", "ypos", "zpos", "yaw")))


def _job(arguments: Sequence[str] | None) -> Job:
    parser = _parser()
    options = parser.parse_args(arguments)
    for name, low in (("episodes", 1), ("workers", 1), ("frames", 2), ("seed", 0), ("biome", 0)):
        if getattr(options, name) < low:
            parser.error(f"--{name}: {getattr(options, name)} is out of range, expected at least {low}")
    if not 0 <= options.turn_probability <= 0.5:
        parser.error(f"--turn-probability: {options.turn_probability} is out of range, expected 0 to 0.5")
    return Job(**vars(options))


def _parser() -> Parser:
    parser = Parser(PROGRAM, __doc__)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="directory of the recordings")
    add("--policy", choices=POLICIES, default="random", help="what the player does (random)")
    add("--episodes", type=int, required=True, help="number of episodes of all workers")
    add("--workers", type=int, default=1, help="processes, each with a game of its own (1)")
    add("--frames", type=int, default=1201, help="of an episode (1201)")
    add("--size", type=size, default=(360, 640), metavar="WIDTHxHEIGHT", help="of the frames (640x360)")
    add("--seed", type=int, default=0, help="of the actions; the game chooses its worlds (0)")
    add("--turn-probability", type=float, default=0.25, help="random: of a turn to each side (0.25)")
    add("--biome", type=int, default=6, help="Minecraft's number of the only biome (6, the swamp)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
