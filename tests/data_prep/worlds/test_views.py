"""Levels of detail, and views that are drawn once."""

import numpy as np

from data_prep.worlds.views import draw_views, mipmaps


def test_textures_get_coarser_by_level():
    fine = np.random.default_rng(0).random((5, 2, 16, 16, 3))
    levels = mipmaps(fine, 3, factor=4)
    assert levels.shape == (3, *fine.shape) and levels.dtype == np.float32
    for level, side in enumerate((1, 4, 16)):
        tiles = fine.reshape(5, 2, 16 // side, side, 16 // side, side, 3).mean((3, 5))
        expected = tiles.repeat(side, 2).repeat(side, 3)
        np.testing.assert_allclose(levels[level], expected, rtol=1e-6)


def test_equal_views_are_drawn_once_in_calls_of_one_size():
    keys, calls = np.array([[3, 1], [0, 0], [3, 1], [2, 0], [0, 1]]), []

    def draw(rows: np.ndarray) -> np.ndarray:
        calls.append(rows)
        return np.broadcast_to(keys[rows].sum(1)[:, None, None, None], (len(rows), 2, 2, 3)).astype(np.uint8)

    for together in (1, 3, 8):
        calls.clear()
        frames = draw_views(keys, together, draw)
        assert frames.shape == (5, 2, 2, 3) and (frames[:, 0, 0, 0] == keys.sum(1)).all()
        assert {len(rows) for rows in calls} == {together} and len(calls) == -(-4 // together)
