"""A block against its parts put together by hand, in the paper's order; with and without memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.config import MemoryConfig, ModelConfig
from rad_jax.model import mixers
from rad_jax.model.attention import KVCache
from rad_jax.model.block import Block

BATCH, FRAMES, WIDTH = 2, 4, 16
MEMORY = MemoryConfig(action_width=4, gate_init=0.5)


def settings(memory=MEMORY):
    return ModelConfig(
        latent=(4, 6, 3),
        action_dim=3,
        width=WIDTH,
        heads=2,
        window=FRAMES,
        mlp_ratio=2.0,
        dtype="float64",
        memory=memory,
    )


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def inputs(config=None):
    """Tokens of two videos, conditions of their frames, and a state that is not empty."""
    config = config or settings()
    x = jnp.asarray(normal(0, BATCH, FRAMES, config.tokens, WIDTH))
    c = jnp.asarray(normal(1, BATCH, FRAMES, WIDTH))
    return x, c, state_like(config, 2)


def state_like(config, seed):
    if config.memory.kind == "none":
        return ()
    empty = mixers.build(config).initial_state(BATCH, config.tokens)
    return jax.tree.map(lambda leaf: jnp.asarray(normal(seed, *leaf.shape)), empty)


@functools.cache
def weights():
    """Parameters of the block with memory, all away from their start: there a block does nothing."""
    config = settings()
    shapes = jax.eval_shape(
        lambda key: Block(config).init(key, *inputs(), span=FRAMES, shared=True), jax.random.key(0)
    )
    leaves, structure = jax.tree.flatten(shapes["params"])
    noise = [normal(10 + i, *leaf.shape) for i, leaf in enumerate(leaves)]
    # Of NumPy: what is cached must not belong to the trace of the test that calls first.
    return structure.unflatten([0.5 * z / z.shape[0] ** 0.5 for z in noise])


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def call(config, span, shared, params, x, c, state):
    return Block(config).apply({"params": params}, x, c, state, span=span, shared=shared)


@functools.partial(jax.jit, static_argnums=(0, 1))
def call_next_frame(config, shared, params, x, c, state, past, position):
    return Block(config).apply(
        {"params": params}, x, c, state, past, position, shared=shared, method="next_frame"
    )


def normalised(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def dense(params, x):
    return x @ params["kernel"] + params["bias"]


def mlp(params, x):
    into, out = sorted(params.values(), key=lambda layer: -layer["kernel"].shape[1])
    hidden = dense(into, x)
    hidden = 0.5 * hidden * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
    return dense(out, hidden)


def chunks(params, c, count):
    """Shift, scale, gate, ... of every frame, to be broadcast over its tokens."""
    (layer,) = params.values()
    parts = np.split(dense(layer, c / (1 + np.exp(-c))), count, axis=-1)
    return [part[:, :, None] for part in parts]


def attention_and_mlp(params, kind, x, c, attend):
    shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = chunks(params[f"{kind}_modulation"], c, 6)
    x = x + gate * attend(normalised(x) * (1 + scale) + shift)
    return x + mlp_gate * mlp(params[f"{kind}_mlp"], normalised(x) * (1 + mlp_scale) + mlp_shift)


def by_hand(order, shared):
    """The parts of the block, one after another in ``order``; attentions and mixer are tested on their own."""
    config, params = settings(), weights()
    x, c, state = inputs()
    bound = Block(config).bind({"params": jax.tree.map(jnp.asarray, params)})
    params, x, c = jax.tree.map(np.asarray, (params, x, c))
    for part in order:
        if part == "memory":
            x = np.asarray(bound.memory(jnp.asarray(x), jnp.asarray(c), state, shared, None)[0])
        elif part == "spatial":
            x = attention_and_mlp(params, part, x, c, lambda z: bound.spatial_attention(jnp.asarray(z)))
        else:
            x = attention_and_mlp(
                params, part, x, c, lambda z: bound.temporal_attention(jnp.asarray(z), FRAMES)[0]
            )
    return x


@pytest.mark.parametrize("shared", [True, False])
def test_parts_follow_one_another_as_in_the_paper(shared):
    y, *_ = call(settings(), FRAMES, shared, weights(), *inputs())
    np.testing.assert_allclose(y, by_hand(("spatial", "temporal", "memory"), shared), rtol=0, atol=1e-11)


def test_another_order_would_be_seen():
    y, *_ = call(settings(), FRAMES, True, weights(), *inputs())
    for order in (("temporal", "spatial", "memory"), ("memory", "spatial", "temporal")):
        assert np.abs(y - by_hand(order, True)).max() > 1e-2


def test_a_fresh_memory_leaves_the_block_as_it_was():
    """With ``gate_init`` 0 the output equals that of the block without memory, to the bit, for any state."""
    config = settings(MemoryConfig(action_width=4))
    bare = settings(MemoryConfig(kind="none"))
    fresh = jax.jit(lambda key: Block(config).init(key, *inputs(), span=FRAMES, shared=True))
    params = {**weights(), "memory": fresh(jax.random.key(0))["params"]["memory"]}
    base = {name: part for name, part in params.items() if name != "memory"}
    x, c, state = inputs()
    expected, nothing, kept, _ = call(bare, FRAMES, True, base, x, c, ())
    assert nothing == () and kept is None
    for shared in (True, False):
        for start in (state, state_like(config, 3)):
            y, *_ = call(config, FRAMES, shared, params, x, c, start)
            np.testing.assert_array_equal(y, expected)
    opened = {**params, "memory": weights()["memory"]}
    assert np.abs(call(config, FRAMES, True, opened, x, c, state)[0] - expected).max() > 1e-2


@pytest.mark.parametrize("shared", [True, False])
def test_frames_one_at_a_time_equal_the_window(shared):
    config = settings()
    x, c, state = inputs()
    whole, end, _, past = call(config, FRAMES, shared, weights(), x, c, state)
    slots = KVCache(*(jnp.zeros((*part.shape[:3], FRAMES - 1, part.shape[4])) for part in past))
    for t in range(FRAMES):
        now = slice(t, t + 1)
        y, state, own = call_next_frame(
            config, shared, weights(), x[:, now], c[:, now], state, slots, jnp.asarray(t)
        )
        np.testing.assert_allclose(y, whole[:, now], rtol=0, atol=1e-11)
        if t < FRAMES - 1:
            slots = KVCache(*(part.at[:, :, :, now].set(new) for part, new in zip(slots, own)))
    for leaf, expected in zip(jax.tree.leaves(state), jax.tree.leaves(end), strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("shared", [True, False])
def test_no_frame_sees_a_later_frame_or_its_condition(shared):
    config = settings()

    @jax.jit
    def gradients(x, c):
        y, pull = jax.vjp(
            lambda x, c: call(config, FRAMES, shared, weights(), x, c, inputs()[2])[0].sum(0), x, c
        )
        one_frame = np.eye(FRAMES)[:, :, None, None]
        return jax.vmap(pull)(jnp.asarray(one_frame * normal(5, *y.shape)))

    by_x, by_c = gradients(*inputs()[:2])
    earlier = np.tril(np.ones((FRAMES, FRAMES), bool))
    for by_input in (by_x, by_c):  # (output frame, video, frame, ...)
        influence = np.abs(by_input).max(tuple(range(3, by_input.ndim))).min(1)
        np.testing.assert_array_equal(influence > 0, earlier)


def test_windows_of_one_frame_meet_through_the_memory_alone():
    config, bare = settings(), settings(MemoryConfig(kind="none"))
    base = {name: part for name, part in weights().items() if name != "memory"}
    x, c, state = inputs()
    changed = x.at[:, 0].add(1.0)

    def differs(config, shared, params, state):
        a, b = (call(config, 1, shared, params, z, c, state)[0] for z in (x, changed))
        return [bool(d) for d in np.any(a != b, axis=(0, 2, 3))]

    assert differs(bare, False, base, ()) == [True, False, False, False]
    assert differs(config, True, weights(), state) == [True, False, False, False]
    assert differs(config, False, weights(), state) == [True, True, True, True]
