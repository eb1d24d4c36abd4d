"""The optimiser against AdamW and Muon written out in float64, and what a frozen parameter costs."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rad_jax.config import MemoryConfig, ModelConfig, OptimizerConfig, TrainConfig
from rad_jax.model.names import named_leaves, nested, parameter_shapes
from rad_jax.training import optimizer


def settings(**changes):
    values = {"learning_rate": 0.02, "b1": 0.8, "b2": 0.95, "weight_decay": 0.3, "clip": 1.5, "warmup": 3}
    return OptimizerConfig(**{**values, **changes})


def params():
    draw = np.random.default_rng(0)
    shapes = {
        "block": {"memory": {"dense": {"kernel": (2, 4, 3), "bias": (2, 3)}, "gate": (2,)}},
        "embed": {"kernel": (5, 4), "bias": (4,)},
        "scale": (),
    }
    return jax.tree.map(
        lambda shape: jnp.asarray(draw.normal(size=shape), jnp.float32),
        shapes,
        is_leaf=lambda x: type(x) is tuple,
    )


DECAYED = {"block/memory/dense/kernel", "embed/kernel"}


def gradients(step):
    draw = np.random.default_rng(100 + step)
    return jax.tree.map(lambda p: jnp.asarray(draw.normal(size=p.shape), jnp.float32), params())


def literal_adamw(config, train, names, steps):
    """AdamW by its definition, on the named parameters alone."""
    w = {n: np.asarray(p, np.float64) for n, p in named_leaves(params()).items()}
    m, v = ({n: np.zeros_like(p) for n, p in w.items()} for _ in range(2))
    for t in range(steps):
        g = {n: np.asarray(x, np.float64) for n, x in named_leaves(gradients(t)).items() if n in names}
        norm = math.sqrt(sum((x**2).sum() for x in g.values()))
        rate = float(optimizer.learning_rate(config, train, t))
        for n in g:
            x = g[n] * min(1.0, config.clip / norm)
            m[n] = config.b1 * m[n] + (1 - config.b1) * x
            v[n] = config.b2 * v[n] + (1 - config.b2) * x**2
            step = m[n] / (1 - config.b1 ** (t + 1)) / (np.sqrt(v[n] / (1 - config.b2 ** (t + 1))) + 1e-8)
            w[n] = w[n] - rate * (step + config.weight_decay * w[n] * (n in DECAYED))
    return w


def run(rule, steps):
    w = params()
    state = rule.init(w)
    update = jax.jit(rule.update)
    for t in range(steps):
        change, state = update(gradients(t), state, w)
        w = optax.apply_updates(w, change)
    return w, state


@pytest.mark.parametrize("clip", [1.5, 1e6])
def test_is_adamw_with_clipping_and_decay_of_kernels_only(clip):
    config, train = settings(clip=clip, decay="cosine", decay_start=0.5), TrainConfig(steps=6)
    w, _ = run(optimizer.make(config, train), 6)
    expected = literal_adamw(config, train, named_leaves(w).keys(), 6)
    for name, value in named_leaves(w).items():
        np.testing.assert_allclose(value, expected[name], atol=2e-6, err_msg=name)


def literal_muon(config, train, names, steps):
    """Muon by its definition, layer by layer, on the matrices among the named parameters; the rest by Adam as NAdam has it."""
    w = {n: np.asarray(p, np.float64) for n, p in named_leaves(params()).items()}
    m, v = ({n: np.zeros_like(p) for n, p in w.items()} for _ in range(2))

    def orthogonal(x):
        if x.ndim == 3:
            return np.stack([orthogonal(layer) for layer in x])
        wide = x if x.shape[0] <= x.shape[1] else x.T
        y = wide / np.linalg.norm(wide)
        for _ in range(5):
            gram = y @ y.T
            y = 3.4445 * y + (-4.775 * gram + 2.0315 * gram @ gram) @ y
        y = y if x.shape[0] <= x.shape[1] else y.T
        return 0.4 * math.sqrt(max(x.shape)) * y

    for t in range(steps):
        g = {n: np.asarray(x, np.float64) for n, x in named_leaves(gradients(t)).items() if n in names}
        norm = math.sqrt(sum((x**2).sum() for x in g.values()))
        rate = float(optimizer.learning_rate(config, train, t))
        for n in g:
            x, decay = g[n] * min(1.0, config.clip / norm), 0.95 if n in DECAYED else config.b1
            m[n] = decay * m[n] + (1 - decay) * x
            mean = decay * m[n] / (1 - decay ** (t + 2)) + (1 - decay) * x / (1 - decay ** (t + 1))
            if n in DECAYED:
                step = orthogonal(mean) + config.weight_decay * w[n]
            else:
                v[n] = config.b2 * v[n] + (1 - config.b2) * x**2
                step = mean / (np.sqrt(v[n] / (1 - config.b2 ** (t + 1))) + 1e-8)
            w[n] = w[n] - rate * step
    return w


@pytest.mark.parametrize("freeze", ["none", "base"])
def test_is_muon_on_the_matrices_of_every_layer(freeze):
    config = settings(name="muon", decay="cosine", decay_start=0.5)
    train = TrainConfig(steps=6, freeze=freeze, init_from="elsewhere" * (freeze == "base"))
    w, _ = run(optimizer.make(config, train), 6)
    trained = {name for name in named_leaves(w) if freeze == "none" or name.startswith("block/")}
    expected = literal_muon(config, train, trained, 6)
    for name, value in named_leaves(w).items():
        np.testing.assert_allclose(value, expected[name], atol=2e-5, err_msg=name)


def test_frozen_parameters_do_not_move_have_no_moments_and_do_not_count_in_the_norm():
    config, train = settings(), TrainConfig(steps=6, freeze="base", init_from="elsewhere")
    w, state = run(optimizer.make(config, train), 5)
    trained = {n for n in named_leaves(w) if n.startswith("block/")}
    expected = literal_adamw(config, train, trained, 5)
    for name, value in named_leaves(w).items():
        if name in trained:
            np.testing.assert_allclose(value, expected[name], atol=2e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(value, named_leaves(params())[name], err_msg=name)
    stored = sum(x.size for x in jax.tree.leaves(state) if x.ndim)
    assert stored == 2 * sum(named_leaves(w)[n].size for n in trained)
    assert not [name for name in named_leaves(state) if "embed" in name]


@pytest.mark.parametrize("decay", ["constant", "linear", "cosine"])
def test_schedule(decay):
    config, train = settings(learning_rate=2.0, warmup=4, decay=decay, decay_start=0.4), TrainConfig(steps=20)
    rate = partial(optimizer.learning_rate, config, train)
    for step in range(25):
        done = min(max((step - 8) / 12, 0), 1)
        left = {"constant": 1, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[decay]
        assert float(rate(step)) == pytest.approx(2 * min((step + 1) / 4, 1) * left, abs=1e-6), step
        assert float(jax.jit(rate)(jnp.int32(step))) == pytest.approx(float(rate(step)), abs=1e-6)


def test_decay_waits_for_the_warm_up_and_a_warm_up_is_not_needed():
    late = partial(
        optimizer.learning_rate, settings(learning_rate=1.0, warmup=10, decay="linear"), TrainConfig(steps=20)
    )
    assert float(late(9)) == float(late(10)) == 1.0 and float(late(15)) == pytest.approx(0.5)
    at_once = partial(optimizer.learning_rate, settings(learning_rate=1.0, warmup=0), TrainConfig(steps=20))
    assert float(at_once(0)) == 1.0
    longer = partial(
        optimizer.learning_rate, settings(learning_rate=1.0, warmup=50, decay="cosine"), TrainConfig(steps=20)
    )
    assert float(longer(19)) == pytest.approx(0.4)


def test_average_is_the_literal_one_in_float32():
    values = [jnp.asarray(x, jnp.bfloat16) for x in np.random.default_rng(0).normal(size=(40, 3))]
    ema = optimizer.ema_init({"w": values[0]})
    assert ema["w"].dtype == jnp.float32
    expected = np.asarray(values[0], np.float64)
    for step, value in enumerate(values):
        ema = jax.jit(optimizer.ema_update, static_argnums=2)(ema, {"w": value}, 0.75, step)
        decay = min(0.75, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * np.asarray(value, np.float64)
    np.testing.assert_allclose(ema["w"], expected, atol=1e-6)


def test_average_starts_as_a_copy_and_what_does_not_move_stays_exact():
    w = params()
    ema = optimizer.ema_init(w)
    assert all(
        a.unsafe_buffer_pointer() != b.unsafe_buffer_pointer()
        for a, b in zip(*map(jax.tree.leaves, (w, ema)))
    )
    for step in range(50):
        ema = optimizer.ema_update(ema, w, 0.999, step)
    jax.tree.map(np.testing.assert_array_equal, ema, w)


# The parameters that decay. All others do not: biases, gains, rates, and what a recurrence starts from.
BASE = [
    *(
        f"block/{where}_attention/{name}/kernel"
        for where in ("spatial", "temporal")
        for name in ("qkv", "out")
    ),
    *(f"block/{where}_mlp/Dense_{layer}/kernel" for where in ("spatial", "temporal") for layer in (0, 1)),
    *(f"block/{where}_modulation/Dense_0/kernel" for where in ("spatial", "temporal")),
    *(f"embed_{name}/kernel" for name in ("action", "patch", "time/layers_0", "time/layers_2")),
    "final_modulation/Dense_0/kernel",
    "unembed_patch/kernel",
]
BRANCH = ["action/kernel", "modulation/Dense_0/kernel"]
MIXERS = {
    "lstm": ["kernel", "cell/kernel", "out/kernel"],
    "mamba2": ["conv_kernel", "out/kernel", "project/kernel", "step/kernel"],
    "ttt": ["out/kernel", "qkv/kernel", "rate_kernel", "weight"],
    "arl2": ["gates/kernel", "out/kernel", "qkv/kernel"],
    "convkv": ["key/kernel", "out/kernel", "query/kernel", "value/kernel"],
    "queries": [
        "gate_kernel",
        *(f"{name}/kernel" for name in ("ask", "look", "offer", "out", "show", "update")),
    ],
}


@pytest.mark.parametrize("kind", ["none", *MIXERS])
def test_what_decays(kind):
    """Without gradients, the parameters that an update moves are those that decay."""
    memory = MemoryConfig(kind=kind, action=True, action_width=8, head_width=8, hidden=8, mini_batch=2)
    model = ModelConfig(latent=(4, 4, 3), action_dim=3, width=16, depth=2, heads=2, window=4, memory=memory)
    w = nested({name: jnp.ones(shape) for name, shape in parameter_shapes(model).items()})
    rule = optimizer.make(settings(), TrainConfig(steps=6))
    change, _ = jax.jit(rule.update)(jax.tree.map(jnp.zeros_like, w), rule.init(w), w)
    changes = {name: np.asarray(leaf) for name, leaf in named_leaves(change).items()}
    branch = [] if kind == "none" else [*BRANCH, *(f"mixer/{name}" for name in MIXERS[kind])]
    expected = {*BASE, *(f"block/memory/{name}" for name in branch)}
    assert {name for name, leaf in changes.items() if (leaf < 0).all()} == expected
    assert all((leaf == 0).all() for name, leaf in changes.items() if name not in expected)
