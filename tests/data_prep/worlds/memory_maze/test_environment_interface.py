"""One policy, any renderer: the protocols drive whatever has the interface, and nothing but the interface."""

import hashlib
import math

import numpy as np
import pytest

from data_prep.worlds.maze.motion import FORWARD_ACTIONS, State
from data_prep.worlds.maze.protocols import draw_walk
from data_prep.worlds.maze.recipe import Recipe
from data_prep.worlds.maze.world import maze_world

RECIPES = {
    "train": Recipe("train", frames=200),
    "return": Recipe("return", split="test", look_around=True),
    "loop": Recipe("loop", split="test"),
    "rotate": Recipe("rotate", split="test"),
}


class Ghost:
    """Turns by 15 degrees and walks 0.2 cells per action, through walls if told to; a new target every tenth action."""

    def __init__(self, rng: np.random.Generator):
        self.world = maze_world(rng, 9)
        self.calls: list[str | int] = []

    def start(self, state: State) -> None:
        self.state, self.target = state, 0
        self.calls = ["start"]

    def act(self, action: int) -> float:
        self.calls.append(action)
        x, y, heading, *_ = self.state
        turn = {0: 0, 1: 0, 2: 1, 3: -1, 4: 1, 5: -1}[action]
        heading = math.remainder(heading + math.radians(15) * turn, 2 * math.pi)  # as arctan2 gives it
        step = 0.2 if action in FORWARD_ACTIONS else 0.0
        self.state = State(x + step * math.cos(heading), y + step * math.sin(heading), heading)
        if not self._free():
            self.state = State(x, y, heading)
        rewarded = len(self.calls) % 10 == 0
        self.target = (self.target + rewarded) % len(self.world.targets)
        return float(rewarded)

    def _free(self) -> bool:
        x, y = math.floor(self.state.x), math.floor(self.state.y)
        return 0 <= x < 9 and 0 <= y < 9 and bool(self.world.free[y, x])


@pytest.mark.parametrize("protocol", RECIPES)
def test_a_walk_is_what_the_environment_did(protocol):
    recipe = RECIPES[protocol]
    ghost, walk = draw_walk(recipe, 0, Ghost)
    assert ghost.calls == ["start", *walk.action[1:]] and walk.action[0] == -1
    assert np.array_equal(np.flatnonzero(walk.reward), np.arange(9, len(walk.reward), 10))
    assert np.array_equal(walk.target, np.cumsum(walk.reward).astype(int) % 3)
    last = (ghost.state.x, ghost.state.y, math.cos(ghost.state.heading), math.sin(ghost.state.heading))
    assert walk.pose[-1] == pytest.approx(last, abs=1e-6)
    assert len({(int(x), int(y)) for x, y in walk.pose[:, :2]}) > 5 or protocol == "rotate", "it got nowhere"


def test_exact_turns_are_poses_and_move_nobody():
    ghost, walk = draw_walk(Recipe("rotate", split="test", turn_degrees=30.0), 0, Ghost)
    assert ghost.calls == []
    assert np.array_equal(walk.pose[12], walk.pose[0]) or np.array_equal(walk.pose[13], walk.pose[1])


@pytest.mark.parametrize(
    ("protocol", "digest"),
    [*zip(RECIPES, ("b85c0c7e1f138863", "e65df42d985e3a23", "2648f64937997364", "36d70d1db2fdb7ff"))],
)
def test_the_walks_of_the_ray_cast_maze_stay_what_they_are(protocol, digest):
    """Data sets exist. If you mean to change them all, put the new digests here and say so in the change."""
    seen = hashlib.sha256()
    for index in range(3):
        environment, walk = draw_walk(RECIPES[protocol], index)
        world = environment.world
        for array in (world.wall, walk.action, walk.target, walk.reward.astype(np.int32)):
            seen.update(array.tobytes())
        seen.update(np.round(walk.pose * 1000).astype(np.int32).tobytes())
    assert seen.hexdigest()[:16] == digest
