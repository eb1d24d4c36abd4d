"""Frames of videos; and cut into pieces or not: the same results, from pieces of bounded size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.arrays import apply_in_chunks, fit, window_of


@pytest.mark.parametrize("leading", [(), (1,), (7,), (2, 7), (3, 1, 5), (0,), (2, 0)])
@pytest.mark.parametrize("at_once", [1, 3, 4, 100])
def test_results_are_those_of_one_call(leading, at_once):
    rng = np.random.default_rng(0)
    a, b = (jnp.asarray(rng.random((*leading, 4, 6, 3)), jnp.float32) for _ in range(2))
    seen = []

    def function(x, y):
        seen.append(len(x))
        assert x.ndim == 4 and x.shape == y.shape
        return (x * y)[:, ::2, ::3, :1] + 1

    found = jax.jit(lambda a, b: apply_in_chunks(function, at_once, a, b))(a, b)
    np.testing.assert_array_equal(found, (a * b)[..., ::2, ::3, :1] + 1)
    whole, frames = int(np.prod(leading)), leading[-1] if leading else 1
    least = whole // frames if frames else 0  # only the last leading axis is cut
    assert max(seen) <= max(at_once, least)


def test_results_may_be_single_numbers():
    x = jnp.arange(2 * 5 * 3.0).reshape(2, 5, 1, 3, 1)
    found = apply_in_chunks(lambda x: x.sum((1, 2, 3)), 3, x)
    np.testing.assert_array_equal(found, x.sum((2, 3, 4)))


def test_frames_of_videos():
    x = jnp.arange(1, 11).reshape(2, 5)
    np.testing.assert_array_equal(window_of(x, jnp.array([0, 3]), 2), [[1, 2], [9, 10]])
    np.testing.assert_array_equal(fit(6, x)[:, 4:], [[5, 0], [10, 0]])
    np.testing.assert_array_equal(fit(2, x), x[:, :2])
    np.testing.assert_array_equal(fit(3, x, axis=-2)[1:], [[6, 7, 8, 9, 10], [0] * 5])
