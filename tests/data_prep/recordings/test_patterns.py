"""Patterns are found where they are, with the right context, and not elsewhere."""

import dataclasses

import numpy as np
import pytest

from data_prep.recordings import Candidate, Recording, find, read, source
from data_prep.recordings.actions import vectors
from data_prep.recordings.patterns import find_pattern, track
from data_prep.recordings.recording import unknown_pose
from tests.data_prep.recordings import format_files as files

POSES = pytest.mark.parametrize("with_pose", [True, False])
IDLE, AHEAD = (0, 0), (1, 0)


def recording(steps, with_pose, drift=0.0):
    """A recording of (forward, turn) steps."""
    rows = np.array([(0, 0), *steps])
    camera = np.zeros((len(rows), 2), np.float32)
    camera[:, 1] = 20 * rows[:, 1]
    pose = unknown_pose(len(rows))
    if with_pose:
        pose[:, :4] = files.walk(camera[:, 1], rows[:, 0], step=0.216)
        pose[:, 0] += drift * np.sin(np.arange(len(rows)))
        pose[0] = np.nan
    actions = vectors({"forward": rows[:, 0]}, camera)
    return Recording(Candidate("a", {}), source("vrag"), actions, pose, camera)


def polygon(corners, forward, wait, laps, side=1):
    turn = [(0, side)] * (18 // corners)
    return ([AHEAD] * forward + turn + [IDLE] * wait) * corners * laps


@POSES
@pytest.mark.parametrize("side", [-1, 1])
def test_turning_in_place_has_a_context_of_a_whole_turn(side, with_pose):
    found = find_pattern(recording([IDLE] * 4 + [(0, side)] * 30, with_pose, drift=0.05))
    assert (found.kind, found.n_context) == ("rotate", 1 + 4 + 18)


@POSES
def test_less_than_a_turn_is_no_rotation(with_pose):
    assert find_pattern(recording([(0, 1)] * 17, with_pose)) is None
    assert find_pattern(recording(([(0, 1)] * 9 + [(0, -1)] * 9) * 3, with_pose)) is None
    assert find_pattern(recording([(0, 1)] * 18, with_pose)) is None, "nothing is left to predict"


@POSES
@pytest.mark.parametrize("corners", [3, 6])
@pytest.mark.parametrize("forward", [5, 9])
@pytest.mark.parametrize("wait", [0, 6])
def test_a_lap_is_the_context_of_a_polygon(corners, forward, wait, with_pose):
    steps = polygon(corners, forward, wait, 2)
    found = find_pattern(recording(steps, with_pose))
    assert found.kind == "polygon"
    # The lap ends with the last corner, at the latest with the wait after it; facing begins a turn before.
    assert len(steps) // 2 - wait - 2 <= found.n_context <= len(steps) // 2 + 1


@POSES
def test_a_way_out_and_back_has_the_way_out_as_its_context(with_pose):
    found = find_pattern(recording(polygon(2, 12, 0, 2), with_pose))
    assert found.kind == "out_and_back" and 1 + 12 + 8 <= found.n_context <= 1 + 12 + 9


@POSES
def test_a_winding_way_out_and_back_is_found(with_pose):
    out = [AHEAD] * 8 + [(0, 1)] * 2 + [AHEAD] * 9 + [(0, -1)] * 3 + [AHEAD] * 7
    back = [(forward, -turn) for forward, turn in reversed(out)]
    found = find_pattern(recording(out + [(0, 1)] * 9 + back, with_pose))
    assert found.kind == "out_and_back" and abs(found.n_context - (1 + len(out) + 9)) <= 2


@POSES
@pytest.mark.parametrize("seed", range(6))
def test_wandering_is_no_pattern(seed, with_pose):
    rng = np.random.default_rng(seed)
    forward, turn = rng.random(30) < 0.95, rng.choice([-1, 0, 1], 30, p=[0.1, 0.8, 0.1])
    steps = np.repeat(np.column_stack([forward, turn]), 5, 0)
    assert find_pattern(recording(steps, with_pose)) is None


@POSES
def test_standing_and_one_lap_alone_are_no_pattern(with_pose):
    assert find_pattern(recording([IDLE] * 30, with_pose)) is None
    assert find_pattern(recording([AHEAD] * 60, with_pose)) is None
    assert find_pattern(recording(polygon(3, 8, 0, 1)[:-1], with_pose)) is None


@POSES
def test_a_lap_that_is_not_repeated_is_no_pattern(with_pose):
    assert find_pattern(recording(polygon(3, 8, 0, 1) + [AHEAD] * 40, with_pose)) is None
    assert find_pattern(recording(polygon(6, 8, 0, 1) + polygon(3, 30, 0, 1), with_pose)) is None


def test_a_way_reckoned_from_actions_is_that_of_the_poses():
    steps = polygon(6, 7, 2, 1, side=-1)
    known = recording(steps, True)
    reckoned = dataclasses.replace(known, pose=np.full_like(known.pose, np.nan))
    (places, yaw), (other, other_yaw) = track(known), track(reckoned)
    turned = np.exp(1j * np.radians(yaw[0] - other_yaw[0]))
    # The first step's place is not known, so that of the second stands for it.
    np.testing.assert_allclose(places[1:] - places[1], (other[1:] - other[1]) * turned, atol=0.01)
    np.testing.assert_allclose(np.diff(yaw), np.diff(other_yaw), atol=1e-3)


def test_mazes_have_no_patterns(tmp_path):
    files.memory_maze(tmp_path)
    assert find_pattern(read("memory_maze", find("memory_maze", tmp_path)[0])) is None
