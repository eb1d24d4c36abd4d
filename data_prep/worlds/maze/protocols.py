"""Whole walks through an environment. What happens in a walk depends on its random generator and its environment only.

train    wander for a fixed number of frames
return   walk out along a path, turn around, walk back; the way out and the turn are the context (60 %)
loop     walk out and back; the whole lap is the context (60 %), the second lap is predicted
rotate   turn in place: a whole turn and a little more is the context, then turn on, the same or the other
         way; its training walks are a whole turn and then runs either way with pauses
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from data_prep.worlds.maze.environment import Environment
from data_prep.worlds.maze.motion import LEFT, NOOP, RIGHT, State
from data_prep.worlds.maze.policy import (
    ALIGNED,
    Cell,
    Follower,
    Wanderer,
    heading_error,
    random_free_cell,
    shortest_path,
)
from data_prep.worlds.maze.world import World

CONTEXT_SHARE = 0.6  # of the frames of return and loop
_PLANNED_STEP = 0.19  # cells per frame that a path is planned with
_SHORTEST_PATH, _SHORTEST_LEG = 6, 4  # cells
_VAIN_LEGS, _TURN_STEPS, _LOOK_STEPS = 100, 30, 20
_PAUSE_PROBABILITY, _LONGEST_PAUSE = 0.5, 3
_ROTATE_OFFSET = 0.3  # cells from the middle of a cell


class NoWalkError(Exception):
    """This world has no walk that fits the protocol; another one may."""


@dataclass(frozen=True)
class Walk:
    """What the agent did and where it was.

    pose:      (t, 4) float32: x, y in cells, cosine and sine of the heading, as frame t sees them.
    action:    (t,) int32: the action that led to frame t, -1 for the first frame.
    target:    (t,) int32: the target whose colour is shown.
    reward:    (t,) float32: 1 where the shown target was touched.
    n_context: frames that are given in an evaluation; None for training walks.
    path:      cells of the planned way out, empty if there was none.
    """

    pose: np.ndarray
    action: np.ndarray
    target: np.ndarray
    reward: np.ndarray
    n_context: int | None = None
    path: Sequence[Cell] = field(default=())


class Recorder:
    """Moves the agent of an environment and remembers the walk."""

    def __init__(self, environment: Environment, start: State):
        environment.start(start)
        self._environment = environment
        self._states, self._actions = [environment.state], [-1]
        self._shown, self._rewards = [environment.target], [0.0]

    @property
    def state(self) -> State:
        return self._states[-1]

    @property
    def frames(self) -> int:
        return len(self._states)

    def act(self, action: int) -> None:
        reward = self._environment.act(action)
        self._states.append(self._environment.state)
        self._actions.append(action)
        self._shown.append(self._environment.target)
        self._rewards.append(reward)

    def walk(self, n_context: int | None = None, path: Sequence[Cell] = ()) -> Walk:
        pose = [(s.x, s.y, math.cos(s.heading), math.sin(s.heading)) for s in self._states]
        return Walk(
            np.array(pose, np.float32),
            np.array(self._actions, np.int32),
            np.array(self._shown, np.int32),
            np.array(self._rewards, np.float32),
            n_context,
            path,
        )


def train_walk(rng: np.random.Generator, environment: Environment, frames: int) -> Walk:
    """Wander from a random free cell."""
    free = environment.world.free
    agent = Recorder(environment, _start(rng, random_free_cell(rng, free)))
    wander = Wanderer(rng, free)
    while agent.frames < frames:
        agent.act(wander(agent.state))
    return agent.walk()


def return_walk(
    rng: np.random.Generator,
    environment: Environment,
    min_frames: int,
    max_frames: int,
    look_around: bool = False,
) -> Walk:
    """Out and turned around (context), then back along the same cells until the context is 60 % of the frames.

    Raises:
      NoWalkError: no path was found, or the walk is not of min_frames to max_frames.
    """
    path = _plan(rng, environment.world, _wanted(rng, min_frames, max_frames))
    agent = Recorder(environment, _start(rng, path[0]))
    _follow(agent, path, until=max_frames)
    _turn_around(agent, path[-2], look_around)
    frames = _frames_for(agent.frames, min_frames, max_frames)
    n_context = agent.frames
    if not _follow(agent, path[::-1], until=frames):
        raise NoWalkError("its way back is too short")
    return agent.walk(n_context, path)


def loop_walk(
    rng: np.random.Generator,
    environment: Environment,
    min_frames: int,
    max_frames: int,
    look_around: bool = False,
) -> Walk:
    """Out and back, turned around at both ends (context), then the same lap again, out first.

    Raises:
      NoWalkError: no path was found, or the walk is not of min_frames to max_frames.
    """
    path = _plan(rng, environment.world, _wanted(rng, min_frames, max_frames) / 2)
    agent = Recorder(environment, _start(rng, path[0]))
    _follow(agent, path, until=max_frames)
    _turn_around(agent, path[-2], look_around)
    _follow(agent, path[::-1], until=max_frames)
    _turn_around(agent, path[1])
    frames = _frames_for(agent.frames, min_frames, max_frames)
    n_context = agent.frames
    if not _follow(agent, path, until=frames):
        _turn_around(agent, path[-2], until=frames)
        if not _follow(agent, path[::-1], until=frames):
            raise NoWalkError("its second lap is too short")
    return agent.walk(n_context, path)


def rotate_walk(
    rng: np.random.Generator,
    environment: Environment,
    *,
    frames: int,
    period: int,
    n_context: int | None,
    turn_degrees: float | None = None,
    centred: bool = False,
) -> Walk:
    """Turn in place.

    Args:
      rng: the walk's generator.
      environment: where to turn; with exact turns its agent stays away, the walk is made of poses.
      frames: length of the walk.
      period: steps of a whole turn, at least 3.
      n_context: frames that turn one way before the predicted ones turn on, the same or the other way; None
        for a training walk.
      turn_degrees: every turn step turns by exactly this, from a heading that is a multiple of it, so that
        the views of a turn repeat bit for bit; None for the real kinematics.
      centred: stand in the middle of the maze, not at a random place.
    """
    world = environment.world
    if n_context is None:
        actions = _rotate_runs(rng, frames - 1, period)
    else:
        first, second = (LEFT, RIGHT)[rng.integers(2)], (LEFT, RIGHT)[rng.integers(2)]
        actions = [first] * (n_context - 1) + [second] * (frames - n_context)
    x, y = (len(world.free) / 2,) * 2 if centred else _place_beside_targets(rng, world)
    if turn_degrees is None:
        agent = Recorder(environment, State(x, y, rng.uniform(-math.pi, math.pi)))
        for action in actions:
            agent.act(action)
        return agent.walk(n_context)
    turned = np.cumsum([rng.integers(period), *({LEFT: 1, RIGHT: -1, NOOP: 0}[action] for action in actions)])
    heading = np.radians(turned % period * turn_degrees)
    pose = np.stack([np.full(frames, x), np.full(frames, y), np.cos(heading), np.sin(heading)], 1)
    target = np.full(frames, rng.integers(len(world.targets)), np.int32)
    return Walk(
        pose.astype(np.float32),
        np.array([-1, *actions], np.int32),
        target,
        np.zeros(frames, np.float32),
        n_context,
    )


def _rotate_runs(rng, steps: int, period: int) -> list[int]:
    actions = [(LEFT, RIGHT)[rng.integers(2)]] * int(rng.integers(period, period + 5))
    while len(actions) < steps:
        if rng.random() < _PAUSE_PROBABILITY:
            actions += [NOOP] * int(rng.integers(1, _LONGEST_PAUSE + 1))
        actions += [(LEFT, RIGHT)[rng.integers(2)]] * int(rng.integers(3, period + 1))
    return actions[:steps]


def _place_beside_targets(rng, world: World) -> tuple[float, float]:
    """A random place in a free cell without a target, on which one could not look around."""
    taken = {(int(x), int(y)) for x, y in world.targets}
    cell = random_free_cell(rng, world.free)
    while cell in taken:
        cell = random_free_cell(rng, world.free)
    dx, dy = rng.uniform(-_ROTATE_OFFSET, _ROTATE_OFFSET, 2)
    return cell[0] + 0.5 + dx, cell[1] + 0.5 + dy


def _start(rng, cell: Cell) -> State:
    return State(cell[0] + 0.5, cell[1] + 0.5, rng.uniform(-math.pi, math.pi))


def _wanted(rng, min_frames: int, max_frames: int) -> float:
    """Frames the context should take."""
    return rng.uniform(CONTEXT_SHARE * min_frames, CONTEXT_SHARE * max_frames)


def _plan(rng, world: World, out_frames: float) -> list[Cell]:
    """A path for a way out of about this many frames: shortest ways to random targets and cells, one after another."""
    cells = _cells_for(out_frames)
    if cells < _SHORTEST_PATH:
        raise NoWalkError("its path is too short")
    path = [random_free_cell(rng, world.free)]
    for _ in range(cells + _VAIN_LEGS):
        if len(path) >= cells:
            return path[:cells]
        if rng.random() < 0.5:
            x, y = world.targets[rng.integers(len(world.targets))]
            goal = int(x), int(y)
        else:
            goal = random_free_cell(rng, world.free)
        leg = shortest_path(world.free, path[-1], goal)
        turns_back = len(path) > 1 and len(leg) > 1 and leg[1] == path[-2]
        if len(leg) >= _SHORTEST_LEG and not turns_back:
            path += leg[1:]
    raise NoWalkError("no path of the wanted length is there")


def longest_path(max_frames: int) -> int:
    """Cells of the longest path that return and loop can plan for episodes of at most this many frames."""
    return _cells_for(CONTEXT_SHARE * max_frames)


def _cells_for(out_frames: float) -> int:
    return int(out_frames * _PLANNED_STEP) + 2


def _follow(agent: Recorder, path: list[Cell], until: int) -> bool:
    """Walk along a path; True if the frames ran out before the path did."""
    follow = Follower(path)
    while agent.frames < until:
        action = follow(agent.state)
        if action is None:
            return False
        agent.act(action)
    return True


def _turn_around(agent: Recorder, cell: Cell, look_around: bool = False, until: int | None = None) -> None:
    """Turn on the spot, after a look around if wanted, until the agent faces a cell."""
    for _ in range(_LOOK_STEPS if look_around else 0):
        agent.act(LEFT)
    for _ in range(_TURN_STEPS):
        error = heading_error(agent.state, cell)
        if abs(error) <= ALIGNED or agent.frames == until:
            return
        agent.act(LEFT if error > 0 else RIGHT)


def _frames_for(n_context: int, min_frames: int, max_frames: int) -> int:
    frames = -(-n_context * 5 // 3)  # n_context / CONTEXT_SHARE, rounded up
    if not min_frames <= frames <= max_frames:
        raise NoWalkError(f"its walk has {frames} frames")
    return frames
