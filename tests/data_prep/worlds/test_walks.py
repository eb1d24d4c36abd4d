"""What the walks of all worlds share."""

import itertools

import numpy as np
import pytest

from data_prep.worlds.maze.recipe import Recipe
from data_prep.worlds.recipe import RecipeError
from data_prep.worlds.voxel.terrain import SIZE, offset
from data_prep.worlds.walks import NoWalkError, first_walk, oracle_poses, training_rotation


def test_a_world_without_a_walk_is_replaced_and_at_last_reported():
    def walk_in(rng: np.random.Generator, world: int, recipe: Recipe) -> int:
        if world < 3:
            raise NoWalkError(f"{world} is too small")
        return -world

    def search(tries: int) -> tuple[int, int]:
        worlds = itertools.count()
        return first_walk(Recipe("train"), 5, lambda rng: next(worlds), walk_in, tries)

    assert search(4) == (3, -3)
    with pytest.raises(RecipeError, match=r"episode 5, protocol train: 3 tries .* 2 is too small"):
        search(3)


def test_rotations_to_train_on_turn_once_and_then_at_random():
    walks = np.array([training_rotation(np.random.default_rng(seed), 60, 12) for seed in range(200)])
    assert walks.shape == (200, 60) and set(np.unique(walks)) == {-1, 0, 1}
    assert (np.abs(walks[:, :12].sum(1)) == 12).all(), "the first turn shows everything"
    assert 0.02 < (walks == 0).mean() < 0.2 and abs(walks.mean()) < 0.1


@pytest.mark.parametrize("subtract", [np.subtract, offset])
def test_the_oracle_looks_from_the_nearest_place_of_the_context(subtract):
    context = [[1, 5, 1, 0], [2, 5, 1, 40]]
    pose = np.array([*context, [2.4, 5, 1.2, 60], [1.2, 5, 1, -60], [SIZE + 1.2, 5, 1, 7]], float)
    expected = pose.copy()
    expected[2:4, :3] = [[2, 5, 1], [1, 5, 1]]
    expected[4, :3] = [1, 5, 1] if subtract is offset else [2, 5, 1]  # the short way around the world
    assert np.array_equal(oracle_poses(pose, 2, 3, subtract), expected)
