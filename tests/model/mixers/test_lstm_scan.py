"""The recurrence of the LSTM and its derivative against a plain scan that JAX differentiates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.model.mixers.lstm_scan import LSTMState, lstm_scan
from tests.model.mixers.contract import distance

BATCH, FRAMES, TOKENS, INPUTS, UNITS = 2, 5, 3, 6, 4


def plain_scan(x, kernel, bias, recurrent, state):
    """The equations, frame after frame."""

    def step(state, x):
        h, c = state
        i, f, g, o = jnp.split(x @ kernel + bias + h @ recurrent, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        state = LSTMState(jax.nn.sigmoid(o) * jnp.tanh(c), c)
        return state, state

    after, states = jax.lax.scan(step, state, jnp.moveaxis(x, 1, 0))
    return after, jax.tree.map(lambda s: jnp.moveaxis(s, 0, 1), states)


def inputs(frames=FRAMES, batch=BATCH, units=UNITS):
    draw = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(draw.normal(size=shape))

    weights = normal(INPUTS, 4 * units), normal(4 * units), normal(units, 4 * units)
    state = LSTMState(*(normal(batch, TOKENS, units) for _ in range(2)))
    return normal(batch, frames, TOKENS, INPUTS), *weights, state


def probe(outputs):
    """A scalar that every output has a say in."""
    draw = np.random.default_rng(1)
    return sum((draw.normal(size=out.shape) * out).sum() for out in jax.tree.leaves(outputs))


def loss(scan):
    return lambda *arguments: probe(scan(*arguments))


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("frames", [1, FRAMES])
def test_values_and_gradients_are_those_of_a_plain_scan(frames):
    arguments = inputs(frames)
    found, wanted = (jax.jit(scan)(*arguments) for scan in (lstm_scan, plain_scan))
    assert distance(found, wanted) < 1e-13
    gradients = [jax.jit(jax.grad(loss(scan), range(5)))(*arguments) for scan in (lstm_scan, plain_scan)]
    assert distance(*gradients) < 1e-12


def test_it_is_differentiated_under_vmap_and_remat():
    x, *weights, state = inputs(batch=4)
    x, state = jax.tree.map(lambda z: z.reshape(2, 2, *z.shape[1:]), (x, state))

    def gradient(scan):
        run = jax.checkpoint(jax.vmap(scan, (0, None, None, None, 0)))
        return jax.jit(jax.grad(loss(run), range(5)))(x, *weights, state)

    assert distance(gradient(lstm_scan), gradient(plain_scan)) < 1e-12


def test_the_jacobian_is_that_of_a_plain_scan():
    x, *rest = inputs(frames=3, batch=1, units=2)
    found, wanted = (
        jax.jit(jax.jacrev(lambda x, scan=scan: scan(x, *rest)))(x) for scan in (lstm_scan, plain_scan)
    )
    assert distance(found, wanted) < 1e-12


def test_only_inputs_and_states_are_kept():
    arguments = inputs()
    _, pull = jax.vjp(lstm_scan, *arguments)
    kept = sum(leaf.size for leaf in jax.tree.leaves(pull))
    given = sum(leaf.size for leaf in jax.tree.leaves(arguments))
    assert kept <= given + 2 * BATCH * FRAMES * TOKENS * UNITS


def products(jaxpr, in_loop=False):
    """Shapes of the results of all matrix products of a program, with whether they are in a loop."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation.outvars[0].aval.shape, in_loop
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from products(inner, in_loop or equation.primitive.name in ("scan", "while"))


def test_the_gradients_of_the_weights_are_one_product_each():
    arguments = inputs()
    gradient = jax.make_jaxpr(jax.grad(loss(lstm_scan), range(5)))(*arguments)
    found = list(products(gradient.jaxpr))
    for weights in (arguments[1], arguments[3]):
        shapes = weights.shape, weights.shape[::-1]
        assert [in_loop for shape, in_loop in found if shape in shapes] == [False]
    assert sum(in_loop for _, in_loop in found) == 2  # one forward, one backward


def test_gradients_need_less_memory_than_those_of_a_plain_scan():
    arguments = jax.tree.map(lambda x: x.astype(jnp.float32), inputs(frames=50, batch=8, units=32))

    def temporary(scan):
        def total(*arguments):
            return sum(out.sum() for out in jax.tree.leaves(scan(*arguments)))

        compiled = jax.jit(jax.grad(total, range(5))).lower(*arguments).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(lstm_scan) < 0.95 * temporary(plain_scan)  # half of it where frames are large
