"""The player against a literal re-implementation, and against what is known of Minecraft's measures."""

import math

import numpy as np
import pytest

from data_prep.worlds.voxel import motion
from data_prep.worlds.voxel.motion import Action, State

SHAPE = (16, 12, 16)


def flat(height: int = 3) -> np.ndarray:
    obstacles = np.zeros(SHAPE, bool)
    obstacles[:, :height] = True
    return obstacles


def rough(seed: int) -> np.ndarray:
    """Ground of all heights with blocks hanging over it."""
    rng = np.random.default_rng(seed)
    obstacles = np.arange(12)[None, :, None] < rng.choice([1, 2, 2, 3, 3, 4, 5], (16, 1, 16))
    return obstacles | (rng.random(SHAPE) < 0.03)


def run(state: State, actions, obstacles) -> list[State]:
    states = [state]
    for action in actions:
        states.append(motion.step(states[-1], action, obstacles))
    return states


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_literal_player(seed):
    rng, obstacles = np.random.default_rng(seed), rough(seed)
    free = [
        (x + 0.5, y, z + 0.5)
        for x, y, z in rng.integers(0, (16, 10, 16), (400, 3))
        if not inside(x + 0.5, y, z + 0.5, obstacles)
    ]
    steps = 600
    x, y, z = map(float, free[0])
    state, literal = State(x, y, z, 40), (x, y, z, 40, 0.0)
    seen = {"walked": 0, "stopped": 0, "stepped up": 0, "jumped": 0, "fell": 0, "hit the ceiling": 0}
    for _ in range(steps):
        action = Action(*rng.integers((0, 0, 0, -1), (2, 2, 2, 2)).tolist())
        before, state = state, motion.step(state, action, obstacles)
        literal = literal_step(literal, action, obstacles)
        np.testing.assert_allclose(state, literal, atol=1e-12)
        assert not inside(*state[:3], obstacles)
        moved = math.hypot(state.x - before.x, state.z - before.z)
        seen["walked"] += moved > 0.215
        seen["stopped"] += action.forward != action.back and moved < 0.1
        seen["stepped up"] += state.y - before.y > 0.5
        seen["jumped"] += state.rising == motion.JUMP
        seen["fell"] += state.rising < -0.2
        seen["hit the ceiling"] += before.rising - motion.GRAVITY > 0 and state.rising == 0
    assert min(seen.values()) > 0 or seed, seen


def test_walks_at_the_speed_of_minecraft():
    states = run(State(4.5, 3, 4.5, 30), [Action(forward=1)] * 20, flat())
    moved = np.array(states[-1][:3]) - states[0][:3]
    assert moved == pytest.approx([-4.317 * 0.5, 0, 4.317 * math.sqrt(3) / 2])
    back = run(states[-1], [Action(back=1)] * 20, flat())[-1]
    assert back[:3] == pytest.approx(states[0][:3])
    both = motion.step(states[0], Action(forward=1, back=1), flat())
    assert both[:3] == states[0][:3]


@pytest.mark.parametrize(("yaw", "ahead"), [(0, (0, 1)), (90, (-1, 0)), (-180, (0, -1)), (-90, (1, 0))])
def test_yaw_is_that_of_minecraft(yaw, ahead):
    state = State(8.5, 3, 8.5, yaw)
    x, _, z = motion.step(state, Action(forward=1), flat())[:3]
    assert ((x - 8.5) / motion.WALK, (z - 8.5) / motion.WALK) == pytest.approx(ahead)


def test_a_whole_turn_ends_where_it_began():
    states = run(State(8.5, 3, 8.5, 173), [Action(turn=1)] * 36, flat())
    assert [s.yaw for s in states[:3]] == [173, -167, -147]
    assert states[18] == states[36] == states[0] and len({s.yaw for s in states}) == 18


def test_a_jump_is_a_block_and_a_third_high_and_needs_ground():
    heights = [s.y - 3 for s in run(State(8.5, 3, 8.5, 0), [Action(jump=1)] * 20, flat())]
    assert max(heights) == pytest.approx(1.32) and heights[:3] == pytest.approx([0, 0.42, 0.76])
    landed = heights.index(0.0, 1)
    assert heights[landed + 1] == pytest.approx(0.42), "it jumps again once it has landed"
    gravity = -np.diff(heights[: landed - 1], 2)[1:]
    assert gravity == pytest.approx(0.08)


def inside(x, y, z, obstacles) -> bool:
    """Whether a cell that the body reaches into is an obstacle."""
    return (
        any(
            obstacles[i % 16, j, k % 16]
            for i in range(math.floor(x - 0.3), math.floor(x + 0.3) + 1)
            for j in range(math.floor(y + 1e-3), math.floor(y + 1.8 - 1e-3) + 1)
            for k in range(math.floor(z - 0.3), math.floor(z + 0.3) + 1)
            if j < 12
        )
        or math.floor(y + 1e-3) < 0
    )


def literal_step(state, action, obstacles):
    x, y, z, yaw, speed = state
    forward, back, jump, turn = action
    yaw += 20 * turn
    if yaw >= 180:
        yaw -= 360
    if yaw < -180:
        yaw += 360
    below = math.floor(y - 0.05)
    standing = below < 0 or any(
        obstacles[i % 16, below, k % 16]
        for i in range(math.floor(x - 0.3), math.floor(x + 0.3) + 1)
        for k in range(math.floor(z - 0.3), math.floor(z + 0.3) + 1)
        if below < 12
    )
    speed = 0.42 if standing and jump else max(speed - 0.08, -0.9)
    go = 0.21585 * (forward - back)
    for axis, part in ((0, -go * math.sin(math.radians(yaw))), (2, go * math.cos(math.radians(yaw)))):
        there = [x, y, z]
        there[axis] += part
        upper = [there[0], math.floor(y + 1e-3) + 1, there[2]]
        if not inside(*there, obstacles):
            x, y, z = there
        elif standing and not inside(*upper, obstacles):
            x, y, z = upper
    if not inside(x, y + speed, z, obstacles):
        y += speed
    else:
        y = math.floor(y + speed + 1.8) - 1.8 if speed > 0 else math.floor(y + speed) + 1
        speed = 0.0
    return x, y, z, yaw, speed
