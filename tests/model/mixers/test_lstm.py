"""The LSTM memory against `torch.nn.LSTM`, over a thousand steps, and at its two starts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.config import MemoryConfig
from rad_jax.model.mixers.lstm import LSTM, standardise
from rad_jax.model.mixers.lstm_scan import LSTMState
from tests.model.mixers import contract
from tests.model.mixers.contract import distance

BATCH, FRAMES, TOKENS, INPUT, UNITS = 2, 7, 3, 5, 4
VARIANTS = {
    "standard": MemoryConfig(action_width=4),
    "slots": MemoryConfig(action_width=4, gates="slots"),
    "hidden": MemoryConfig(action=False, hidden=5),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("check", contract.CHECKS)
def test_contract(check, variant):
    with jax.enable_x64(True):
        check(contract.subject(VARIANTS[variant]))


def lstm(dtype, width=UNITS, units=UNITS, features=0, slots=False, param_dtype=None):
    return LSTM(width, units, features, slots, jnp.dtype(dtype), jnp.dtype(param_dtype or dtype))


def torch_reference():
    """Weights, inputs and states in float64, with what torch makes of them: outputs, final state, gradients."""
    torch = pytest.importorskip("torch")
    draw = np.random.default_rng(0)
    cell = torch.nn.LSTM(INPUT, UNITS, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for weight in cell.parameters():
            weight.copy_(torch.from_numpy(draw.normal(size=weight.shape)))
    x = torch.from_numpy(draw.normal(size=(BATCH * TOKENS, FRAMES, INPUT))).requires_grad_()
    h, c = (torch.from_numpy(draw.normal(size=(1, BATCH * TOKENS, UNITS))).requires_grad_() for _ in range(2))
    y, (h_end, c_end) = cell(x, (h, c))
    probes = [draw.normal(size=out.shape) for out in (y, h_end, c_end)]
    sum((out * torch.from_numpy(p)).sum() for out, p in zip((y, h_end, c_end), probes)).backward()
    arrays = {"x": x, "h": h, "c": c, "y": y, "h_end": h_end, "c_end": c_end}
    grads = {"x": x.grad, "h": h.grad, "c": c.grad}
    names = dict(cell.named_parameters())
    return (
        {name: value.detach().numpy() for name, value in arrays.items()},
        {name: value.numpy() for name, value in grads.items()},
        {name[:-3]: value.detach().numpy() for name, value in names.items()},
        {name[:-3]: value.grad.numpy() for name, value in names.items()},
        probes,
    )


def as_variables(weights):
    """The parameters of the mixer from those of torch, which has two biases."""
    return {
        "kernel": weights["weight_ih"].T,
        "bias": weights["bias_ih"] + weights["bias_hh"],
        "cell": {"kernel": weights["weight_hh"].T},
    }


def over_time(z):
    """(b n, t, f) of torch to (b, t, n, f)."""
    return z.reshape(BATCH, TOKENS, *z.shape[1:]).swapaxes(1, 2)


def state_of(h, c):
    return LSTMState(*(z.reshape(BATCH, TOKENS, UNITS) for z in (h, c)))


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 1e-5)])
def test_outputs_and_gradients_equal_those_of_torch(dtype, tolerance):
    arrays, grads, weights, weight_grads, (probe_y, probe_h, probe_c) = torch_reference()
    with jax.enable_x64(dtype == "float64"):
        model = lstm(dtype)

        def cast(tree):
            return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)

        probes = cast((over_time(probe_y), state_of(probe_h, probe_c)))

        @jax.jit
        def run(params, state, x):
            def loss(params, state, x):
                end, y = model.apply({"params": params}, state, x, method="run")
                terms = jax.tree.map(lambda a, b: (a * b).sum(), (y, end), probes)
                return sum(jax.tree.leaves(terms)), (y, end)

            return jax.grad(loss, (0, 1, 2), has_aux=True)(params, state, x)

        inputs = as_variables(weights), state_of(arrays["h"], arrays["c"]), over_time(arrays["x"])
        (by_params, by_state, by_x), (y, end) = run(*cast(inputs))
    assert y.dtype == end.c.dtype == by_params["kernel"].dtype == dtype
    assert distance(y, over_time(arrays["y"])) < tolerance
    assert distance(end, state_of(arrays["h_end"], arrays["c_end"])) < tolerance
    assert distance(by_x, over_time(grads["x"])) < tolerance
    assert distance(by_state, state_of(grads["h"], grads["c"])) < tolerance
    assert distance(by_params["kernel"], weight_grads["weight_ih"].T) < tolerance
    assert distance(by_params["cell"]["kernel"], weight_grads["weight_hh"].T) < tolerance
    assert distance(by_params["bias"], weight_grads["bias_ih"]) < tolerance


def test_other_units_than_the_width_end_in_a_linear_layer():
    with jax.enable_x64(True):
        s = contract.subject(VARIANTS["hidden"])
        narrow = lstm("float64", width=5, units=5)
        params = dict(s.variables["params"])
        out = params.pop("out")
        state, h = contract.call(narrow, "run", {"params": params}, s.state, s.x)
        after, y = s("run", s.state, s.x)
        assert distance(y, h @ out["kernel"] + out["bias"]) < 1e-12
        assert distance(after, state) < 1e-12


def thousand_steps(dtype, forget_bias):
    """Relative error of the cell after 1,000 steps, against float64, with the state and its types."""
    units = 32
    draw = np.random.default_rng(1)
    params = {
        "kernel": draw.normal(size=(units, 4 * units)) / np.sqrt(units),
        "bias": np.repeat([0.0, forget_bias, 0.0, 0.0], units),
        "cell": {"kernel": draw.normal(size=(units, 4 * units)) / np.sqrt(units)},
    }
    x = draw.normal(size=(1, 1000, 8, units))

    def run(dtype, param_dtype):
        model = lstm(dtype, units, units, param_dtype=param_dtype)
        cast = jax.tree.map(lambda leaf: jnp.asarray(leaf, param_dtype), params)
        state, y = contract.call(
            model,
            "run",
            {"params": cast},
            model.initial_state(1, 8),
            jnp.asarray(x, param_dtype).astype(dtype),
        )
        return state, y

    with jax.enable_x64(True):
        reference = np.asarray(run("float64", "float64")[0].c)
    state, y = run(dtype, "float32")
    assert state.c.dtype == state.h.dtype == jnp.float32 and y.dtype == dtype
    return float(np.linalg.norm(state.c - reference) / np.linalg.norm(reference))


@pytest.mark.parametrize(
    "dtype, forget_bias, bound",
    [("float32", 3.0, 2e-6), ("bfloat16", 0.0, 4e-3), ("bfloat16", 3.0, 7e-3), ("bfloat16", 8.0, 3.7e-2)],
)
def test_a_thousand_steps_drift_no_more_than_rounded_operands_must(dtype, forget_bias, bound):
    """A cell that is rounded to bfloat16 as well is beyond the last two bounds: 9.0e-3 and 1.2e-1."""
    assert thousand_steps(dtype, forget_bias) < bound


def start(slots, units=64, tokens=96, features=32):
    """The mixer as it starts, with the parts of its weights: (input or units, gate, unit), gates in the order i f g o."""
    model = lstm("float32", units, units, features, slots)
    x = jnp.zeros((1, 1, 1, tokens + features))
    init = jax.jit(lambda key: model.init(key, model.initial_state(1, 1), x, method="run"))
    params = init(jax.random.key(0))["params"]
    kernel, bias, recurrent = (
        np.asarray(w).reshape(*w.shape[:-1], 4, units)
        for w in (params["kernel"], params["bias"], params["cell"]["kernel"])
    )
    return model, params, kernel[:tokens], kernel[tokens:], bias, recurrent


def orthogonality(recurrent):
    rows = recurrent.reshape(len(recurrent), -1)
    return rows @ rows.T


def test_standard_gates_start_with_a_forget_bias_of_one():
    _, _, tokens, features, bias, recurrent = start(slots=False)
    np.testing.assert_array_equal(bias, np.repeat([[0.0], [1.0], [0.0], [0.0]], 64, axis=1))
    np.testing.assert_allclose(np.concatenate([tokens, features]).std((0, 2)), 128**-0.5, rtol=0.05)
    np.testing.assert_allclose(orthogonality(recurrent), np.eye(64), atol=1e-5)


def test_slots_start_as_functions_of_the_action_feature():
    _, _, tokens, features, bias, recurrent = start(slots=True)
    np.testing.assert_array_equal(bias, np.repeat([[-4.0], [5.0], [0.0], [0.0]], 64, axis=1))
    np.testing.assert_allclose(tokens.std((0, 2)) * 96**0.5, [0.1, 0.1, 1.0, 0.1], rtol=0.05)
    np.testing.assert_allclose(orthogonality(recurrent), 0.3**2 * np.eye(64), atol=1e-5)
    score = features[:, 0]  # of a unit, from the normalised feature: its input gate opens where it is large,
    np.testing.assert_array_equal(features[:, 1], -score)  # where its forget gate lets go,
    np.testing.assert_array_equal(features[:, 2], 0)  # whatever is written,
    np.testing.assert_array_equal(features[:, 3], score)  # and its output is shown
    np.testing.assert_allclose(score.std() * 32**0.5, 4.0, rtol=0.05)


def test_a_slot_that_opens_is_overwritten_and_the_others_keep():
    model, params, tokens, features, _, recurrent = start(slots=True)
    draw = np.random.default_rng(2)
    token, feature, h, c = (draw.normal(size=(1, 64, size)) for size in (96, 32, 64, 64))
    state = LSTMState(jnp.asarray(0.1 * h, "float32"), jnp.asarray(c, "float32"))

    @jax.jit
    def step(feature):
        x = jnp.concatenate([jnp.asarray(token), feature], axis=-1)[:, None]
        return model.apply({"params": params}, state, x.astype("float32"), method="run")[0]

    after = step(jnp.asarray(feature))
    normalised = (feature - feature.mean(-1, keepdims=True)) / feature.std(-1, keepdims=True)
    score = normalised @ features[:, 0]
    candidate = np.tanh(token @ tokens[:, 2] + 0.1 * h @ recurrent[:, 2])
    opened, closed = score > 8, score < 0
    assert 30 < opened.sum() < 200 and closed.sum() > 1500  # of 4,096
    assert np.abs(after.c - candidate)[opened].max() < 0.2
    assert np.abs(after.c - c)[closed].max() < 0.1
    assert np.abs(after.h)[score < -4].max() < 0.1  # what is closed is not shown
    np.testing.assert_allclose(step(jnp.asarray(3 * feature + 5)).c, after.c, atol=1e-4)


def test_standardise_gives_mean_zero_and_variance_one():
    x = np.random.default_rng(3).normal(3.0, 2.0, size=(4, 50)).astype(np.float32)
    z = np.asarray(standardise(jnp.asarray(x)), np.float64)
    np.testing.assert_allclose(z.mean(-1), 0, atol=1e-6)
    np.testing.assert_allclose(z.std(-1), 1, atol=1e-5)
    assert standardise(jnp.asarray(x, jnp.bfloat16)).dtype == jnp.float32
