"""Walks: what every protocol promises about context, way back, laps and turns."""

import math

import numpy as np
import pytest

from data_prep.worlds.maze.motion import LEFT, NOOP, RIGHT
from data_prep.worlds.maze.protocols import Walk, draw_walk
from data_prep.worlds.maze.recipe import Recipe

ROOM = {"protocol": "rotate", "room": True, "size": 3, "pixels": 32}


def walks(recipe: Recipe, count: int) -> list[Walk]:
    return [draw_walk(recipe, index)[1] for index in range(count)]


def reached(pose: np.ndarray, cells) -> tuple[int, int]:
    """(way-points that the poses come near, one after the other; frame of the last of them)."""
    count, last = 0, 0
    for frame, (x, y) in enumerate(pose[:, :2]):
        while (
            count < len(cells) and math.dist((x, y), (cells[count][0] + 0.5, cells[count][1] + 0.5)) < 0.3001
        ):
            count, last = count + 1, frame
    return count, last


def check_lengths(recipe: Recipe, walk: Walk) -> None:
    frames = len(walk.pose)
    assert recipe.min_frames <= frames <= recipe.max_frames
    assert 0.6 * frames - 0.6 < walk.n_context <= 0.6 * frames + 1e-9
    assert len(walk.action) == len(walk.target) == len(walk.reward) == frames


@pytest.mark.parametrize("size", [5, 9, 15])
def test_return_gives_the_way_out_and_predicts_the_way_back(size):
    recipe = Recipe("return", split="test", size=size)
    for walk in walks(recipe, 12):
        check_lengths(recipe, walk)
        context, back = walk.pose[: walk.n_context], walk.pose[walk.n_context :]
        assert reached(context, walk.path)[0] == len(walk.path)
        count, _ = reached(walk.pose[walk.n_context - 1 :], list(walk.path)[::-1])
        assert 0.4 * len(walk.path) < count < len(walk.path)
        distance = np.linalg.norm(back[:, None, :2] - context[:, :2], axis=-1)
        assert distance.min(1).mean() < 0.2
        # Faces the way back at the end of the context.
        ahead = np.array(walk.path[-2]) + 0.5 - context[-1, :2]
        assert context[-1, 2:] @ ahead / np.linalg.norm(ahead) > math.cos(math.radians(9.4))


def test_return_looks_the_other_way_and_loop_the_same_way():
    """Heading at the nearest position of the context: opposite on a way back, seen before on a second lap."""
    other, same = [], []
    for protocol, cosines in (("return", other), ("loop", same)):
        for walk in walks(Recipe(protocol, split="test"), 12):
            context, rest = walk.pose[: walk.n_context], walk.pose[walk.n_context :]
            distance = np.linalg.norm(rest[:, None, :2] - context[:, :2], axis=-1)
            near = distance < distance.min(1, keepdims=True) + 0.1
            cosine = np.where(near, rest[:, 2:] @ context[:, 2:].T, -1)
            cosines.append(cosine.max(1).mean())
    assert np.mean(same) > 0.95
    assert np.mean(other) < 0.3


def test_loop_predicts_the_second_lap():
    recipe = Recipe("loop", split="test")
    for walk in walks(recipe, 12):
        check_lengths(recipe, walk)
        there, back = list(walk.path), list(walk.path)[::-1]
        count, out_ends = reached(walk.pose, there)
        assert count == len(there)
        count, _ = reached(walk.pose[out_ends : walk.n_context], back)
        assert count == len(back), "the first lap is not complete within the context"
        count, lap_ends = reached(walk.pose[walk.n_context - 1 :], there)
        assert count == len(there), "the second way out is not predicted"
        count, _ = reached(walk.pose[walk.n_context - 1 + lap_ends :], back)
        assert 1 <= count < len(back)
        context, rest = walk.pose[: walk.n_context], walk.pose[walk.n_context :]
        distance = np.linalg.norm(rest[:, None, :2] - context[:, :2], axis=-1)
        assert distance.min(1).mean() < 0.1


def test_loop_goes_on_for_as_many_laps_as_are_asked_for():
    for index in range(4):
        _, once = draw_walk(Recipe("loop", split="test", size=7), index)
        _, walk = draw_walk(Recipe("loop", split="test", size=7, laps=3), index)
        assert walk.n_context == once.n_context
        np.testing.assert_array_equal(walk.pose[: len(once.pose)], once.pose)
        there, back = list(walk.path), list(walk.path)[::-1]
        frame = walk.n_context - 1
        for way in (there, back) * 3:
            count, frames = reached(walk.pose[frame:], way)
            assert count == len(way)
            frame += frames
        # It faces the way out again, and no fourth lap begins.
        assert len(walk.pose) - frame < 25
        ahead = np.array(walk.path[1]) + 0.5 - walk.pose[-1, :2]
        assert walk.pose[-1, 2:] @ ahead / np.linalg.norm(ahead) > math.cos(math.radians(9.4))
        assert len(walk.pose) <= Recipe("loop", split="test", size=7, laps=3).num_frames


