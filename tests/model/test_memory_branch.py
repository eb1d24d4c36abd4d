"""The recurrent branch of a block: what enters the mixer, what comes of its output, and the two ways of reading the state."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.config import MemoryConfig, ModelConfig
from rad_jax.model import mixers
from rad_jax.model.memory import MemoryBranch

BATCH, FRAMES, TOKENS, WIDTH, UNITS, ACTION = 2, 4, 3, 8, 6, 4
ENDS = np.array([[1, 3], [4, 2]])


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def settings(**changes):
    return MemoryConfig(**{"hidden": UNITS, "action_width": ACTION, **changes})


def shapes(config):
    """The parameters that the branch has, with their shapes."""
    inputs = WIDTH + (ACTION if config.features else 0)
    tree = {
        "modulation": {"Dense_0": {"kernel": (WIDTH, 3 * WIDTH), "bias": (3 * WIDTH,)}},
        "mixer": {
            "kernel": (inputs, 4 * UNITS),
            "bias": (4 * UNITS,),
            "cell": {"kernel": (UNITS, 4 * UNITS)},
            "out": {"kernel": (UNITS, WIDTH), "bias": (WIDTH,)},
        },
    }
    return {**tree, "action": {"kernel": (WIDTH, ACTION), "bias": (ACTION,)}} if config.features else tree


def weights(config):
    leaves, structure = jax.tree.flatten(shapes(config), is_leaf=lambda leaf: isinstance(leaf, tuple))
    return structure.unflatten([jnp.asarray(normal(i, *leaf)) / 2 for i, leaf in enumerate(leaves)])


def inputs():
    """Tokens, conditions, and the outputs and cells of a state."""
    shape = (BATCH, TOKENS, UNITS)
    x, c = normal(20, BATCH, FRAMES, TOKENS, WIDTH), normal(21, BATCH, FRAMES, WIDTH)
    return jnp.asarray(x), jnp.asarray(c), jnp.asarray(normal(22, *shape)), jnp.asarray(normal(23, *shape))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def call(config, shared, keep, params, x, c, h, cell):
    branch = MemoryBranch(model(config))
    state = type(mixer(config).initial_state(1, 1))(h, cell)
    ends = jnp.asarray(ENDS) if keep else None
    return branch.apply({"params": params}, x, c, state, shared, ends)


def model(config):
    return ModelConfig(width=WIDTH, heads=2, dtype="float64", memory=config)


def mixer(config):
    return mixers.build(model(config))


def literal(config, shared, params, x, c, h, cell):
    """The branch from its definition: what each token of each frame brings to the mixer, frame after frame."""
    silu = c / (1 + np.exp(-c))
    modulation = params["modulation"]["Dense_0"]
    shift, scale, gate = np.split(silu @ modulation["kernel"] + modulation["bias"], 3, axis=-1)
    state = type(mixer(config).initial_state(1, 1))(h, cell)
    states, outputs = [], []
    for t in range(FRAMES):
        frame = x[:, t]
        z = (frame - frame.mean(-1, keepdims=True)) / np.sqrt(frame.var(-1, keepdims=True) + 1e-6)
        z = z * (1 + scale[:, t, None]) + shift[:, t, None]
        if config.features:
            feature = silu[:, t] @ params["action"]["kernel"] + params["action"]["bias"]
            z = np.concatenate([z, np.repeat(feature[:, None], TOKENS, axis=1)], axis=-1)
        after, y = mixer(config).apply(
            {"params": params["mixer"]}, state, jnp.asarray(z)[:, None], method="run"
        )
        state = state if shared else after
        states.append(after)
        outputs.append(frame + gate[:, t, None] * y[:, 0])
    return np.stack(outputs, axis=1), states


@pytest.mark.parametrize("action", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_the_branch_equals_its_definition_frame_by_frame(shared, action):
    config = settings(action=action)
    params = weights(config)
    y, state, kept = call(config, shared, False, params, *inputs())
    expected, states = literal(config, shared, params, *inputs())
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
    final = inputs()[2:] if shared else states[-1]  # a shared state comes out as it went in
    for found, leaf in zip(state, final, strict=True):
        np.testing.assert_allclose(found, leaf, rtol=0, atol=1e-12)
    assert kept is None


@pytest.mark.parametrize("changes", [{}, {"action": False}, {"gate_init": 0.5}])
def test_a_branch_has_the_parameters_of_its_parts_and_starts_with_its_gate(changes):
    config = settings(**changes)
    branch = MemoryBranch(model(config))
    x, c, *state = inputs()
    state = type(mixer(config).initial_state(1, 1))(*state)
    init = jax.jit(lambda key: branch.init(key, x, c, state, False, None))
    params = init(jax.random.key(0))["params"]
    assert jax.tree.map(lambda leaf: leaf.shape, params) == shapes(config)
    modulation = params["modulation"]["Dense_0"]
    np.testing.assert_array_equal(modulation["kernel"], 0)
    np.testing.assert_array_equal(modulation["bias"], np.repeat([0.0, 0.0, config.gate_init], WIDTH))


def test_states_are_kept_where_they_are_wanted():
    config = settings()
    params = weights(config)
    y, state, kept = call(config, False, True, params, *inputs())
    plain = call(config, False, False, params, *inputs())[:2]
    for found, expected in zip(jax.tree.leaves((y, state)), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    _, states = literal(config, False, params, *inputs())
    for b, k in np.ndindex(ENDS.shape):
        for leaf, expected in zip(kept, states[ENDS[b, k] - 1], strict=True):
            np.testing.assert_allclose(leaf[b, k], expected[b], rtol=0, atol=1e-12)


def test_a_shared_state_is_kept_after_the_first_frame():
    config = settings()
    y, _, kept = call(config, True, True, weights(config), *inputs())
    plain = call(config, True, False, weights(config), *inputs())[0]
    np.testing.assert_allclose(y, plain, rtol=0, atol=1e-12)
    _, states = literal(config, False, weights(config), *inputs())
    for leaf, expected in zip(kept, states[0], strict=True):
        np.testing.assert_allclose(leaf[0, 0], expected[0], rtol=0, atol=1e-12)  # the only end 1 is here


def test_reading_one_state_is_not_running_through_the_window():
    config = settings()
    shared, rollout = (call(config, s, False, weights(config), *inputs())[0] for s in (True, False))
    np.testing.assert_allclose(shared[:, 0], rollout[:, 0], rtol=0, atol=1e-12)
    assert np.all(np.abs(shared - rollout)[:, 1:].max((0, 2, 3)) > 1e-2)


@pytest.mark.parametrize("shared", [True, False])
def test_a_closed_gate_leaves_the_tokens_as_they_are_whatever_the_state(shared):
    config = settings()
    params = weights(config)
    modulation = params["modulation"]["Dense_0"]
    closed = jax.tree.map(lambda w: w.at[..., 2 * WIDTH :].set(0), modulation)
    params = {**params, "modulation": {"Dense_0": closed}}
    x, c, h, cell = inputs()
    for scale in (1.0, -3.0):
        np.testing.assert_array_equal(
            call(config, shared, False, params, x, c, scale * h, scale * cell)[0], x
        )


def test_conditions_reach_their_own_frame_alone():
    """Shift, scale, gate and action feature of a frame come from its own condition."""
    config = settings()
    x, c, h, cell = inputs()
    changed = c.at[0, 2].add(1.0)
    a, b = (call(config, True, False, weights(config), x, cond, h, cell)[0] for cond in (c, changed))
    expected = np.zeros((BATCH, FRAMES), bool)
    expected[0, 2] = True
    np.testing.assert_array_equal(np.any(a != b, axis=(2, 3)), expected)
