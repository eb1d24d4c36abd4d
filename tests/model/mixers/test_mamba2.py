"""The Mamba2 memory against its equations frame by frame, over a thousand steps, and at its start."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.config import MemoryConfig
from rad_jax.model.mixers import contract
from rad_jax.model.mixers.contract import distance
from rad_jax.model.mixers.mamba2 import Mamba2State, silu
from tests.model.mixers.sums import weighted_sum

FRAMES, WIDTH = 7, 8


def memory(**changes):
    return MemoryConfig(**{"kind": "mamba2", "head_width": 4, "state": 5, "mixer_segment": 4, **changes})


VARIANTS = {
    "standard": memory(),
    "action": MemoryConfig("mamba2", action=True, action_width=4, head_width=8, conv=2),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("check", contract.CHECKS)
def test_contract(check, variant, float64):
    check(contract.subject(VARIANTS[variant]))


def frame_by_frame(params, state, x):
    """The equations of the module docstring, literally: outputs, and the states after 0, 1, ... frames."""
    kernel, tail, s = params["conv_kernel"], state.tail, state.s
    heads, head_width, size = s.shape[2:]
    inner = heads * head_width
    rate = -jnp.exp(params["a_log"])
    outputs, states = [], [state]
    for t in range(x.shape[1]):
        z, xbc = jnp.split(x[:, t] @ params["project"]["kernel"], [inner], axis=-1)
        step = jnp.log1p(jnp.exp(x[:, t] @ params["step"]["kernel"] + params["step"]["bias"]))
        seen = jnp.concatenate([tail, xbc[:, :, None]], axis=2)
        convolved = sum(seen[:, :, k] * kernel[k] for k in range(len(kernel))) + params["conv_bias"]
        u, b, c = jnp.split(convolved / (1 + jnp.exp(-convolved)), [inner, inner + size], axis=-1)
        u = u.reshape(*u.shape[:2], heads, head_width)
        write = jnp.einsum("bnhe,bnu->bnheu", step[..., None] * u, b)
        s = jnp.exp(rate * step)[..., None, None] * s + write
        y = jnp.einsum("bnheu,bnu->bnhe", s, c) + params["d"][:, None] * u
        y = y.reshape(*y.shape[:2], inner) * z / (1 + jnp.exp(-z))
        y = y / jnp.sqrt((y**2).mean(-1, keepdims=True) + 1e-5) * params["norm"]["scale"]
        tail = seen[:, :, 1:]
        outputs.append(y @ params["out"]["kernel"])
        states.append(Mamba2State(tail, s))
    return jnp.stack(outputs, axis=1), states


STOPS = ((1, 5, 7, 2), (3, 3, 6, 0))  # in no order, one twice, one before the first frame


def inputs():
    """Weights, a state that is not empty, and frames: the state of the contract's subject, other frames."""
    s = contract.subject(VARIANTS["standard"])
    return s.variables["params"], s.state, jnp.asarray(contract.noise(9, 2, FRAMES, 3, WIDTH))


@functools.cache
def expected():
    """Outputs, last state, states at the stops, and gradients by weights, first state and frames, of the equations."""

    def loss(*inputs):
        y, states = frame_by_frame(*inputs)
        kept = [
            [jax.tree.map(lambda z, b=b: z[b], states[i]) for i in stops] for b, stops in enumerate(STOPS)
        ]
        stacked = [jax.tree.map(lambda *z: jnp.stack(z), *row) for row in kept]
        everything = y, states[-1], jax.tree.map(lambda *z: jnp.stack(z), *stacked)
        return weighted_sum(everything), everything

    gradients, everything = jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(*inputs())
    return everything, gradients


@pytest.mark.parametrize("segment", [1, 3, 7])
def test_outputs_states_and_gradients_are_those_of_the_equations(segment, float64):
    """7 frames are 7 segments (each shorter than the convolution), 3 segments (the last one short of two frames), and 1."""
    mixer = contract.build(memory(mixer_segment=segment))

    @functools.partial(jax.grad, argnums=(0, 1, 2), has_aux=True)
    def gradients(params, state, x):
        end, y, kept = mixer.apply({"params": params}, state, x, jnp.array(STOPS), method="run_with_states")
        return weighted_sum((y, end, kept)), (y, end, kept)

    by_inputs, everything = jax.jit(gradients)(*inputs())
    values, reference = expected()
    assert distance(everything, values) < 1e-12
    assert distance(by_inputs, reference) < 1e-12


def test_silu_and_its_gradient_hold_everywhere():
    x = jnp.concatenate([jnp.linspace(-120.0, 120.0, 4801), jnp.array([-1e4, 1e4])])
    for function, reference in (
        (silu, jax.nn.silu),
        (jax.grad(lambda x: silu(x).sum()), jax.vmap(jax.grad(jax.nn.silu))),
    ):
        np.testing.assert_allclose(jax.jit(function)(x), reference(x), rtol=1e-5, atol=1e-15)


def test_strong_decay_and_none_are_finite_in_float32():
    """Heads that forget at once next to heads that never do: sums of log decays in a segment reach -40,000 and 0."""
    mixer = contract.build(memory(mixer_segment=100), dtype="float32")
    x = jnp.asarray(contract.noise(0, 1, 300, 2, 8), "float32")
    state, params = mixer.initial_state(1, 2), contract.init(mixer, x)
    params["a_log"] = jnp.array([5.0, 5.0, -30.0, 2.0])
    params["step"]["bias"] = jnp.array([3.0, -3.0, 3.0, -100.0])

    @jax.jit
    def run(params, state, x):
        def loss(params, state, x):
            end, y = mixer.apply({"params": params}, state, x, method="run")
            return weighted_sum((end, y)).astype("float32"), (end, y)

        return jax.grad(loss, (0, 1, 2), has_aux=True)(params, state, x)

    for leaf in jax.tree.leaves(run(params, state, x)):
        assert np.isfinite(leaf).all()


