"""A block against its definition written out, part after part in the order of the paper."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.config import MemoryConfig, ModelConfig
from rad_jax.model import mixers
from rad_jax.model.block import Block, MemoryBranch, modulate
from rad_jax.model.names import named_leaves

BATCH, FRAMES, WIDTH = 2, 4, 16


def settings(**memory):
    return ModelConfig(
        latent=(4, 6, 3),
        width=WIDTH,
        heads=2,
        window=FRAMES,
        mlp_ratio=2.0,
        dtype="float64",
        memory=MemoryConfig(action_width=4, gate_init=0.5, **memory),
    )


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def noise_like(tree, scale=1.0, seed=0):
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten(
        [jnp.asarray(scale * normal(seed + i, *leaf.shape)) for i, leaf in enumerate(leaves)]
    )


def inputs(config):
    """Parameters away from their start, where a block does nothing; tokens, conditions, and a state that is not empty."""
    x, c = (
        jnp.asarray(normal(seed, BATCH, FRAMES, *shape, WIDTH))
        for seed, shape in enumerate([(config.tokens,), ()])
    )
    state = noise_like(mixers.build(config).initial_state(BATCH, config.tokens), seed=2)
    init = functools.partial(Block(config).init, span=FRAMES, shared=True)
    return (
        noise_like(jax.eval_shape(init, jax.random.key(0), x, c, state)["params"], 0.2, seed=10),
        x,
        c,
        state,
    )


def normalised(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def dense(params, x):
    return x @ params["kernel"] + params["bias"]


def silu(x):
    return x / (1 + np.exp(-x))


def mlp(params, x):
    into, out = sorted(params.values(), key=lambda layer: -layer["kernel"].shape[1])
    hidden = dense(into, x)
    hidden = 0.5 * hidden * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
    return dense(out, hidden)


def chunks(params, c, count):
    """Shift, scale, gate, ... of every frame, to be broadcast over its tokens."""
    (layer,) = params.values()
    return [part[:, :, None] for part in np.split(dense(layer, silu(c)), count, axis=-1)]


def attention_and_mlp(params, kind, x, c, attend):
    shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = chunks(params[f"{kind}_modulation"], c, 6)
    x = x + gate * attend(jnp.asarray(normalised(x) * (1 + scale) + shift))
    return x + mlp_gate * mlp(params[f"{kind}_mlp"], normalised(x) * (1 + mlp_scale) + mlp_shift)


def literal_branch(config, shared, params, x, c, state):
    """What each token of each frame brings to the mixer, frame after frame: outputs, and the state after each frame."""
    mixer = mixers.build(config)
    run = jax.jit(lambda state, z: mixer.apply({"params": params["mixer"]}, state, z, method="run"))
    shift, scale, gate = chunks(params["modulation"], c, 3)
    z, ys, states = normalised(x) * (1 + scale) + shift, [], []
    if config.memory.features:
        feature = dense(params["action"], silu(c))[:, :, None]
        z = np.concatenate([z, np.repeat(feature, x.shape[2], axis=2)], axis=-1)
    for t in range(FRAMES):
        after, y = run(state, jnp.asarray(z[:, t : t + 1]))
        state = state if shared else after
        states.append(after)
        ys.append(y)
    return x + gate * np.concatenate(ys, axis=1), states


def assert_close(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-11), found, expected)


@pytest.mark.parametrize("shared, action", [(True, True), (False, True), (False, False)])
def test_a_block_is_its_parts_one_after_another_as_in_the_paper(shared, action, float64):
    config = settings(action=action, hidden=6)
    params, x, c, state = inputs(config)
    bound = Block(config).bind({"params": params})
    call = jax.jit(functools.partial(Block(config).apply, span=FRAMES, shared=shared))
    y, after, states, tape, _ = call({"params": params}, x, c, state)
    params, x, c = jax.tree.map(np.asarray, (params, x, c))
    x = attention_and_mlp(params, "spatial", x, c, bound.spatial_attention)
    x = attention_and_mlp(params, "temporal", x, c, lambda z: bound.temporal_attention(z, FRAMES)[0])
    x, every = literal_branch(config, shared, params["memory"], x, c, state)
    assert_close(y, x)
    assert_close(after, state if shared else every[-1])  # a shared state comes out as it went in
    assert states is None and tape == ()


@pytest.mark.parametrize("shared, ends", [(True, [[1], [1]]), (False, [[1, 3], [4, 2]])])
def test_states_are_kept_where_they_are_wanted(shared, ends, float64):
    """In a shared window after its first frame, which alone will enter the memory."""
    config = settings()
    params, x, c, state = inputs(config)
    params = params["memory"]
    apply = jax.jit(MemoryBranch(config).apply, static_argnums=4)
    *plain, _, _ = apply({"params": params}, x, c, state, shared)
    *outputs, kept, _ = apply({"params": params}, x, c, state, shared, jnp.array(ends))
    assert_close(outputs, plain)
    _, every = literal_branch(config, shared, *jax.tree.map(np.asarray, (params, x, c)), state)
    for b, k in np.ndindex(np.shape(ends)):
        for found, expected in zip(kept, every[ends[b][k] - 1], strict=True):
            np.testing.assert_allclose(found[b, k], expected[b], rtol=0, atol=1e-11)


@pytest.mark.parametrize("action", [True, False])
def test_a_branch_has_the_parameters_of_its_parts_and_starts_with_its_gate(action, float64):
    config = settings(action=action, hidden=6)
    _, x, c, state = inputs(config)
    params = jax.jit(lambda key: MemoryBranch(config).init(key, x, c, state, False))(jax.random.key(0))[
        "params"
    ]
    features = 4 if action else 0
    expected = {
        "modulation/Dense_0/kernel": (WIDTH, 3 * WIDTH),
        "modulation/Dense_0/bias": (3 * WIDTH,),
        "mixer/kernel": (WIDTH + features, 4 * 6),
        "mixer/bias": (4 * 6,),
        "mixer/cell/kernel": (6, 4 * 6),
        "mixer/out/kernel": (6, WIDTH),
        "mixer/out/bias": (WIDTH,),
    }
    if action:
        expected |= {"action/kernel": (WIDTH, 4), "action/bias": (4,)}
    assert {name: leaf.shape for name, leaf in named_leaves(params).items()} == expected
    modulation = params["modulation"]["Dense_0"]
    np.testing.assert_array_equal(modulation["kernel"], 0)
    np.testing.assert_array_equal(modulation["bias"], np.repeat([0.0, 0.0, 0.5], WIDTH))


def test_epsilon_bounds_the_scale_of_constant_tokens(float64):
    x, zero = np.full((1, 1, 1, WIDTH), 7.0), jnp.zeros((1, 1, 1, WIDTH))
    np.testing.assert_array_equal(modulate(jnp.asarray(x), zero, zero), 0)
    x[..., ::2] += 2e-3  # a standard deviation of 1e-3, as large as the root of epsilon
    np.testing.assert_allclose(np.abs(modulate(jnp.asarray(x), zero, zero)), 2**-0.5, rtol=1e-6)


def test_statistics_are_exact_for_bfloat16_tokens():
    x = jnp.asarray(100 + normal(3, 1, 1, 50, 64), jnp.bfloat16)  # a mean that bfloat16 sums would miss
    zero = jnp.zeros((1, 1, 1, 64), jnp.bfloat16)
    y = modulate(x, zero, zero)
    expected = normalised(np.asarray(x, np.float64))
    assert y.dtype == jnp.bfloat16
    assert np.abs(np.asarray(y, np.float64) - expected).max() < 2**-8 * np.abs(expected).max()
