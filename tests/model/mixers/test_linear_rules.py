"""The rules by which a frame is written: maps against loops over tokens, and what keeps a state bounded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.model.mixers.contract import distance
from rad_jax.model.mixers.linear_rules import (
    EPSILON,
    LinearState,
    advance,
    frame_rule,
    maps,
    normalise,
    sum_rule,
    token_rule,
)


def frame_of_tokens(n, e, strength=1.0, seed=0):
    """Keys of length one, values, write strengths in 0..2 and log decays of a frame."""
    draw = np.random.default_rng(seed)
    k, v = draw.normal(size=(2, n, e))
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    return k, v, 2 / (1 + np.exp(-draw.normal(size=n))), -strength * draw.exponential(size=n)


def token_after_token(state, k, v, beta, gamma):
    for i in range(len(k)):
        state = np.exp(gamma[i]) * state
        state = state + np.outer(k[i], beta[i] * (v[i] - state.T @ k[i]))
    return state


@pytest.mark.parametrize("n, e, strength", [(1, 4, 1.0), (40, 8, 1e-3), (40, 8, 30.0)])
def test_the_token_rule_is_one_affine_map(n, e, strength, float64):
    inputs = frame_of_tokens(n, e, strength)
    state = np.random.default_rng(1).normal(size=(e, e))
    keep, write = jax.jit(token_rule)(*map(jnp.asarray, inputs))
    expected = token_after_token(state, *inputs)
    np.testing.assert_allclose(keep @ state + write, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_the_map_has_the_gradient_of_the_loop(float64):
    inputs = [jnp.asarray(part) for part in frame_of_tokens(5, 4)]
    state, probe = (jnp.asarray(part) for part in np.random.default_rng(2).normal(size=(2, 4, 4)))

    def by_map(state, *inputs):
        keep, write = token_rule(*inputs)
        return (probe * (keep @ state + write)).sum()

    def by_loop(state, k, v, beta, gamma):
        for i in range(5):
            state = jnp.exp(gamma[i]) * state
            state = state + jnp.outer(k[i], beta[i] * (v[i] - state.T @ k[i]))
        return (probe * state).sum()

    grads = [jax.jit(jax.grad(f, range(5)))(state, *inputs) for f in (by_map, by_loop)]
    assert distance(*grads) < 1e-12


def positive_frame(n, e, seed):
    """Keys turned by the angles of their tokens, values, bare keys, strengths and one log decay."""
    draw = np.random.default_rng(seed)
    k, v = draw.normal(size=(2, n, e))
    k = np.maximum(k, 0) / np.linalg.norm(k, axis=-1, keepdims=True) / np.sqrt(n)
    angles = np.random.default_rng(0).uniform(0, 6, size=(n, e // 2))  # the same in all frames
    turned = (k.reshape(n, -1, 2) @ np.array([1, 1j])) * np.exp(1j * angles)
    turned = np.stack([turned.real, turned.imag], axis=-1).reshape(n, e)
    return turned, v, k, 1 / (1 + np.exp(-5 - draw.normal(size=n))), -0.01 * draw.exponential(size=1)


def test_the_frame_rule_keeps_no_more_than_there_is(float64):
    """Eigenvalues of keep, and the state after 300 frames of a few views."""
    state = LinearState(jnp.zeros((8, 8)), jnp.zeros(8))
    step = jax.jit(lambda state, *frame: advance(state, *maps(frame_rule, *frame)))
    for t in range(300):
        frame = positive_frame(5, 8, t % 7)
        eigenvalues = np.linalg.eigvals(frame_rule(*map(jnp.asarray, (*frame[:2], *frame[3:])))[0])
        assert eigenvalues.real.min() > 0 and eigenvalues.real.max() < np.exp(frame[-1][0]) + 1e-12
        state = step(state, *map(jnp.asarray, frame))
    assert np.abs(state.s).max() < 30 and np.abs(state.z).max() < 30


def test_the_sum_is_the_frame_rule_for_weak_strengths(float64):
    """Nothing is corrected and nothing decays in the limit, and what is written is in proportion to the strength."""
    weak, added = (LinearState(jnp.zeros((8, 8)), jnp.zeros(8)) for _ in range(2))
    for t in range(9):
        *tokens, beta, gamma = map(jnp.asarray, positive_frame(5, 8, t))
        gates = jnp.full_like(beta, 1e-9), jnp.zeros_like(gamma)
        weak = advance(weak, *maps(frame_rule, *tokens, *gates))
        added = advance(added, *maps(sum_rule, *tokens, None, None))
    assert distance(jax.tree.map(lambda leaf: leaf * 1e9, weak), added) < 1e-8


def test_no_query_meets_a_pole(float64):
    """A key that is shorter than a later one leaves the normaliser negative somewhere; there, too, what is read is bounded."""
    k = jnp.array([[0.2, 0.0], [0.9, 0.3]])
    state = LinearState(jnp.zeros((2, 2)), jnp.zeros(2))
    for token in [0] * 200 + [1] * 2:
        frame = (k[token, None], jnp.ones((1, 2)), k[token, None], jnp.ones(1), jnp.zeros(1))
        state = advance(state, *maps(frame_rule, *frame))
    assert state.z[1] < -0.1 and state.z[0] > 0.1
    share = (-EPSILON - state.z[1]) / (state.z[0] - state.z[1])
    for q in (jnp.array([share, 1 - share]), jnp.array([0.0, 1.0])):  # a normaliser of -eps, and of much less
        y = normalise(q @ state.s, q @ state.z)
        assert np.abs(y).max() <= 1.001 * np.abs(q @ state.s).max() / EPSILON
        assert np.isfinite(jax.grad(lambda q: normalise(q @ state.s, q @ state.z).sum())(q)).all()
