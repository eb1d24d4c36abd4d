"""Worlds: what is in them, and that they have no edges."""

import numpy as np
import pytest

from data_prep.worlds.voxel import terrain
from data_prep.worlds.voxel.blocks import AIR, LEAVES, LOG, NAMES, WATER
from data_prep.worlds.voxel.terrain import HEIGHT, WATER_LEVEL, random_world


@pytest.fixture(scope="module")
def worlds():
    return [random_world(np.random.default_rng(seed)) for seed in range(6)]


def test_is_a_function_of_its_generator(worlds):
    assert np.array_equal(random_world(np.random.default_rng(2)).blocks, worlds[2].blocks)
    assert len({world.blocks.tobytes() for world in worlds}) == len(worlds)


def test_every_kind_of_block_is_somewhere(worlds):
    counts = [dict(zip(NAMES, np.bincount(world.blocks.ravel(), minlength=len(NAMES)))) for world in worlds]
    for name in NAMES:
        assert sum(count[name] > 0 for count in counts) >= 2, name
    for count in counts:
        assert 500 < count["leaves"] < 8000 and count["red_flowers"] + count["yellow_flowers"] > 60


def test_there_is_a_floor_everywhere_and_sky_above(worlds):
    for world in worlds:
        assert (world.blocks[:, 0] != AIR).all()
        assert (world.blocks[:, HEIGHT - 4 :] == AIR).all(), "who stands on the highest roof can jump"


def test_water_fills_what_is_below_its_level(worlds):
    for world in worlds:
        water = np.argwhere(world.blocks == WATER)
        if len(water):
            assert water[:, 1].max() == WATER_LEVEL
        assert not (world.blocks[:, : WATER_LEVEL + 1] == AIR).sum() > 200, "only huts are dug out"


def test_nobody_walks_above_water(worlds):
    for world in worlds:
        lake = (world.blocks == WATER).any(1)
        assert world.obstacles[lake[:, None].repeat(HEIGHT, 1)].all() if lake.any() else True
        assert np.array_equal(world.obstacles & ~lake[:, None], (world.blocks != AIR) & ~lake[:, None])


def test_hills_go_on_beyond_the_edge(worlds):
    """The step across the edge is like the steps inside."""
    for axis in (0, 1):
        inner = np.mean([np.abs(np.diff(world.ground, axis=axis)).mean() for world in worlds])
        edge = np.mean(
            [np.abs(world.ground.take(0, axis) - world.ground.take(-1, axis)).mean() for world in worlds]
        )
        assert edge < 2 * inner
    heights = np.concatenate([world.ground.ravel() for world in worlds])
    assert 4 < heights.std() < 9 and terrain._LOWEST <= heights.min() < WATER_LEVEL < 26 < heights.max()


def test_trees_cross_the_edge_whole(worlds):
    """Leaves hang on both sides of the edge as often as elsewhere."""
    leaves = sum((world.blocks == LEAVES).sum((1, 2)) for world in worlds)
    assert leaves[[0, -1]].sum() > 0 and abs(leaves[[0, 1, -2, -1]].mean() / leaves.mean() - 1) < 0.8
    for world in worlds:
        for x, y, z in np.argwhere(world.blocks == LOG)[::20]:
            assert world.blocks[x, y - 1, z] != AIR
