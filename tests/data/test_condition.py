"""The condition of a frame: the action, and the pose if wanted, with the first action of a clip left out."""

import dataclasses
import math

import numpy as np
import pytest

from rad_jax.config import DataConfig
from rad_jax.data import DataError
from rad_jax.data.condition import condition_arrays, condition_dim, condition_features, condition_plane
from tests.data import toy_episodes as toy

ACTION = DataConfig()


def _pose(harmonics=1):
    return DataConfig(condition="action+pose", heading_harmonics=harmonics)


def _clip(index=2):
    return {name: toy.episode(index)[name] for name in ("actions", "pose")}


def test_the_action_is_passed_on_but_for_the_first_of_the_clip():
    assert condition_arrays(ACTION) == ("actions",)
    clip = _clip()
    given = clip["actions"].copy()
    found = condition_features(toy.SPEC, clip, ACTION)
    assert found.shape[1] == condition_dim(toy.SPEC, ACTION) == 4 and found.dtype == np.float32
    np.testing.assert_array_equal(found[1:], given[1:])
    assert not found[0].any() and given[0].any()
    np.testing.assert_array_equal(clip["actions"], given)  # the caller's array is left alone


@pytest.mark.parametrize("harmonics", [1, 5])
def test_the_pose_is_scaled_position_and_harmonics_of_the_heading(harmonics):
    clip = _clip()
    assert condition_arrays(_pose()) == tuple(clip)
    found = condition_features(toy.SPEC, clip, _pose(harmonics))
    assert found.shape[1] == condition_dim(toy.SPEC, _pose(harmonics)) == 4 + 2 + 2 * harmonics
    for t, (x, y, cos, sin) in enumerate(clip["pose"].tolist()):
        heading = math.atan2(sin, cos)
        expected = [0.5 * x, 0.25 * y]
        for k in range(1, harmonics + 1):
            expected += [math.cos(k * heading), math.sin(k * heading)]
        np.testing.assert_allclose(found[t, 4:], expected, rtol=0, atol=1e-6)
    assert not found[0, :4].any() and found[0, 4:].all()


def test_columns_are_found_by_name():
    order = [3, 1, 2, 0]
    names = [toy.SPEC.info["pose"][column] for column in order]
    scale = [toy.SPEC.info["pose_scale"][column] for column in order]
    spec = dataclasses.replace(toy.SPEC, info={**toy.SPEC.info, "pose": names, "pose_scale": scale})
    clip = _clip()
    found = condition_features(spec, {**clip, "pose": clip["pose"][:, order]}, _pose(2))
    expected = condition_features(toy.SPEC, clip, _pose(2))
    np.testing.assert_array_equal(found, expected[:, [0, 1, 2, 3, 5, 4, 6, 7, 8, 9]])


@pytest.mark.parametrize(
    ("names", "plane"),
    [
        (("x", "y", "cos", "sin"), (1, 2)),
        (("cos", "sin", "y", "x"), (2, 1)),
        (("x", "y", "z", "pitch", "cos", "sin"), (3, -1)),
        (("x", "cos", "sin", "z"), (2, -1)),
        (("a", "b", "cos", "sin"), None),
    ],
)
def test_the_plane_is_found_by_name(names, plane):
    info = {**toy.SPEC.info, "pose": list(names), "pose_scale": [1.0] * len(names)}
    arrays = {**toy.SPEC.arrays, "pose": ((len(names),), "float32")}
    spec = dataclasses.replace(toy.SPEC, info=info, arrays=arrays)
    assert condition_plane(spec, _pose()) == plane
    assert condition_plane(spec, ACTION) is None


def test_several_clips_at_once_are_each_a_clip():
    clips = {name: array[:10].reshape(2, 5, 4) for name, array in _clip().items()}
    found = condition_features(toy.SPEC, clips, _pose(3))
    for row in range(2):
        one = {name: array[row] for name, array in clips.items()}
        np.testing.assert_array_equal(found[row], condition_features(toy.SPEC, one, _pose(3)))


def _without(group, name):
    kept = {key: value for key, value in getattr(toy.SPEC, group).items() if key != name}
    return dataclasses.replace(toy.SPEC, **{group: kept})


def _info(**changes):
    return dataclasses.replace(toy.SPEC, info={**toy.SPEC.info, **changes})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (_without("arrays", "pose"), r"'toy' has no array 'pose', .*data\.condition=action\+pose"),
        (_without("arrays", "actions"), "'toy' has no array 'actions'"),
        (_without("info", "actions"), r"info\['actions'\] is missing"),
        (_without("info", "pose"), r"info\['pose'\] is missing"),
        (_without("info", "pose_scale"), r"info\['pose_scale'\] is missing"),
        (_info(actions=["a"]), r"info\['actions'\] is \['a'\], expected .* \(4,\)"),
        (_info(pose=["x", "y", "z", "yaw"]), r"info\['pose'\] .*'cos' and 'sin'"),
    ],
)
def test_what_a_data_set_cannot_give_is_named(spec, message):
    """Without the pose nothing is said about it."""
    configs = [ACTION, _pose()] if "actions" in message else [_pose()]
    for config in configs:
        with pytest.raises(DataError, match=message):
            condition_dim(spec, config)
        with pytest.raises(DataError, match=message):
            condition_features(spec, _clip(), config)
    assert len(configs) == 2 or condition_dim(spec, ACTION) == 4
