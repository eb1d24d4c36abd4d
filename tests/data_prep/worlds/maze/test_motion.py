"""Motion: the measured kinematics of Memory Maze, and walls that hold."""

import itertools
import math

import numpy as np
import pytest

from data_prep.worlds.maze import motion
from data_prep.worlds.maze.motion import FORWARD, FORWARD_LEFT, LEFT, NOOP, RIGHT, State, step
from data_prep.worlds.maze.policy import ALIGNED, Follower, heading_error, shortest_path
from data_prep.worlds.maze.world import maze_world

OPEN = np.ones((41, 41), bool)
MIDDLE = State(20.5, 20.5, 0.3)


def walk(state: State, actions) -> list[State]:
    states = [state]
    for action in actions:
        states.append(step(states[-1], action, OPEN))
    return states


def turns(states) -> list[float]:
    return [math.degrees(b.heading - a.heading) for a, b in itertools.pairwise(states)]


def moves(states) -> list[float]:
    return [math.dist(a[:2], b[:2]) for a, b in itertools.pairwise(states)]


def test_turning_speeds_up_and_stops_as_measured():
    states = walk(MIDDLE, [LEFT] * 4 + [NOOP] * 2)
    assert turns(states) == pytest.approx([14.1, 18.3, 18.4, 18.4, 2.9, 0], abs=0.06)
    assert moves(states) == [0] * 6
    mirrored = walk(MIDDLE, [RIGHT] * 4 + [NOOP] * 2)
    assert turns(mirrored) == pytest.approx([-turn for turn in turns(states)])


def test_walking_speeds_up_as_measured():
    states = walk(MIDDLE, [FORWARD] * 6)
    assert moves(states)[:5] == pytest.approx([0.111, 0.219, 0.243, 0.248, 0.250], abs=6e-4)
    direction = math.atan2(states[-1].y - states[0].y, states[-1].x - states[0].x)
    assert direction == pytest.approx(MIDDLE.heading)
    assert moves(walk(states[-1], [NOOP] * 4))[-1] < 1e-3


def test_walking_while_turning_turns_the_same_and_is_a_little_slower():
    states = walk(MIDDLE, [FORWARD_LEFT] * 8)
    assert turns(states)[:3] == pytest.approx([14.1, 18.3, 18.4], abs=0.06)
    assert moves(states)[-1] == pytest.approx(0.246, abs=5e-4)


@pytest.mark.parametrize("seed", [0, 1])
def test_walls_hold(seed):
    """A long random walk, forward most of the time, never reaches into a wall."""
    rng = np.random.default_rng(seed)
    free = maze_world(rng, 7).free
    y, x = np.argwhere(free)[0]
    state, blocked = State(x + 0.5, y + 0.5, 0.0), 0
    for action in rng.choice(6, p=[0.05, 0.45, 0.1, 0.1, 0.15, 0.15], size=3000):
        before, state = state, step(state, int(action), free)
        blocked += action == FORWARD and math.dist(before[:2], state[:2]) < 0.05
        for dx in (-motion.RADIUS, motion.RADIUS):
            for dy in (-motion.RADIUS, motion.RADIUS):
                corner_x, corner_y = math.floor(state.x + dx), math.floor(state.y + dy)
                assert 0 <= corner_x < 7 and 0 <= corner_y < 7 and free[corner_y, corner_x]
    assert blocked > 50, "the walk never ran into a wall: nothing was tested"


def test_a_blocked_agent_slides_along_the_wall():
    corridor = np.zeros((3, 9), bool)
    corridor[1] = True
    state = State(1.5, 1.85, math.radians(30))
    for _ in range(8):
        state = step(state, FORWARD, corridor)
    assert state.y < 1.9 and state.x > 2.5


def test_follower_reaches_every_way_point_in_order():
    free = maze_world(np.random.default_rng(4), 9).free
    cells = [(int(x), int(y)) for y, x in np.argwhere(free)]
    path = shortest_path(free, cells[0], cells[-1])
    follow, state, reached = Follower(path), State(path[0][0] + 0.5, path[0][1] + 0.5, 2.0), []
    for _ in range(400):
        for cell in path[len(reached) :]:
            if math.dist(state[:2], (cell[0] + 0.5, cell[1] + 0.5)) >= 0.3:
                break
            reached.append(cell)
        action = follow(state)
        if action is None:
            break
        state = step(state, action, free)
    assert reached == path


def test_heading_error_is_the_angle_to_turn_left():
    assert heading_error(State(0.5, 0.5, 0.0), (0, 3)) == pytest.approx(math.pi / 2)
    assert heading_error(State(0.5, 0.5, 7 * math.pi), (0, 3)) == pytest.approx(-math.pi / 2)
    assert math.radians(motion.TURN_DEGREES) / 2 < ALIGNED, "turning on the spot may never face the goal"
