"""Where an agent is, from its actions: fits of systems that are known, sums against a literal loop, frames one by one."""

import dataclasses
import json
import math

import numpy as np
import pytest

from data_prep.worlds.maze import motion
from data_prep.worlds.maze.protocols import draw_walk
from data_prep.worlds.maze.recipe import Recipe
from data_prep.worlds.maze.world import ROOM_SIZE
from rad_jax import odometry as odo
from rad_jax.config import DataConfig
from rad_jax.data import DataError
from rad_jax.data.condition import condition_arrays, condition_dim, condition_features, next_conditions
from rad_jax.odometry import EARLIER, Odometry, fit, follow, start
from tests.data import toy_episodes as toy

CONFIG = DataConfig(condition="action+odometry", heading_harmonics=3)
ACTIONS = 3


def known(plane=(0, 2), scale=(0.5, 2.0, 0.25), seed=0, gated=True) -> Odometry:
    """Random taps, by which no frame turns by half a turn."""
    rng, size = np.random.default_rng(seed), 1 + len(scale)
    gates = 1 + ACTIONS * gated
    now, past = rng.normal(0, 0.3, (ACTIONS, size)), rng.normal(0, 0.1, (EARLIER, gates, ACTIONS, size))
    now[..., 0], past[..., 0] = 0.5 * now[..., 0], 0.2 * past[..., 0]
    return Odometry(plane, scale, odo._tuples(now.tolist()), odo._tuples(past.tolist()))


def literal(taps: Odometry, actions) -> tuple[list, list]:
    """Positions and headings, number by number."""
    heading, position, positions, headings = 0.0, [0.0] * len(taps.scale), [], []
    for t in range(len(actions)):
        moved = [0.0] * (1 + len(taps.scale))
        for o in range(len(moved)):
            for a in range(ACTIONS):
                moved[o] += taps.now[a][o] * actions[t][a]
            for k in range(len(taps.past)):
                if t - k - 1 < 0:
                    continue
                for b in range(ACTIONS):
                    factor = taps.past[k][0][b][o]
                    for a in range(len(taps.past[k]) - 1):
                        factor += taps.past[k][1 + a][b][o] * actions[t][a]
                    moved[o] += factor * actions[t - k - 1][b]
        heading += moved[0]
        for column, step in enumerate(moved[1:]):
            if column not in taps.plane:
                position[column] += step
        if taps.plane:
            i, j = taps.plane
            position[i] += math.cos(heading) * moved[1 + i] - math.sin(heading) * moved[1 + j]
            position[j] += math.sin(heading) * moved[1 + i] + math.cos(heading) * moved[1 + j]
        positions.append(list(position))
        headings.append(heading)
    return positions, headings


def draw_actions(*shape, seed=1):
    actions = np.random.default_rng(seed).normal(size=(*shape, ACTIONS))
    actions[..., 0, :] = 0
    return actions


SYSTEMS = {
    "first and last": known((0, 2)),
    "the other sense": known((2, 0)),
    "other columns": known((1, 0)),
    "two positions": known((0, 1), (1.0, 1.0)),
    "one position": known((), (1.0,)),
    "no position": known((), ()),
}


@pytest.mark.parametrize("case", SYSTEMS)
@pytest.mark.parametrize("gated", [True, False])
def test_positions_are_those_of_a_literal_loop(case, gated):
    taps = SYSTEMS[case]
    taps = known(taps.plane, taps.scale, 3, gated)
    actions = draw_actions(2, 12)
    track, position, heading = follow(taps, start(taps, 2), actions)
    for row in range(2):
        expected = literal(taps, actions[row])
        np.testing.assert_allclose(position[row], np.reshape(expected[0], (12, -1)), rtol=0, atol=1e-12)
        np.testing.assert_allclose(heading[row], expected[1], rtol=0, atol=1e-12)
        np.testing.assert_array_equal(track.position[row], position[row, -1])


