"""The real engine, where it is installed: lock-step, kinematics, and turns that repeat bit for bit."""

import itertools
import math
from functools import partial

import numpy as np
import pytest

from data_prep.worlds.luanti.display import LuantiError
from data_prep.worlds.luanti.engine import Engine, expect_installed
from data_prep.worlds.luanti.recipe import Recipe
from data_prep.worlds.luanti.session import record
from data_prep.worlds.voxel.motion import WALK, Action


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """A running engine, or the reason why its tests are skipped."""
    try:
        expect_installed()
    except LuantiError as error:
        pytest.skip(str(error))
    with Engine(tmp_path_factory.mktemp("luanti"), 1, 128, 72) as engine:
        yield engine


@pytest.fixture(scope="module")
def rotation(engine):
    """An evaluation at an open place."""
    return record(Recipe("rotate", split="test", size="128x72", frames=40, context=21), 2, engine)


def test_a_rotation_repeats_bit_for_bit(rotation):
    frames, pose = rotation.frames, rotation.walk.pose
    assert frames.shape == (40, 72, 128, 3) and len(np.unique(frames.reshape(40, -1), axis=0)) == 18
    for t in range(22):
        assert np.array_equal(frames[t], frames[t + 18]), t
    assert np.ptp(pose[:, :3], axis=0).max() == 0
    turned = (np.diff(pose[:, 3]) + 180) % 360 - 180
    assert np.array_equal(turned, 20 * rotation.walk.action[1:, 3]) and abs(turned[0]) == 20


def test_nothing_is_written_over_the_picture(rotation):
    red = (rotation.frames[..., 0] > 180) & (rotation.frames[..., 1:] < 60).all(-1)
    assert not red.any(), "messages of the engine"
    assert rotation.frames.std() > 10, "nothing but sky"


def test_the_picture_turns_the_way_that_the_player_turns(rotation):
    """To the right: what is in the middle moves to the left. Compared are the brightness profiles over the columns, of every
    view and the next one; a view with little in it may be wrong, whatever the place."""
    profiles = [frame[20:50].astype(float).mean((0, 2)) for frame in rotation.frames[:19]]

    def alike(before: np.ndarray, after: np.ndarray, shift: int) -> float:
        moved, kept = before[max(shift, 0) : 128 + min(shift, 0)], after[max(-shift, 0) : 128 - max(shift, 0)]
        return np.corrcoef(moved, kept)[0, 1]

    shifts = [*range(-40, -9), *range(10, 41)]
    found = [max(shifts, key=partial(alike, *views)) for views in itertools.pairwise(profiles)]
    assert np.mean(np.sign(found) == rotation.walk.action[1, 3]) > 0.8, found


def test_walking_jumping_and_standing_still_are_as_in_minecraft(engine, rotation):
    before = engine.step(Action())
    assert engine.step(Action())[:4] == before[:4], "does not stand"
    heights, moved = [before.y], []
    for t in range(30):
        seen = engine.step(Action(forward=1, jump=int(t % 10 == 0)))
        heights.append(seen.y)
        dx, dz = seen.x - before.x, seen.z - before.z
        yaw = math.radians(seen.yaw)
        forward = dz * math.cos(yaw) - dx * math.sin(yaw)
        assert forward > -1e-5 and abs(dx * math.cos(yaw) + dz * math.sin(yaw)) < WALK
        moved.append(math.hypot(dx, dz))
        before = seen
    assert max(moved) == pytest.approx(WALK, abs=1e-4)
    assert max(np.diff(heights)) >= 0.42 - 1e-4, "never jumped"
