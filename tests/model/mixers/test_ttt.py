"""The TTT memory against inner SGD written out, over a thousand steps, and in what its backward pass keeps."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.config import MemoryConfig
from rad_jax.model.mixers import contract
from rad_jax.model.mixers.contract import distance
from rad_jax.model.mixers.inner_sgd import Linear
from rad_jax.model.mixers.ttt import TTTState
from tests.model.mixers.sums import weighted_sum

SHORT = {"mini_batch": 3, "mixer_segment": 2, "heads": 1, "action": True, "action_width": 4}
VARIANTS = {
    "online": MemoryConfig(kind="ttt"),
    "mini-batches in segments, action, one head": MemoryConfig(kind="ttt", **SHORT),
}
FRAMES = 7  # no multiple of a mini-batch of 2, 3 or 4
STOPS = ((7, 2, 5, 1, 3, 6, 4), (4, 3, 3, 6, 7, 1, 2))
ENDS = np.array([(*stops, FRAMES) for stops in STOPS])


@functools.cache
def subject(config):
    """That of the contract, but no frame has the step 0, with which it would not depend on the frames before it."""
    s = contract.subject(config)
    weights = dict(s.variables["params"])
    weights["coefficient"] = abs(weights["coefficient"])
    return dataclasses.replace(s, variables={"params": weights})


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("check", contract.CHECKS)
def test_contract(check, variant, float64):
    check(subject(VARIANTS[variant]))


def layer_norm(z, gain, bias):
    mean = z.mean(-1, keepdims=True)
    return (z - mean) / jnp.sqrt(((z - mean) ** 2).mean(-1, keepdims=True) + 1e-6) * gain + bias


def inner_model(weights, params, x):
    """f(x) = x + LN(x W + b) for all heads (..., h, e)."""
    z = jnp.einsum("...he,hef->...hf", x, weights.weight) + weights.bias
    return x + layer_norm(z, params["norm_gain"], params["norm_bias"])


def inner_loss(weights, params, k, v, rate):
    return (rate[:, None] * (inner_model(weights, params, k) - v) ** 2).sum() / 2


@functools.partial(jax.vmap, in_axes=(None, None, 0, 0, 0, 0))  # videos
@functools.partial(jax.vmap, in_axes=(None, None, 0, 0, None, 0))  # tokens
def literal_frame(config, params, weights, total, place, x):
    """One frame of one token: its output, and the weights and sum of gradients after it.

    ``place`` counts the frames before it in its mini-batch, which took their gradients at the same ``weights``.
    """
    heads, e = params["bias"].shape
    q, k, v = (x @ params["qkv"]["kernel"] + params["qkv"]["bias"]).reshape(3, heads, e)
    rate = config.inner_rate / (1 + jnp.exp(-x @ params["rate_kernel"] - params["rate_bias"])) / e
    total = jax.tree.map(jnp.add, total, jax.grad(inner_loss)(weights, params, k, v, rate))
    step = jnp.maximum(1 / (place + 1) + params["coefficient"][place], 0)
    stepped = jax.tree.map(lambda w, g: w - step * g, weights, total)
    z = inner_model(stepped, params, q).reshape(-1)
    z = layer_norm(z, params["post_norm"]["scale"], params["post_norm"]["bias"])
    y = z @ params["out"]["kernel"] + params["out"]["bias"]
    last = place + 1 == config.mini_batch
    weights = jax.tree.map(lambda new, old: jnp.where(last, new, old), stepped, weights)
    return y, weights, jax.tree.map(lambda g: jnp.where(last, 0, g), total)


def literal(config, params, state, place, x):
    """Gradient descent frame by frame: outputs, what `read` would give, and weights and sums of gradients after each frame."""
    learned = Linear(params["weight"], params["bias"])
    first = jax.tree.map(jnp.add, state.weights, learned)
    pending = state.pending or jax.tree.map(jnp.zeros_like, first)

    def step(carry, frame):
        read, _, _ = literal_frame(config, params, first, pending, place, frame)
        weights, total, now = carry
        y, weights, total = literal_frame(config, params, weights, total, now, frame)
        change = jax.tree.map(jnp.subtract, weights, learned)
        return (weights, total, (now + 1) % config.mini_batch), (y, read, (change, total))

    _, results = jax.lax.scan(step, (first, pending, place), jnp.moveaxis(x, 1, 0))
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), results)


def anything(config):
    """Weights, a state and frames that no start and no history gave, and two places in a mini-batch, one per video."""
    heads, e, (b, n) = 2, 4, (2, 3)
    d, f = heads * e, heads * e + config.features
    draw = np.random.default_rng(5)

    def normal(*shape):
        return jnp.asarray(draw.normal(size=shape)) / 2

    def linear():
        return Linear(normal(b, n, heads, e, e), normal(b, n, heads, e))

    params = {
        "qkv": {"kernel": normal(f, 3 * d), "bias": normal(3 * d)},
        "out": {"kernel": normal(d, d), "bias": normal(d)},
        "post_norm": {"scale": normal(d), "bias": normal(d)},
        "rate_kernel": normal(f, heads),
        "rate_bias": normal(heads),
        "coefficient": normal(config.mini_batch),
        "weight": normal(heads, e, e),
        "bias": normal(heads, e),
        "norm_gain": normal(heads, e),
        "norm_bias": normal(heads, e),
    }
    state = TTTState(linear(), linear() if config.mini_batch > 1 else None, None)
    places = np.array([config.mini_batch - 1, (config.mini_batch - 1) // 2])
    return params, state, normal(b, FRAMES, n, f), places


@pytest.mark.parametrize("mini_batch, segment", [(1, 3), (3, 1), (4, 8)])
def test_outputs_states_and_gradients_are_those_of_literal_gradient_descent(mini_batch, segment, float64):
    """Run, kept states, last state and read, from different places in a mini-batch, with all gradients, to 1e-12."""
    config = MemoryConfig(
        kind="ttt", mini_batch=mini_batch, mixer_segment=segment, inner_rate=1.5, action=True, action_width=2
    )
    params, state, x, places = anything(config)
    mixer = contract.build(config)

    def gradients(function):
        """Of a loss of outputs, and of the states (b, stop, ...) with a weight for each stop."""

        def loss(params, state, x):
            y, read, states = function(params, state, x)
            return weighted_sum((states[:2], y, read)), (y, read, states)

        return jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(params, state, x)

    def ours(params, state, x):
        if mini_batch > 1:
            position = jnp.broadcast_to(jnp.asarray(places, float)[:, None], x.shape[::2])
            state = state._replace(position=position)
        end, y, kept = mixer.apply({"params": params}, state, x, jnp.array(STOPS), method="run_with_states")
        read = mixer.apply({"params": params}, state, x, method="read")
        return y, read, jax.tree.map(lambda kept, end: jnp.concatenate([kept, end[:, None]], 1), kept, end)

    def written_out(params, state, x):
        y, read, states = literal(config, params, state, places, x)
        states = jax.tree.map(lambda leaf: leaf[np.arange(2)[:, None], ENDS - 1], states)
        return y, read, states if mini_batch > 1 else (states[0], None)

    found, (*outputs, states) = gradients(ours)
    expected, (*outputs_literal, states_literal) = gradients(written_out)
    assert distance((outputs, states[:2]), (outputs_literal, states_literal)) < 1e-12
    assert distance(found, expected) < 1e-12
    if mini_batch > 1:
        place = (places[:, None] + ENDS) % mini_batch
        np.testing.assert_array_equal(states.position, np.repeat(place[..., None], 3, axis=-1))


def temporary(frames, tokens, width, segment):
    """Bytes that the gradient of `run_with_states` at four stops takes beside its arguments and results."""
    mixer = contract.build(MemoryConfig("ttt", mixer_segment=segment), width, 1, "float32")
    x = jax.ShapeDtypeStruct((1, frames, tokens, width), jnp.float32)
    state = jax.eval_shape(functools.partial(mixer.initial_state, 1, tokens))
    variables = jax.eval_shape(functools.partial(mixer.init, method="run"), jax.random.key(0), state, x)
    stops = jax.ShapeDtypeStruct((1, 4), jnp.int32)

    def loss(variables, state, x, stops):
        results = mixer.apply(variables, state, x, stops, method="run_with_states")
        return sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(results))

    compiled = jax.jit(jax.grad(loss, (0, 1, 2))).lower(variables, state, x, stops).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_the_backward_pass_keeps_a_state_per_segment_and_none_per_frame_or_stop():
    """What a frame more takes, in states: one for a segment of 8 and what is as long as x; all, if they are one segment."""
    tokens, width = 2, 256
    more = temporary(64, tokens, width, 8) - temporary(32, tokens, width, 8)
    assert 1 / 8 < more / 32 / (4 * tokens * width * width) < 0.5


def thousand_steps(dtype):
    """Relative error of weights and outputs after 1,000 frames, against float64."""
    x = contract.noise(1, 1, 1000, 4, 32)

    def run(dtype, variables=None):
        mixer, frames = contract.build(MemoryConfig("ttt"), 32, 2, dtype), jnp.asarray(x, dtype)
        if variables is None:
            variables = {"params": contract.init(mixer, frames)}
        variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, mixer.config.state_dtype), variables)
        state, y = contract.call(mixer, "run", variables, mixer.initial_state(1, 4), frames)
        assert y.dtype == dtype and state.weights.weight.dtype == mixer.config.state_dtype
        return variables, np.asarray(state.weights.weight, np.float64), np.asarray(y, np.float64)

    with jax.enable_x64(True):
        variables, *exact = run("float64")
        variables = jax.tree.map(np.asarray, variables)
    _, *rounded = run(dtype, variables)
    return [float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in zip(rounded, exact)]


@pytest.mark.parametrize("dtype, weights, outputs", [("float32", 2e-6, 2e-6), ("bfloat16", 5e-3, 1.2e-2)])
def test_a_thousand_steps_drift_no_more_than_rounded_operands_must(dtype, weights, outputs):
    """Weights that are rounded to bfloat16 as well are off by 1.7e-2."""
    drift = thousand_steps(dtype)
    assert drift[0] < weights and drift[1] < outputs


def test_everything_starts_as_in_the_published_layer():
    mixer = contract.build(MemoryConfig("ttt", mini_batch=3), 64, 2, "float32")
    params = contract.init(mixer, jnp.zeros((1, 1, 1, 64)))
    params = jax.tree.map(np.asarray, params)
    for name in ("weight", "rate_kernel"):
        np.testing.assert_allclose(params[name].std(), 0.02, rtol=0.1)
    for name in ("qkv", "out"):
        kernel = params[name]["kernel"]
        np.testing.assert_allclose(kernel.std(), 1 / 8, rtol=0.05)
        assert abs(kernel).max() <= 3**0.5 / 8
        assert not np.any(params[name]["bias"])
    zeros = ("bias", "rate_bias", "coefficient", "norm_bias")
    assert not any(np.any(params[name]) for name in zeros) and not np.any(params["post_norm"]["bias"])
    assert np.all(params["norm_gain"] == 1) and np.all(params["post_norm"]["scale"] == 1)