@pytest.mark.parametrize("case", SYSTEMS)
@pytest.mark.parametrize("gated", [True, False])
def test_a_fit_finds_the_taps_and_the_plane_of_a_known_system(case, gated, monkeypatch):
    """Headings come wrapped; walks begin anywhere, and heading 0 is another direction in each."""
    taps = SYSTEMS[case]
    taps = known(taps.plane, taps.scale, 4, gated)
    if not gated:
        monkeypatch.setattr(odo, "MOST", 20)
    walks, rng = [], np.random.default_rng(5)
    for number in range(20):
        actions = draw_actions(40, seed=number)
        position, heading = follow(taps, start(taps), actions)[1:]
        first, turn = rng.normal(size=len(taps.scale)), rng.uniform(-3, 3)
        if taps.plane:
            position = odo._turned(position, taps.plane, np.full(40, turn))
            heading = heading + turn
        actions[0] = rng.normal(
            size=ACTIONS
        )  # led to the first frame; a fit leaves it out, as a condition does
        walks.append((actions, first + position, np.arctan2(np.sin(heading), np.cos(heading))))
    assert any(np.abs(np.diff(heading)).max() > np.pi for *_, heading in walks)
    found = fit(walks, taps.scale)
    assert (found.plane, found.scale, found.gated) == (taps.plane, taps.scale, gated)
    np.testing.assert_allclose(found.taps, taps.taps, rtol=0, atol=1e-9)


def test_frames_one_by_one_have_the_same_bits_as_all_at_once():
    taps, actions = known(), np.float32(draw_actions(2, 300))
    actions[:, ::3] = 0  # so that some features are nothing in a part of the frames alone
    track, whole = next_conditions(taps, start(taps, 2), actions, CONFIG)
    assert whole.dtype == np.float32 and whole.shape == (2, 300, ACTIONS + 3 + 2 * 3)
    for sizes in ([1] * 300, [7, 1, 200, 92]):
        now, first = start(taps, 2), 0
        for size in sizes:
            now, found = next_conditions(taps, now, actions[:, first : first + size], CONFIG)
            np.testing.assert_array_equal(found, whole[:, first : first + size])
            first += size
        for found, expected in zip(now, track, strict=True):
            np.testing.assert_array_equal(found, expected)


def spec_without_pose():
    arrays = {name: array for name, array in toy.SPEC.arrays.items() if name != "pose"}
    info = {name: value for name, value in toy.SPEC.info.items() if not name.startswith("pose")}
    return dataclasses.replace(toy.SPEC, arrays=arrays, info=info)


def taps_for_toy() -> Odometry:
    rng = np.random.default_rng(0)
    return fit([(rng.normal(size=(99, 4)), rng.normal(size=(99, 2)), rng.uniform(-3, 3, 99))], [0.5, 0.25])


def test_a_condition_has_the_columns_of_the_pose_from_actions_alone():
    taps, clip = taps_for_toy(), {"actions": toy.episode(2)["actions"]}
    assert condition_arrays(CONFIG) == ("actions",)
    found = condition_features(spec_without_pose(), clip, CONFIG, taps)
    assert found.shape[1] == 4 + 2 + 6 == condition_dim(spec_without_pose(), CONFIG, taps)
    assert condition_dim(toy.SPEC, CONFIG) == found.shape[1] and found.dtype == np.float32
    actions = np.array(clip["actions"])
    actions[0] = 0
    _, position, heading = follow(taps, start(taps), actions)
    np.testing.assert_array_equal(found[:, :4], actions)
    np.testing.assert_allclose(found[:, 4:6], position * [0.5, 0.25], rtol=1e-6)
    for k in (1, 2, 3):
        np.testing.assert_allclose(found[:, 4 + 2 * k], np.cos(k * heading), rtol=0, atol=1e-6)
        np.testing.assert_allclose(found[:, 5 + 2 * k], np.sin(k * heading), rtol=0, atol=1e-6)
    assert found[0].tolist() == [0] * 6 + [1, 0] * 3
    together = condition_features(toy.SPEC, {"actions": np.stack([actions, actions])}, CONFIG, taps)
    np.testing.assert_array_equal(together, [found, found])


def test_what_is_missing_is_named():
    with pytest.raises(DataError, match=r"action\+odometry: the training set has no pose to fit") as info:
        condition_dim(spec_without_pose(), CONFIG)
    assert "\n" not in str(info.value)
    arrays = {"actions": np.zeros((3, 4))}
    with pytest.raises(ValueError, match="needs the odometry"):
        condition_features(toy.SPEC, arrays, CONFIG)
    with pytest.raises(DataError, match=r"4 actions, .* of 3"):
        condition_features(toy.SPEC, arrays, CONFIG, known())
    for walks in (
        [],
        [(np.ones((1, 3)), np.ones((1, 2)), np.ones(1))],
        [(np.zeros((9, 3)), np.ones((9, 2)), np.ones(9))],
    ):
        with pytest.raises(ValueError, match="no action"):
            fit(walks, [1.0, 1.0])


def as_json(**changes):
    return json.loads(json.dumps(dataclasses.asdict(known()) | changes))


