"""Our solution of unit lower triangular systems against SciPy's, and its gradient against the inverse written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from rad_jax.model.mixers.contract import distance
from rad_jax.model.mixers.triangular import solve_unit_lower

BATCH, SIDES = (2, 3), 5


def system(n, dtype):
    """Overlaps of keys of length one, as the delta rule has them, with garbage on and above the diagonal."""
    rng = np.random.default_rng(n)
    keys = rng.normal(size=(*BATCH, n, 8))
    keys /= np.linalg.norm(keys, axis=-1, keepdims=True)
    lower = 2 * np.tril(keys @ keys.swapaxes(-1, -2), -1) + np.triu(np.full((n, n), 1e6))
    return lower.astype(dtype), rng.normal(size=(*BATCH, n, SIDES)).astype(dtype)


@pytest.mark.parametrize("n", [1, 3, 16, 17, 144])
@pytest.mark.parametrize("dtype, bound", [("float32", 2e-5), ("float64", 4e-14)])
def test_the_solution_is_that_of_scipy(n, dtype, bound, float64):
    lower, sides = system(n, dtype)
    found = jax.jit(solve_unit_lower)(lower, sides)
    assert found.dtype == dtype and found.shape == sides.shape
    lower, sides = lower.astype(np.float64), sides.astype(np.float64)
    for index in np.ndindex(BATCH):
        exact = scipy.linalg.solve_triangular(lower[index], sides[index], lower=True, unit_diagonal=True)
        np.testing.assert_allclose(found[index], exact, rtol=0, atol=bound * np.abs(exact).max())


@pytest.mark.parametrize("n", [3, 40])
def test_the_gradient_is_that_of_the_inverse(n, float64):
    lower, sides = map(jnp.asarray, system(n, "float64"))

    def by_inverse(lower, sides):
        return jnp.linalg.inv(jnp.eye(n) + jnp.tril(lower, -1)) @ sides

    def gradients(solve):
        return jax.jit(jax.grad(lambda *z: jnp.sin(solve(*z)).sum(), (0, 1)))(lower, sides)

    found, expected = gradients(solve_unit_lower), gradients(by_inverse)
    assert distance(found, expected) < 1e-11
    assert not np.triu(found[0]).any()


def test_keys_that_repeat_lose_no_digits():
    """Reflections, all at full strength in one key: powers of such a matrix grow to 1e5, its inverse never above 2."""
    n = 144
    lower, sides = np.full((n, n), 2.0, np.float32), np.eye(n, dtype=np.float32)
    found = solve_unit_lower(jnp.asarray(lower), jnp.asarray(sides))
    exact = np.linalg.inv(np.eye(n) + np.tril(lower, -1).astype(np.float64))
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-5)