@functools.cache
def long_run(step):
    """Weights whose heads keep a frame for about 1 / softplus(step) frames, a thousand frames, and the state in float64."""
    width, heads, head_width, size = 32, 4, 16, 16
    draw = np.random.default_rng(1)
    convolved = 2 * width + 2 * size

    def kernel(rows, columns):
        return draw.normal(size=(rows, columns)) / np.sqrt(rows)

    params = {
        "project": {"kernel": kernel(width, 2 * width + convolved)},
        "step": {"kernel": kernel(width, heads), "bias": np.full(heads, step)},
        "conv_kernel": kernel(4, convolved),
        "conv_bias": np.zeros(convolved),
        "a_log": np.zeros(heads),
        "d": np.ones(heads),
        "norm": {"scale": np.ones(2 * width)},
        "out": {"kernel": kernel(2 * width, width)},
    }
    x = draw.normal(size=(1, 1000, 8, width))

    def run(dtype):
        mixer = contract.build(memory(head_width=head_width, state=size), width, 1, dtype)
        param_dtype = mixer.config.state_dtype
        variables = {"params": jax.tree.map(lambda leaf: jnp.asarray(leaf, param_dtype), params)}
        frames = jnp.asarray(x, param_dtype).astype(dtype)
        return contract.call(mixer, "run", variables, mixer.initial_state(1, 8), frames)

    with jax.enable_x64(True):
        reference = jax.tree.map(np.asarray, run("float64")[0])
    return run, reference


@pytest.mark.parametrize(
    "dtype, step, bound",
    [("float32", -7.0, 1e-6), ("bfloat16", -2.0, 7e-3), ("bfloat16", -7.0, 3e-3)],
)
def test_a_thousand_steps_drift_no_more_than_rounded_operands_must(dtype, step, bound):
    """A state rounded to bfloat16 after every segment is beyond the last bound."""
    run, reference = long_run(step)
    state, y = run(dtype)
    assert state.s.dtype == state.tail.dtype == jnp.float32 and y.dtype == dtype
    assert np.linalg.norm(state.s - reference.s) / np.linalg.norm(reference.s) < bound


def test_what_is_kept_decays_at_its_own_rate_whatever_the_compute_dtype():
    """Nothing is written for a thousand frames; steps or decays rounded to bfloat16 are wrong by 6e-4 and more."""
    mixer = contract.build(memory(), dtype="bfloat16")
    x = jnp.asarray(contract.noise(0, 1, 1000, 2, 8), "bfloat16")
    state = mixer.initial_state(1, 2)
    state = state._replace(s=jnp.asarray(contract.noise(1, *state.s.shape), "float32"))
    params = contract.init(mixer, x[:, :4])
    params["project"]["kernel"] *= 0
    params["conv_bias"] *= 0
    params["step"]["bias"] = jnp.full(4, -9.0)
    end, _ = contract.call(mixer, "run", {"params": params}, state, x)
    step, a_log = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (params["step"], params["a_log"]))
    steps = np.log1p(np.exp(np.asarray(x, np.float64) @ step["kernel"] + step["bias"])).sum(1)
    decay = np.exp(-np.exp(a_log) * steps)
    assert decay.min() > 1e-2 and decay.max() < 0.9
    np.testing.assert_allclose(end.s, np.asarray(state.s, np.float64) * decay[..., None, None], rtol=5e-5)


def test_it_starts_as_its_authors_start_it():
    mixer = contract.build(memory(expand=32, state=8), 64, 1, "float32")
    params = contract.init(mixer, jnp.zeros((1, 1, 1, 64)))
    rate, step = np.exp(params["a_log"]), np.log1p(np.exp(np.float64(params["step"]["bias"])))
    assert rate.min() > 1 and rate.max() < 16 and abs(rate.mean() - 8.5) < 0.6
    assert step.min() > 0.99e-3 and step.max() < 1.01e-1 and abs(np.log10(step).mean() + 2) < 0.1
    for name, bound in (("project", 64**-0.5), ("step", 64**-0.5), ("out", 2048**-0.5)):
        kernel = np.abs(params[name]["kernel"])
        assert kernel.max() <= bound and abs(kernel.mean() - bound / 2) < 0.01 * bound
    for leaf in (params["conv_kernel"], params["conv_bias"]):
        assert np.abs(leaf).max() <= 0.5 and abs(np.abs(leaf).mean() - 0.25) < 0.01
    np.testing.assert_array_equal(params["d"], 1)
    np.testing.assert_array_equal(params["norm"]["scale"], 1)


def test_no_state_is_made_per_frame():
    """Not for the outputs, not for the kept states, not for the gradient: one per segment and a few besides."""
    frames = 128
    mixer = contract.build(MemoryConfig("mamba2", head_width=32, mixer_segment=16), 32, 1, "float32")
    state, x = mixer.initial_state(1, 2), jnp.zeros((1, frames, 2, 32))
    params = jax.eval_shape(functools.partial(mixer.init, method="run"), jax.random.key(0), state, x)

    def loss(params, state, x, stops):
        return weighted_sum(mixer.apply(params, state, x, stops, method="run_with_states"))

    stops = jnp.zeros((1, 2), int)
    temporary = jax.jit(jax.grad(loss, (0, 1, 2))).lower(params, state, x, stops).compile().memory_analysis()
    one_per_frame = frames * state.s.nbytes
    assert temporary.temp_size_in_bytes < one_per_frame / 2