def test_a_journey_through_json_changes_no_bit():
    assert Odometry.parse(as_json()) == known() and hash(Odometry.parse(as_json())) == hash(known())


WRONG = {
    "a list": [],
    "nothing": {},
    "three columns": as_json(plane=[0, 1, 2]),
    "one column twice": as_json(plane=[1, 1]),
    "a column too many": as_json(plane=[0, 3]),
    "no plane": as_json(plane=[]),
    "a scale too many": as_json(scale=[1.0] * 4),
    "a large scale": as_json(scale=[1.0, 1.0, 1e9]),
    "no actions": as_json(now=[]),
    "a row too short": as_json(now=[[0.0] * 4, [0.0] * 3, [0.0] * 4]),
    "a large tap": as_json(now=[[1e9] * 4] * 3),
    "text": as_json(now=[["a"] * 4] * 3),
    "a gate too many": as_json(past=[[[[0.0] * 4] * 3] * 5]),
    "no gates": as_json(past=[[]]),
    "unequal": as_json(past=[[[[0.0] * 4] * 3], []]),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_odometry_is_refused(case):
    with pytest.raises(ValueError) as info:
        Odometry.parse(WRONG[case])
    assert "odometry" in str(info.value) and len(str(info.value).splitlines()) == 1


def walks_of(episodes: int, **recipe) -> list[odo.Walk]:
    """Of the embedded world, without its frames: actions as they are stored, true positions and headings."""
    walks = [draw_walk(Recipe(**recipe), index)[1] for index in range(episodes)]
    rows = [(walk.action[:, None] == np.arange(len(motion.ACTIONS)), walk.pose) for walk in walks]
    return [
        (a.astype(np.float32), p[:, :2].astype(np.float64), np.arctan2(p[:, 3], p[:, 2])) for a, p in rows
    ]


def errors(taps: Odometry, walk: odo.Walk) -> tuple[np.ndarray, np.ndarray]:
    """Of headings (degrees) and positions (cells) at every frame, as seen from the first frame."""
    actions, true, heading = walk
    _, position, found = follow(taps, start(taps), actions)
    turn = np.degrees((found - heading + heading[0] + np.pi) % (2 * np.pi) - np.pi)
    true = odo._turned(true - true[0], (0, 1), np.full(len(true), -heading[0]))
    return np.abs(turn), np.linalg.norm(position - true, axis=1)


def test_headings_of_a_room_with_free_angles_are_known_to_a_degree():
    room = {"protocol": "rotate", "room": True, "size": ROOM_SIZE, "turn_degrees": 0.0}
    taps = fit(walks_of(48, **room), [1.0, 1.0])
    found = [errors(taps, walk)[0] for walk in walks_of(12, split="test", frames=62, **room)]
    assert np.stack(found)[:, 60].max() < 0.1  # a turn is 18.4 degrees; 0.02 were found


def test_positions_of_a_walk_drift_by_less_than_a_quarter_of_a_cell():
    taps = fit(walks_of(24, protocol="train", size=5, frames=150), [0.2, 0.2])
    found = [errors(taps, w) for w in walks_of(6, protocol="loop", size=5, split="test", max_frames=200)]
    assert taps.plane == (0, 1)
    assert max(heading[:100].max() for heading, _ in found) < 2
    assert 0.002 < max(position[:100].max() for _, position in found) < 0.25  # at walls, it is not exact


def test_the_plane_of_a_voxel_world_is_found_beside_height_and_pitch():
    """An agent that turns by 20 degrees and looks along (-sin, cos) in x and z, as in Minecraft; with nothing in its way."""
    rng, walks = np.random.default_rng(0), []
    for _ in range(8):
        actions = np.eye(4)[rng.integers(0, 4, 60)]
        heading = np.radians(rng.integers(18) * 20 + 20 * np.cumsum(actions[:, 0] - actions[:, 1]))
        ahead = 0.2 * actions[:, 2:3] * np.stack([-np.sin(heading), np.cos(heading)], axis=1)
        x, z = np.cumsum(ahead, axis=0).T
        walks.append((actions, np.stack([x, rng.normal(0, 0.01, 60), z, np.zeros(60)], axis=1), heading))
    taps = fit(walks, [1 / 32, 1 / 32, 1 / 32, 1 / 90])
    assert taps.plane == (0, 2)
    np.testing.assert_allclose(
        np.degrees(np.array(taps.now)[:2, 0] - np.array(taps.now)[3, 0]), [20, -20], atol=0.01
    )
