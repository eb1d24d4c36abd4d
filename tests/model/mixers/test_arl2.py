"""The ARL2 memory against the gated delta rule token after token, and what sharing one state over a frame means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.config import MemoryConfig
from rad_jax.model.mixers.arl2 import write_of_frame
from rad_jax.model.rope import spatial_angles
from tests.model.mixers import contract
from tests.model.mixers.contract import BATCH, FRAMES, TOKENS, WIDTH, distance

HEADS = 2
VARIANTS = {
    "plain": MemoryConfig(kind="arl2"),
    "action, one head": MemoryConfig(kind="arl2", action=True, action_width=4, heads=1),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("check", contract.CHECKS)
def test_contract(check, variant, float64):
    check(contract.subject(VARIANTS[variant]))


def rotated(x, heads):
    """Each pair of features of every token turned by the angle of its place in the frame, written out."""
    angles = spatial_angles(1, TOKENS, x.shape[-1])
    y = np.empty_like(x)
    for token in range(TOKENS):
        for pair in range(0, x.shape[-1], 2):
            cos, sin = np.cos(angles[token, pair]), np.sin(angles[token, pair])
            even, odd = x[:, token, :, pair], x[:, token, :, pair + 1]
            y[:, token, :, pair], y[:, token, :, pair + 1] = even * cos - odd * sin, even * sin + odd * cos
    return y


def literal(params, state, x, heads=HEADS):
    """Frame after frame, token after token: outputs and the state after each frame."""
    params = jax.tree.map(np.asarray, params)
    state, outputs, states = np.array(state), [], []
    e = WIDTH // heads

    def split(z):
        return z.reshape(*z.shape[:2], heads, -1)

    for t in range(x.shape[1]):
        frame = np.asarray(x[:, t])
        projected = frame @ params["qkv"]["kernel"] + params["qkv"]["bias"]
        q, k, v = (split(part) for part in np.split(projected, 3, axis=-1))
        q, k = (rotated(part, heads) for part in (q, k))
        q, k = (part / np.sqrt((part**2).sum(-1, keepdims=True) + 1e-6) for part in (q, k))
        step, strength, gate = np.split(frame @ params["gates"]["kernel"], 3, axis=-1)  # (b, n, h)
        gamma = -np.exp(params["rate"]) * np.log1p(np.exp(step + params["step"]))
        beta, gate = 2 / (1 + np.exp(-strength)), 1 / (1 + np.exp(-gate))
        y = np.einsum("bhkv,bnhk->bnhv", state, q) / np.sqrt(e) * gate[..., None]
        outputs.append(y.reshape(*y.shape[:2], -1) @ params["out"]["kernel"] + params["out"]["bias"])
        for n in range(TOKENS):
            state = np.exp(gamma[:, n])[..., None, None] * state
            error = v[:, n] - np.einsum("bhkv,bhk->bhv", state, k[:, n])
            state = state + np.einsum("bhk,bhv->bhkv", k[:, n], beta[:, n][..., None] * error)
        states.append(state)
    return np.stack(outputs, axis=1), states


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_is_the_gated_delta_rule_token_after_token(variant, float64):
    config = VARIANTS[variant]
    s = contract.subject(config)
    state, y = s("run", s.state, s.x)
    outputs, states = literal(s.variables["params"], s.state, s.x, config.heads or HEADS)
    assert distance(y, outputs) < 1e-12
    assert distance(state, states[-1]) < 1e-12
    _, _, kept = s("run_with_states", s.state, s.x, jnp.arange(1, FRAMES + 1)[None].repeat(BATCH, 0))
    for t in range(FRAMES):
        assert distance(kept[:, t], states[t]) < 1e-12


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
def test_the_write_of_a_frame_is_one_affine_map(n, e, strength, float64):
    inputs = frame_of_tokens(n, e, strength)
    state = np.random.default_rng(1).normal(size=(e, e))
    keep, write = jax.jit(write_of_frame)(*map(jnp.asarray, inputs))
    expected = token_after_token(state, *inputs)
    np.testing.assert_allclose(keep @ state + write, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_the_map_has_the_gradient_of_the_loop(float64):
    inputs = [jnp.asarray(part) for part in frame_of_tokens(5, 4)]
    state, probe = (jnp.asarray(part) for part in np.random.default_rng(2).normal(size=(2, 4, 4)))

    def by_map(state, *inputs):
        keep, write = write_of_frame(*inputs)
        return (probe * (keep @ state + write)).sum()

    def by_loop(state, k, v, beta, gamma):
        for i in range(5):
            state = jnp.exp(gamma[i]) * state
            state = state + jnp.outer(k[i], beta[i] * (v[i] - state.T @ k[i]))
        return (probe * state).sum()

    grads = [jax.jit(jax.grad(f, range(5)))(state, *inputs) for f in (by_map, by_loop)]
    assert distance(*grads) < 1e-12


def test_the_state_has_no_axis_of_tokens():
    assert contract.build(VARIANTS["plain"], 16, dtype="float32").initial_state(3, TOKENS).shape == (
        3,
        2,
        8,
        8,
    )


def test_a_frame_starts_with_the_decay_of_one_token():
    """The log decay of a whole frame of zeros, whatever its number of tokens, is between those the authors give a token."""
    for tokens in (4, 144):
        mixer = contract.build(MemoryConfig("arl2", heads=64), 256, 2, "float32", tokens)
        params = contract.init(mixer, jnp.zeros((1, 1, tokens, 256)))
        decay = np.exp(params["rate"]) * np.log1p(np.exp(params["step"])) * tokens
        assert decay.min() > 1e-3 and decay.max() < 1.6
        assert 0.02 < np.median(decay) < 0.3


@pytest.mark.parametrize("dtype, bound", [("float32", 2e-6), ("bfloat16", 1.2e-2)])
def test_a_thousand_frames_drift_no_more_than_rounded_operands_must(dtype, bound):
    """Relative error of the state after 1,000 frames that are forgotten slowly, against float64."""

    def final(dtype):
        s = contract.subject(VARIANTS["plain"], dtype)
        slow = {**variables["params"], "step": np.full(HEADS, -9.0)}
        x = jnp.asarray(contract.noise(9, BATCH, 1000, TOKENS, WIDTH), s.x.dtype)
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, s.mixer.config.state_dtype), slow)
        state, _ = contract.call(s.mixer, "run", {"params": params}, s.mixer.initial_state(BATCH, TOKENS), x)
        return np.asarray(state, np.float64)

    with jax.enable_x64(True):
        variables = contract.subject(VARIANTS["plain"]).variables
        reference = final("float64")
    error = np.linalg.norm(final(dtype) - reference) / np.linalg.norm(reference)
    assert error < bound