def test_look_around_turns_once_more_before_the_way_back():
    plain = walks(Recipe("return", split="test"), 6)
    looking = walks(Recipe("return", split="test", look_around=True), 6)

    def longest_turn(walk: Walk) -> int:
        runs = "".join("L" if action == LEFT else "." for action in walk.action[: walk.n_context]).split(".")
        return max(map(len, runs))

    assert all(longest_turn(walk) >= 20 for walk in looking)
    assert all(longest_turn(walk) < 20 for walk in plain)


def test_training_walks_see_the_maze_and_collect_rewards_at_their_targets():
    rewards = 0
    for index in range(12):
        environment, walk = draw_walk(Recipe("train", frames=1001), index)
        assert len(walk.pose) == 1001 and walk.n_context is None
        assert walk.action[0] == -1 and set(walk.action[1:]) <= set(range(6))
        for frame in np.flatnonzero(walk.reward):
            was = walk.target[frame - 1]
            assert math.dist(walk.pose[frame, :2], environment.world.targets[was]) < 0.4
        changes = np.flatnonzero(np.diff(walk.target)) + 1
        assert np.array_equal(changes, np.flatnonzero(walk.reward))
        rewards += walk.reward.sum()
        cells = {tuple(cell) for cell in np.floor(walk.pose[:, :2]).tolist()}
        assert len(cells) > 0.4 * environment.world.free.sum()
        still = np.linalg.norm(np.diff(walk.pose[:, :2], axis=0), axis=1) < 0.03
        assert max(map(len, "".join("x" if s else " " for s in still).split())) < 40, "it stays stuck"
    assert 0.5 < rewards / 12 < 3.5  # the official policy collects 1 to 2


def test_rotate_evaluation_shows_every_view_and_predicts_without_pauses():
    recipe = Recipe(**ROOM, split="test")
    assert (recipe.period, recipe.num_context, recipe.num_frames) == (12, 14, 25)
    turned_back = 0
    for walk in walks(recipe, 40):
        assert (walk.pose[:, :2] == 1.5).all()
        views = [tuple(view) for view in walk.pose[:, 2:]]
        assert len(set(views[:14])) == 12, "not every view is in the context"
        assert views[12:14] == views[:2], "a whole turn does not repeat bit for bit"
        assert len(set(views[14:])) == 11 and views[13] not in views[14:]
        first, second = set(walk.action[1:14]), set(walk.action[14:])
        assert len(first) == len(second) == 1 and first | second <= {LEFT, RIGHT}
        turned_back += first != second
    assert 8 < turned_back < 32


def test_rotate_training_walks_show_what_their_actions_say():
    for walk in walks(Recipe(**ROOM), 12):
        assert len(walk.pose) == 24 and walk.n_context is None
        turn = np.array([{LEFT: 30, RIGHT: -30, NOOP: 0}[action] for action in walk.action[1:]])
        heading = np.degrees(np.arctan2(walk.pose[:, 3], walk.pose[:, 2]))
        assert np.allclose((np.diff(heading) - turn + 180) % 360 - 180, 0, atol=1e-3)
        assert np.allclose(heading / 30, np.round(heading / 30), atol=1e-4), "not a multiple of 30 degrees"


def test_rotate_in_a_maze_keeps_the_real_kinematics():
    recipe = Recipe("rotate", split="test", size=7)
    assert (recipe.period, recipe.num_context, recipe.num_frames) == (20, 22, 41)
    for index in range(10):
        environment, walk = draw_walk(recipe, index)
        world = environment.world
        assert np.ptp(walk.pose[:, :2], axis=0).max() == 0
        heading = np.unwrap(np.arctan2(walk.pose[:, 3], walk.pose[:, 2]))
        steps = np.degrees(np.abs(np.diff(heading)))
        assert steps[:3] == pytest.approx([14.1, 18.3, 18.4], abs=0.06)
        assert abs(heading[21] - heading[0]) > 2 * math.pi, "the context is not a whole turn"
        x, y = walk.pose[0, :2]
        cells = {(int(a), int(b)) for a, b in world.targets}
        assert world.free[int(y), int(x)] and (int(x), int(y)) not in cells


def test_rotate_by_any_divisor_of_the_circle():
    recipe = Recipe("rotate", split="validation", size=5, turn_degrees=22.5, context=10, frames=30)
    (walk,) = walks(recipe, 1)
    assert recipe.period == 16 and walk.n_context == 10 and len(walk.pose) == 30
    later = walk.pose[10:]
    assert np.array_equal(later[:4], later[16:])


def test_a_room_with_the_real_kinematics_never_shows_one_view_twice():
    recipe = Recipe("rotate", split="test", size=3, room=True, turn_degrees=0.0)
    assert recipe.exact_turn is None and recipe.period == 20 and recipe.num_frames == 22 + 19
    for walk in walks(recipe, 4):
        heading = np.unwrap(np.arctan2(walk.pose[:, 3], walk.pose[:, 2]))
        apart = np.degrees(np.abs(walk.pose[24:, None, 2:] - walk.pose[None, :22, 2:]).max(-1).min(1))
        assert apart.min() > 0.1 and np.degrees(np.ptp(heading[:22])) > 360
        assert np.ptp(walk.pose[:, :2], axis=0).max() == 0
