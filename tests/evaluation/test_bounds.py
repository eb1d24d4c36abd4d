"""The trivial predictors are what they say, and the look-up by pose compares poses as a reader would."""

import numpy as np

from rad_jax.data import Episodes
from rad_jax.evaluation.bounds import POSITION_WEIGHT, bound_predictions, floors
from rad_jax.runs.training_run import open_training_run


def test_floors():
    context = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    made = floors(context, 3)
    np.testing.assert_allclose(made["repeat last"], np.stack([context[-1]] * 3) / 255, rtol=1e-6)
    np.testing.assert_allclose(made["mean context"], np.stack([context.mean(axis=0)] * 3) / 255, rtol=1e-5)


def test_the_nearest_earlier_view_is_a_context_frame_of_the_nearest_pose(toy):
    config, mazes = toy.config("lstm-f"), Episodes(toy.mazes, "test")
    tokenizer = open_training_run(config).tokenizer
    for index, clip, rows in bound_predictions(tokenizer, config, mazes):
        pose = mazes.read(index, arrays=["pose"])["pose"].astype(np.float64)
        for t, found in enumerate(rows["nearest earlier view"], clip.context):
            # Literally: cells are a fifth of the world's extent, and a heading is an angle that wraps.
            distances = []
            for earlier in pose[: clip.context]:
                cells = np.linalg.norm(pose[t, :2] - earlier[:2]) * POSITION_WEIGHT / size_of(mazes)
                turn = np.arctan2(pose[t, 3], pose[t, 2]) - np.arctan2(earlier[3], earlier[2])
                distances.append(cells**2 + (2 * np.sin(turn / 2)) ** 2)
            nearest = np.flatnonzero(np.array(distances) <= min(distances) + 1e-9)
            assert any(np.array_equal(found, clip.frames[j]) for j in nearest)


def size_of(mazes):
    """Cells of a maze along a side."""
    return mazes.spec.info["size"]


def test_without_poses_there_is_no_look_up_by_pose(toy, monkeypatch):
    monkeypatch.setattr("rad_jax.evaluation.bounds.has_pose", lambda spec: False)
    config, mazes = toy.config("lstm-f"), Episodes(toy.mazes, "test")
    _, _, rows = next(bound_predictions(open_training_run(config).tokenizer, config, mazes))
    assert "nearest earlier view" not in rows and "mean context" in rows
