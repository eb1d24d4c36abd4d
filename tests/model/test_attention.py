"""Both attentions against `torch` or a literal loop, with the rotations written out as complex numbers; in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.config import ModelConfig
from rad_jax.model.attention import KVCache, SpatialAttention, TemporalAttention
from rad_jax.model.rope import rotate, spatial_angles, temporal_angles

BATCH, FRAMES, WIDTH, HEADS, GRID = 2, 6, 16, 2, (2, 3)
TOKENS, HEAD = GRID[0] * GRID[1], WIDTH // HEADS


def settings(rows=GRID[0], columns=GRID[1], window=FRAMES, dtype="float64"):
    return ModelConfig(
        latent=(2 * rows, 2 * columns, 3), width=WIDTH, heads=HEADS, window=window, dtype=dtype
    )


SPATIAL, TEMPORAL = SpatialAttention(settings()), TemporalAttention(settings())
pytestmark = pytest.mark.usefixtures("float64")


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


WEIGHTS = {"qkv": normal(0, WIDTH, 3 * WIDTH) / 2, "out": normal(1, WIDTH, WIDTH), "bias": normal(2, WIDTH)}
X = normal(3, BATCH, FRAMES, TOKENS, WIDTH)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def call(module, method, span, *args):
    params = {
        "qkv": {"kernel": jnp.asarray(WEIGHTS["qkv"])},
        "out": {"kernel": jnp.asarray(WEIGHTS["out"]), "bias": jnp.asarray(WEIGHTS["bias"])},
    }
    args = jax.tree.map(jnp.asarray, args)
    return module.apply({"params": params}, *args, *([span] if span else []), method=method)


def heads(x):
    """Queries, keys and values, each (..., head, features): the thirds of the projection, then the heads."""
    thirds = np.split(x @ WEIGHTS["qkv"], 3, axis=-1)
    return [third.reshape(*x.shape[:-1], HEADS, HEAD) for third in thirds]


def turned(x, angles):
    """Feature pairs as complex numbers, multiplied by exp(i angle)."""
    z = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)
    return np.stack([z.real, z.imag], axis=-1).reshape(x.shape)


def merged(y):
    return y.reshape(*y.shape[:-2], WIDTH) @ WEIGHTS["out"] + WEIGHTS["bias"]


def time_angles(position):
    return position * 10_000.0 ** (-np.arange(0, HEAD, 2) / HEAD)


def literal_temporal(x):
    """Every query on its own, over the frames up to its own; positions count from the first frame of ``x``."""
    q, k, v = heads(x)
    y = np.zeros_like(q)
    for b, i, n, h in np.ndindex(q.shape[:-1]):
        keys = [turned(k[b, j, n, h], time_angles(j)) for j in range(i + 1)]
        scores = np.exp([turned(q[b, i, n, h], time_angles(i)) @ key / np.sqrt(HEAD) for key in keys])
        y[b, i, n, h] = sum(s * v[b, j, n, h] for j, s in enumerate(scores)) / scores.sum()
    return merged(y)


def test_spatial_attention_equals_that_of_torch():
    torch = pytest.importorskip("torch")
    frequency = torch.linspace(1, 128, HEAD // 4) * np.pi  # in float32, as the weights of Oasis know them
    angles = [
        np.concatenate([y * frequency, x * frequency], dtype=np.float64)
        for y in torch.linspace(-1, 1, GRID[0])
        for x in torch.linspace(-1, 1, GRID[1])
    ]
    q, k, v = heads(X)
    q, k = (turned(part, np.array(angles)[:, None]) for part in (q, k))
    y = torch.nn.functional.scaled_dot_product_attention(
        *(torch.from_numpy(part.swapaxes(2, 3)) for part in (q, k, v))
    )
    expected = merged(y.numpy().swapaxes(2, 3))
    np.testing.assert_allclose(call(SPATIAL, "__call__", None, X), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("span", [1, 2, 3, 6])
def test_temporal_attention_equals_a_literal_loop_in_each_window(span):
    y, _ = call(TEMPORAL, "__call__", span, X)
    expected = [literal_temporal(X[:, start : start + span]) for start in range(0, FRAMES, span)]
    np.testing.assert_allclose(y, np.concatenate(expected, axis=1), rtol=0, atol=1e-11)


def test_keys_are_kept_rotated_and_values_as_they_are():
    for span in (1, 3, 6):
        _, past = call(TEMPORAL, "__call__", span, X)
        _, k, v = heads(X)
        angles = np.stack([time_angles(t % span) for t in range(FRAMES)])[:, None, None]
        np.testing.assert_allclose(past.keys, turned(k, angles).transpose(0, 2, 3, 1, 4), atol=1e-12)
        np.testing.assert_allclose(past.values, v.transpose(0, 2, 3, 1, 4), rtol=0, atol=1e-12)


@pytest.mark.parametrize("slots", [FRAMES - 1, FRAMES])
def test_a_new_frame_after_a_past_equals_the_last_row_of_the_window(slots):
    """At every position of the window, whatever the slots hold that are not yet filled."""
    y, past = call(TEMPORAL, "__call__", FRAMES, X)
    for position in range(slots + 1 if slots < FRAMES else FRAMES):
        frame = X[:, position : position + 1]
        found = []
        for garbage in (0.0, 1e6):
            filled = (np.arange(slots) < position)[:, None]
            padded = KVCache(*(np.where(filled, part[:, :, :, :slots], garbage) for part in past))
            found.append(call(TEMPORAL, "next_frame", None, frame, padded, np.int32(position)))
        (row, own), (other, _) = found
        np.testing.assert_allclose(row, y[:, position : position + 1], rtol=0, atol=1e-12)
        np.testing.assert_array_equal(row, other)
        for kept, whole in zip(own, past):
            np.testing.assert_allclose(kept, whole[:, :, :, position : position + 1], atol=1e-12)


def test_a_new_frame_without_a_past_sees_itself_alone():
    nothing = KVCache(*(np.zeros((BATCH, TOKENS, HEADS, 0, HEAD)) for _ in range(2)))
    row, _ = call(TEMPORAL, "next_frame", None, X[:, :1], nothing, np.int32(0))
    np.testing.assert_allclose(row, call(TEMPORAL, "__call__", 1, X[:, :1])[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("path", ["spatial", "temporal", "next frame"])
def test_bfloat16_logits_are_not_rounded(path):
    """Against float64 on the same rounded queries, keys and values, at logits as large as those of a trained model."""
    bfloat16, identity = jnp.dtype("bfloat16"), np.eye(WIDTH)
    params = {
        "qkv": {"kernel": jnp.asarray(np.concatenate([8 * identity, 8 * identity, identity], axis=1))},
        "out": {"kernel": jnp.asarray(identity), "bias": jnp.zeros(WIDTH)},
    }
    x = jnp.asarray(normal(6, BATCH, 32, TOKENS, WIDTH), bfloat16)
    module = TemporalAttention(settings(window=32, dtype="bfloat16"))
    if path == "spatial":
        module = SpatialAttention(settings(8, 8, dtype="bfloat16"))
        x = jnp.asarray(normal(6, BATCH, 1, 64, WIDTH), bfloat16)
        found = module.apply({"params": params}, x)
        angles, visible = spatial_angles(8, 8, HEAD)[:, None], True
    else:
        x = x.swapaxes(1, 2)  # frames where the reference below has its keys
        angles, visible = temporal_angles(32, HEAD)[:, None], np.tril(np.ones((32, 32), bool))
        found, cache = module.apply({"params": params}, x.swapaxes(1, 2), 32)
        found = found.swapaxes(1, 2)
    heads = x.reshape(*x.shape[:3], HEADS, HEAD)
    q = k = np.asarray(rotate(8 * heads, angles), np.float64)
    logits = np.einsum("bnqhe,bnkhe->bnhqk", q, k) / np.sqrt(HEAD)
    assert logits.std() > 20
    weights = np.where(visible, np.exp(logits - logits.max(-1, keepdims=True)), 0)
    weights /= weights.sum(-1, keepdims=True)
    expected = np.einsum("bnhqk,bnkhe->bnqhe", weights, np.asarray(heads, np.float64)).reshape(x.shape)
    if path == "next frame":
        cache = KVCache(*(part[:, :, :, :31] for part in cache))
        found, _ = module.apply(
            {"params": params}, x[:, :, 31:].swapaxes(1, 2), cache, jnp.asarray(31), method="next_frame"
        )
        found, expected = found.swapaxes(1, 2), expected[:, :, 31:]
    error = np.sqrt(np.mean((np.asarray(found, np.float64) - expected) ** 2))
    assert error < 2e-3
