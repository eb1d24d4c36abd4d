"""Adaptive layer normalisation against `torch.nn.functional.layer_norm` and its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.model.adaln import Modulation, modulate

BATCH, FRAMES, TOKENS, WIDTH = 2, 3, 4, 6


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def inputs():
    """Tokens away from zero, shift and scale of every frame."""
    x = 3 + 2 * normal(0, BATCH, FRAMES, TOKENS, WIDTH)
    return x, *(normal(seed, BATCH, FRAMES, WIDTH) for seed in (1, 2))


def test_modulate_is_a_layer_norm_scaled_and_shifted_frame_by_frame():
    torch = pytest.importorskip("torch")
    x, shift, scale = inputs()
    z = torch.nn.functional.layer_norm(torch.from_numpy(x), (WIDTH,), eps=1e-6).numpy()
    expected = np.empty_like(x)
    for b in range(BATCH):
        for t in range(FRAMES):
            for n in range(TOKENS):
                expected[b, t, n] = z[b, t, n] * (1 + scale[b, t]) + shift[b, t]
    with jax.enable_x64(True):
        y = modulate(*(jnp.asarray(part) for part in (x, shift, scale)))
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-13)


def test_epsilon_bounds_the_scale_of_constant_tokens():
    x, zero = np.full((1, 1, 1, WIDTH), 7.0), jnp.zeros((1, 1, WIDTH))
    np.testing.assert_array_equal(modulate(jnp.asarray(x, "float32"), zero, zero), 0)
    x[..., ::2] += 2e-3  # a standard deviation of 1e-3, as large as the root of epsilon
    with jax.enable_x64(True):
        zero = jnp.zeros((1, 1, WIDTH))
        np.testing.assert_allclose(np.abs(modulate(jnp.asarray(x), zero, zero)), 2**-0.5, rtol=1e-6)


def test_statistics_are_exact_for_bfloat16_tokens():
    x = jnp.asarray(100 + normal(3, 1, 1, 50, 64), jnp.bfloat16)  # a mean that bfloat16 sums would miss
    zero = jnp.zeros((1, 1, 64), jnp.bfloat16)
    y = modulate(x, zero, zero)
    x = np.asarray(x, np.float64)
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    assert y.dtype == jnp.bfloat16
    assert np.abs(np.asarray(y, np.float64) - expected).max() < 2**-8 * np.abs(expected).max()


def test_modulation_starts_constant_and_is_linear_in_silu():
    start = (0.0, -1.5, 0.25)
    module = Modulation(3, WIDTH, start, jnp.dtype("float64"), jnp.dtype("float64"))
    with jax.enable_x64(True):
        c = jnp.asarray(normal(4, BATCH, FRAMES, WIDTH))
        variables = jax.jit(module.init)(jax.random.key(0), c)
        for part, value in zip(module.apply(variables, c), start, strict=True):
            np.testing.assert_array_equal(part, np.full((BATCH, FRAMES, WIDTH), value))
        (name,) = variables["params"]
        kernel, bias = normal(5, WIDTH, 3 * WIDTH), normal(6, 3 * WIDTH)
        params = {name: {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}}
        parts = module.apply({"params": params}, c)
        expected = (c / (1 + np.exp(-c))) @ kernel + bias
        for i, part in enumerate(parts):
            np.testing.assert_allclose(part, expected[..., i * WIDTH : (i + 1) * WIDTH], atol=1e-13)
