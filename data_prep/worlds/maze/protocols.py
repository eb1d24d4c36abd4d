"""Whole walks through an environment, each a function of its random generator and its environment.

train    from a random free cell to one after another, for a fixed number of frames
return   walk out along a path, turn around (context), walk back along the same cells until the context is 60 %
loop     walk out and back, turning around at both ends; the whole lap is the context (60 %), the second lap is predicted;
         with ``laps`` so many whole ones are
rotate   turn in place: a whole turn and a little more is the context, then the agent turns on, the same or the other
         way; its training walks are a whole turn and then runs either way with pauses

An environment has no walk if no path was found, or if the walk is not of min_frames to max_frames; then another one is tried.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from data_prep.worlds.maze import motion, policy
from data_prep.worlds.maze.motion import LEFT, NOOP, RIGHT, Environment, RayCastMaze, State
from data_prep.worlds.maze.recipe import Recipe
from data_prep.worlds.maze.world import World, maze_world, room_world
from data_prep.worlds.recipe import CONTEXT_SHARE
from data_prep.worlds.walks import NoWalkError, first_walk, random_side, training_rotation

_WORLDS = 1000  # that are drawn until one has a walk
_PATH_CELLS_PER_FRAME = 0.19  # the speed by which the length of a path is chosen
_SHORTEST_PATH, _SHORTEST_LEG = 6, 4  # cells
_EXTRA_LEGS, _TURN_STEPS, _LOOK_STEPS = 100, 30, 20
_BURST_PROBABILITY, _BURST_STEPS = 0.02, 5
_STUCK_MOVE, _STUCK_STEPS = 0.03, 3  # cells, forward actions
_ROTATE_OFFSET = 0.3  # cells from the middle of a cell


@dataclass(frozen=True)
class Walk:
    """What the agent did and where it was.

    Attributes:
      pose: x, y in cells, cosine and sine of the heading, as frame t sees them; float32.
      action: the action that led to frame t, -1 for the first frame.
      target: the target whose colour is shown.
      reward: 1 where the shown target was touched.
      n_context: frames that are given in an evaluation; None for training walks.
      path: cells of the way out, empty if there was none.
    """

    pose: Float[np.ndarray, "t 4"]
    action: Int[np.ndarray, " t"]
    target: Int[np.ndarray, " t"]
    reward: Float[np.ndarray, " t"]
    n_context: int | None = None
    path: Sequence[policy.Cell] = ()


class Agent:
    """Moves through an environment from a position, in cells, and a random heading on, and records the walk."""

    def __init__(self, rng: np.random.Generator, environment: Environment, position: tuple[float, float]):
        environment.start(State(*position, rng.uniform(-math.pi, math.pi)))
        self._environment = environment
        self._seen: list[tuple[State, int, int, float]] = []  # state, action, target, reward of every frame
        self._see(-1, 0.0)

    @property
    def state(self) -> State:
        return self._environment.state

    @property
    def frames(self) -> int:
        return len(self._seen)

    @property
    def is_blocked(self) -> bool:
        """Whether the last action, one forward, hardly moved the agent."""
        before, (now, action, *_) = self._seen[-2:][0][0], self._seen[-1]  # the same at the first frame
        return action in motion.FORWARD_ACTIONS and math.dist(before[:2], now[:2]) < _STUCK_MOVE

    def act(self, action: int) -> None:
        self._see(action, self._environment.act(action))

    def _see(self, action: int, reward: float) -> None:
        self._seen.append((self.state, action, self._environment.target, reward))

    def follow(self, path: list[policy.Cell], until: int) -> bool:
        """Walk along a path; True if there were as many frames as wanted before its end."""
        follower = policy.Follower(path)
        while self.frames < until:
            action = follower(self.state)
            if action is None:
                return False
            self.act(action)
        return True

    def turn_to(self, cell: policy.Cell, until: int | None = None) -> None:
        """Turn on the spot until the agent faces a cell, or there are as many frames as wanted."""
        for _ in range(_TURN_STEPS):
            error = policy.heading_error(self.state, cell)
            if abs(error) <= policy.ALIGNED or self.frames == until:
                return
            self.act(LEFT if error > 0 else RIGHT)

    def walk(self, n_context: int | None = None, path: Sequence[policy.Cell] = ()) -> Walk:
        states, actions, targets, rewards = zip(*self._seen, strict=True)
        pose = [(s.x, s.y, math.cos(s.heading), math.sin(s.heading)) for s in states]
        return Walk(
            np.array(pose, np.float32),
            np.array(actions, np.int32),
            np.array(targets, np.int32),
            np.array(rewards, np.float32),
            n_context,
            path,
        )


def draw_walk(
    recipe: Recipe,
    index: int,
    new_environment: Callable[[np.random.Generator], Environment] | None = None,
) -> tuple[Environment, Walk]:
    """The environment and the walk of one episode; an environment without a walk of the protocol is replaced.

    Args:
      recipe: what to make.
      index: number of the episode in its split.
      new_environment: draws an environment, all of it from the generator; None for the ray-cast maze.

    Raises:
      RecipeError: no environment has such a walk.
    """

    def ray_cast_maze(rng: np.random.Generator) -> RayCastMaze:
        return RayCastMaze(rng, room_world(rng) if recipe.room else maze_world(rng, recipe.size))

    return first_walk(recipe, index, new_environment or ray_cast_maze, _WALKS[recipe.protocol], _WORLDS)


def _train_walk(rng: np.random.Generator, environment: Environment, recipe: Recipe) -> Walk:
    """Bursts of random actions come now and then, and when three forward actions hardly moved the agent."""
    free = environment.world.free
    agent = Agent(rng, environment, policy.centre(policy.random_free_cell(rng, free)))
    follower, blocked = policy.Follower([]), 0
    while (left := recipe.num_frames - agent.frames) > 0:
        burst = rng.random() < _BURST_PROBABILITY
        if not burst:
            blocked = blocked + 1 if agent.is_blocked else 0
        if burst or blocked >= _STUCK_STEPS:
            for _ in range(min(_BURST_STEPS, left)):
                agent.act(int(rng.integers(1, len(motion.ACTIONS))))
            follower = policy.Follower([])
            continue
        while (action := follower(agent.state)) is None:
            goal = policy.random_free_cell(rng, free)
            follower = policy.Follower(policy.shortest_path(free, policy.cell_of(agent.state), goal))
        agent.act(action)
    return agent.walk()


def _return_walk(rng: np.random.Generator, environment: Environment, recipe: Recipe) -> Walk:
    agent, path = _walk_out(rng, environment, recipe, share=1.0)
    n_context, frames = agent.frames, _frames_for(agent.frames, recipe)
    if not agent.follow(path[::-1], until=frames):
        raise NoWalkError("its way back is too short")
    return agent.walk(n_context, path)


def _loop_walk(rng: np.random.Generator, environment: Environment, recipe: Recipe) -> Walk:
    agent, path = _walk_out(rng, environment, recipe, share=0.5)
    agent.follow(path[::-1], until=recipe.max_frames)
    agent.turn_to(path[1])
    n_context, frames = agent.frames, _frames_for(agent.frames, recipe)
    if recipe.laps:
        for _ in range(recipe.laps):
            for way in (path, path[::-1]):
                if agent.follow(way, until=recipe.num_frames):
                    raise NoWalkError("its laps are too long")
                agent.turn_to(way[-2])
    elif not agent.follow(path, until=frames):
        agent.turn_to(path[-2], until=frames)
        if not agent.follow(path[::-1], until=frames):
            raise NoWalkError("its second lap is too short")
    return agent.walk(n_context, path)


def _rotate_walk(rng: np.random.Generator, environment: Environment, recipe: Recipe) -> Walk:
    """With exact turns every step turns by the same angle, from a heading that is a multiple of it, so that the views of a
    turn repeat bit for bit. Such a walk is made of poses; the agent of the environment stays away."""
    world, frames, n_context = environment.world, recipe.num_frames, None
    if recipe.has_context:
        n_context = recipe.num_context
        sides = [random_side(rng)] * (n_context - 1) + [random_side(rng)] * (frames - n_context)
    else:
        sides = training_rotation(rng, frames - 1, recipe.period)
    actions = [{-1: LEFT, 0: NOOP, 1: RIGHT}[side] for side in sides]
    x, y = (len(world.free) / 2,) * 2 if recipe.room else _place_beside_targets(rng, world)
    if recipe.exact_turn is None:
        agent = Agent(rng, environment, (x, y))
        for action in actions:
            agent.act(action)
        return agent.walk(n_context)
    turned = rng.integers(recipe.period) - np.cumsum([0, *sides])
    heading = np.radians(turned % recipe.period * recipe.exact_turn)
    pose = np.stack([np.full(frames, x), np.full(frames, y), np.cos(heading), np.sin(heading)], 1)
    target = np.full(frames, rng.integers(len(world.targets)), np.int32)
    reward = np.zeros(frames, np.float32)
    return Walk(pose.astype(np.float32), np.array([-1, *actions], np.int32), target, reward, n_context)


_WALKS = {"train": _train_walk, "return": _return_walk, "loop": _loop_walk, "rotate": _rotate_walk}


def _place_beside_targets(rng: np.random.Generator, world: World) -> tuple[float, float]:
    """A random place in a free cell without a target; from inside a target nothing else is seen."""
    taken = {(int(x), int(y)) for x, y in world.targets}
    cell = policy.random_free_cell(rng, world.free)
    while cell in taken:
        cell = policy.random_free_cell(rng, world.free)
    return tuple(policy.centre(cell) + rng.uniform(-_ROTATE_OFFSET, _ROTATE_OFFSET, 2))


def _walk_out(
    rng: np.random.Generator, environment: Environment, recipe: Recipe, share: float
) -> tuple[Agent, list[policy.Cell]]:
    """Walk out along a random path and turn around; the way out takes about ``share`` of the context."""
    context = rng.uniform(CONTEXT_SHARE * recipe.min_frames, CONTEXT_SHARE * recipe.max_frames)
    path = _random_path(rng, environment.world, context * share)
    agent = Agent(rng, environment, policy.centre(path[0]))
    agent.follow(path, until=recipe.max_frames)
    for _ in range(_LOOK_STEPS if recipe.look_around else 0):
        agent.act(LEFT)
    agent.turn_to(path[-2])
    return agent, path


def _random_path(rng: np.random.Generator, world: World, frames: float) -> list[policy.Cell]:
    """Cells of a way that takes about this many frames: shortest ways to random targets and cells, one after another."""
    cells = cells_for(frames)
    if cells < _SHORTEST_PATH:
        raise NoWalkError("its path is too short")
    path = [policy.random_free_cell(rng, world.free)]
    for _ in range(cells + _EXTRA_LEGS):
        if len(path) >= cells:
            return path[:cells]
        if rng.random() < 0.5:
            x, y = world.targets[rng.integers(len(world.targets))]
            goal = int(x), int(y)
        else:
            goal = policy.random_free_cell(rng, world.free)
        leg = policy.shortest_path(world.free, path[-1], goal)
        turns_back = len(path) > 1 and len(leg) > 1 and leg[1] == path[-2]
        if len(leg) >= _SHORTEST_LEG and not turns_back:
            path += leg[1:]
    raise NoWalkError("it has no path of the wanted length")


def cells_for(frames: float) -> int:
    """Cells of a path that takes about so many frames to walk."""
    return int(frames * _PATH_CELLS_PER_FRAME) + 2


def _frames_for(n_context: int, recipe: Recipe) -> int:
    """Frames of the episode of which the context is 60 %."""
    frames = -(-n_context * 5 // 3)  # n_context / CONTEXT_SHARE, rounded up
    if not recipe.min_frames <= frames <= recipe.max_frames:
        raise NoWalkError(f"its walk has {frames} frames")
    return frames
