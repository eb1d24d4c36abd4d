"""Policies and protocols: what is pressed, where it leads, what an evaluation gives."""

from itertools import islice

import numpy as np
import pytest

from data_prep.worlds.voxel import policy
from data_prep.worlds.voxel.motion import WALK, Action
from data_prep.worlds.voxel.protocols import draw_walk
from data_prep.worlds.voxel.recipe import SHORTEST_CONTEXT, Recipe

FORWARD, BACK, JUMP, TURN = range(4)


def test_random_policy_is_that_of_vrag():
    steps = 10_000
    for turns in (0.25, 0.05):
        actions = np.array(list(islice(policy.random_actions(np.random.default_rng(0), turns), steps)))
        held = actions.reshape(-1, 5, 4)
        assert (held == held[:, :1]).all(), "an action is held for five steps"
        drawn, sigma = held[:, 0], 4 * 0.5 / np.sqrt(steps / 5)
        assert drawn[:, FORWARD].mean() == pytest.approx(0.95, abs=sigma)
        assert drawn[:, JUMP].mean() == pytest.approx(0.2, abs=sigma)
        assert not drawn[:, BACK].any()
        for side in (-1, 1):
            assert (drawn[:, TURN] == side).mean() == pytest.approx(turns, abs=sigma)
        together = np.corrcoef(drawn[:, [FORWARD, JUMP, TURN]].T)
        assert np.abs(together - np.eye(3)).max() < 2 * sigma, "keys are drawn independently"


@pytest.mark.parametrize("corners", policy.CORNERS)
@pytest.mark.parametrize("side", [-1, 1])
def test_polygons_close(corners, side):
    lap = np.array(policy.polygon(side, corners, 7, 2))
    assert len(lap) == corners * (7 + 2) + 18
    assert lap[:, TURN].sum() * 20 == side * 360
    heading = np.radians(20 * np.cumsum(lap[:, TURN]))
    moved = lap[:, FORWARD, None] * np.stack([-np.sin(heading), np.cos(heading)], 1)
    assert np.abs(moved.sum(0)).max() < 1e-9
    assert not (lap[:, FORWARD] * lap[:, TURN]).any(), "walking and turning are steps of their own"


def test_patterns_are_drawn_as_vrag_draws_them():
    rng = np.random.default_rng(1)
    laps = [np.array(policy.random_pattern(rng)) for _ in range(3000)]
    corners = []
    for lap in laps:
        edges = np.diff(np.flatnonzero(np.diff(np.abs(np.r_[0, lap[:, TURN], 0])))[::2])
        corners.append(len(edges) + 1 if lap[:, FORWARD].any() else 0)
        assert np.abs(lap[:, TURN].sum()) == 18
    shares = [np.mean(np.array(corners) == n) for n in (0, 2, 3, 6)]
    assert shares == pytest.approx([0.4, 0.2, 0.2, 0.2], abs=0.04)
    assert np.mean([lap[:, TURN].sum() > 0 for lap in laps]) == pytest.approx(0.5, abs=0.04)
    forward = {int(lap[:, FORWARD].sum() / n) for lap, n in zip(laps, corners) if n}
    waiting = {int((~lap.any(1)).sum() / n) for lap, n in zip(laps, corners) if n}
    assert forward == set(range(3, 10)) and waiting == set(range(10))


def test_out_and_back_is_its_own_mirror():
    for seed in range(20):
        actions = policy.out_and_back(np.random.default_rng(seed), 30)
        out, turn, back = actions[:30], actions[30:39], actions[39:]
        assert len(actions) == 69 and len(set(turn)) == 1 and abs(turn[0].turn) == 1
        assert back == [Action(a.forward, 0, 0, -a.turn) for a in reversed(out)]
        assert {a.forward for a in out} == {0, 1} == {abs(a.turn) for a in out}


def walks(protocol, count=3, **options):
    recipe = Recipe(protocol, **options)
    return [draw_walk(recipe, index)[1] for index in range(count)]


def test_rotations_turn_on_in_place():
    for walk in walks("rotate", split="test"):
        assert walk.pose.shape == (100, 4) and walk.n_context == 60
        assert (walk.pose[:, :3] == walk.pose[0, :3]).all()
        turned = np.diff(walk.pose[:, 3]) % 360
        assert set(turned) in ({20}, {340})
        assert np.array_equal(walk.pose[18:], walk.pose[:-18])


def test_rotations_to_train_on_turn_either_way():
    for walk in walks("rotate"):
        assert np.array_equal(np.diff(walk.pose[:, 3]) % 360, 20 * walk.action[1:, TURN] % 360)
        assert walk.n_context is None and (walk.pose[:, :3] == walk.pose[0, :3]).all()
        assert not walk.action[:, :TURN].any() and len(np.unique(walk.pose[:, 3])) == 18


@pytest.mark.parametrize("context", [60, 32])
def test_loops_come_by_again_and_have_been_seen_whole(context):
    lengths = set()
    for walk in walks("loop", 8, split="test", context=context):
        lap = lap_of(walk.pose[:, [0, 2]])
        assert np.array_equal(walk.pose[lap:, 3], walk.pose[:-lap, 3])
        assert lap + 1 <= walk.n_context == context
        assert walk.action[1:, :].any(1).all(), "nobody waits"
        lengths.add(lap)
    assert len(lengths) > 2


def lap_of(places: np.ndarray) -> int:
    """Steps after which the places come again."""
    return next(n for n in range(24, 80) if np.allclose(places[n:], places[:-n], atol=1e-9))


def test_the_way_back_is_the_way_out():
    for walk in walks("return", split="test"):
        n = walk.n_context
        out = n - 1 - 9
        places = walk.pose[:, [0, 2]]
        np.testing.assert_allclose(places[n - 1 :], places[out - len(places) + n : out + 1][::-1], atol=1e-9)
        facing = (walk.pose[n - 1, 3] - walk.pose[out, 3]) % 360
        assert facing == 180
        assert np.linalg.norm(np.diff(places, axis=0), axis=1).max() == pytest.approx(WALK)


@pytest.mark.parametrize("protocol", ["loop", "return"])
def test_blocks_are_never_in_the_way_of_patterns(protocol):
    for walk in walks(protocol) + walks(protocol, split="test"):
        moved = np.linalg.norm(np.diff(walk.pose[:, [0, 2]], axis=0), axis=1)
        np.testing.assert_allclose(moved, WALK * walk.action[1:, FORWARD], atol=1e-9)


def test_walks_are_functions_of_seed_split_protocol_and_index():
    def fingerprint(index, protocol="rotate", **options):
        world, walk = draw_walk(Recipe(protocol, **options), index)
        return world.blocks.tobytes(), walk.pose.tobytes()

    assert fingerprint(3) == fingerprint(3)
    alone = [
        *(fingerprint(index, split=split) for split in ("train", "test", "validation") for index in range(3)),
        fingerprint(0, seed=1),
        fingerprint(0, "train", frames=3),
    ]
    assert len({world for world, _ in alone}) == len(alone), "no two episodes share a world"
    assert fingerprint(3, size="32x16") == fingerprint(3), "the world does not depend on how it is looked at"


def test_every_protocol_has_walks_of_the_shortest_lengths():
    for protocol, context in SHORTEST_CONTEXT.items():
        for walk in walks(protocol, 1, split="test", frames=context + 1, context=context):
            assert len(walk.pose) == context + 1
        assert len(walks(protocol, 1, frames=31)[0].pose) == 31
