"""The recurrence of the LSTM, with a derivative that stores the state of every frame and nothing else.

    z = x Wx + h Wh + b;    i, f, g, o = s(z_i), s(z_f), tanh(z_g), s(z_o)
    c' = f c + i g;         h' = o tanh(c')

Forward, ``x Wx`` of all frames is one matrix product and ``h Wh`` is what a frame waits for. Backward, the derivative that JAX
makes of this loop would store every gate and add to the gradient of ``Wh`` frame by frame. Here ``h`` and ``c`` are stored,
from which the pre-activations of all frames follow in two products; a frame then waits only for ``dz Wh^T`` of the next
one, and the gradients of ``Wx``, ``Wh`` and ``x`` are one product each, over all frames and rows.

XLA may store ``x Wx`` rather than compute it again where forward and backward are one program; across the iterations of a
scan over layers it cannot, and only the states are stored.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rad_jax.axes import Array, Float, Int


class LSTMState(NamedTuple):
    """Output ``h`` and cell ``c`` of every unit: (b, n, u), at least float32."""

    h: Float[Array, "*b u"]
    c: Float[Array, "*b u"]


def matmul(x: Float[Array, "*b f"], kernel: Float[Array, "f u"], dtype: jnp.dtype) -> Float[Array, "*b u"]:
    """``x @ kernel`` with operands in ``dtype`` and a result in the precision of ``kernel``."""
    return jnp.matmul(x.astype(dtype), kernel.astype(dtype), preferred_element_type=kernel.dtype)


def activate(z: Float[Array, "*b gates"]) -> Float[Array, "*b gates"]:
    """The gates i, f, g, o from their pre-activations.

    As s(x) = (1 + tanh(x / 2)) / 2, all four are one tanh, which compiles to one pass over contiguous memory.
    """
    units = z.shape[-1] // 4
    scale = jnp.repeat(jnp.array([0.5, 0.5, 1.0, 0.5], z.dtype), units)
    shift = jnp.repeat(jnp.array([0.5, 0.5, 0.0, 0.5], z.dtype), units)
    return scale * jnp.tanh(scale * z) + shift


def step(z: Float[Array, "*b gates"], c: Float[Array, "*#b u"]) -> LSTMState:
    """One step of the recurrence from the pre-activations of the gates and the previous cell."""
    i, f, g, o = jnp.split(activate(z), 4, axis=-1)
    c = f * c + i * g
    return LSTMState(o * jnp.tanh(c), c)


def step_back(
    z: Float[Array, "*b gates"],
    before: Float[Array, "*b u"],
    c: Float[Array, "*b u"],
    dh: Float[Array, "*b u"],
    dc: Float[Array, "*b u"],
) -> tuple[Float[Array, "*b gates"], Float[Array, "*b u"]]:
    """The gradient in ``z`` and in the previous cell, from those in what `step` made of them, the cell ``c`` and its ``h``."""
    i, f, g, o = jnp.split(activate(z), 4, axis=-1)
    shown = jnp.tanh(c)
    dc = dc + dh * o * (1 - shown * shown)
    di, df, dg, do = dc * g, dc * before, dc * i, dh * shown
    dz = [di * i * (1 - i), df * f * (1 - f), dg * (1 - g * g), do * o * (1 - o)]
    return jnp.concatenate(dz, axis=-1), dc * f


@jax.custom_vjp
def lstm_scan(
    x: Float[Array, "b t n f"],
    kernel: Float[Array, "f gates"],
    bias: Float[Array, "gates"],
    recurrent: Float[Array, "u gates"],
    state: LSTMState,
) -> tuple[LSTMState, LSTMState]:
    """Runs the recurrence over all frames. Differentiable once, in reverse.

    Args:
      x: the input, in the type of the operands of all matrix products.
      kernel: Wx, for the gates i, f, g, o in this order, in the type of the state, as all that follows.
      bias: b.
      recurrent: Wh.
      state: the state before the first frame.

    Returns:
      The state after the last frame, and the states after every frame with axes (b, t, n, u).
    """
    return _forward(x, kernel, bias, recurrent, state)[0]


def _forward(
    x: Float[Array, "b t n f"],
    kernel: Float[Array, "f gates"],
    bias: Float[Array, "gates"],
    recurrent: Float[Array, "u gates"],
    state: LSTMState,
) -> tuple[tuple[LSTMState, LSTMState], tuple]:
    zx = matmul(x, kernel, x.dtype)

    def body(t: Int[Array, ""], carry: tuple[LSTMState, LSTMState]) -> tuple[LSTMState, LSTMState]:
        state, states = carry
        state = step(_at(zx, t) + matmul(state.h, recurrent, x.dtype) + bias, state.c)
        return state, jax.tree.map(lambda s, all: _put(all, s, t), state, states)

    empty = jnp.zeros((*x.shape[:-1], recurrent.shape[0]), recurrent.dtype)
    after, states = lax.fori_loop(0, x.shape[1], body, (state, LSTMState(empty, empty)))
    return (after, states), (x, kernel, bias, recurrent, state, states)


def _backward(residuals: tuple, gradients: tuple[LSTMState, LSTMState]) -> tuple:
    x, kernel, bias, recurrent, state, states = residuals
    of_last, of_states = gradients
    last = x.shape[1] - 1
    h = jnp.concatenate([state.h[:, None], states.h[:, :-1]], axis=1)  # before every frame
    zx, zh = matmul(x, kernel, x.dtype), matmul(h, recurrent, x.dtype)
    back = recurrent.T

    def body(i: Int[Array, ""], carry: tuple) -> tuple:
        (dh, dc), own, dz = carry
        t = last - i
        earlier = jnp.maximum(t - 1, 0)
        before = jnp.where(t > 0, _at(states.c, earlier), state.c)
        z = _at(zx, t) + own + bias
        own_dz, dc = step_back(
            z, before, _at(states.c, t), dh + _at(of_states.h, t), dc + _at(of_states.c, t)
        )
        # dz takes the place of zh frame by frame. What the next iteration needs of zh is read after this write, not
        # before it: with no other reader of the old array, XLA never copies it.
        dz = _put(dz, own_dz, t)
        return LSTMState(matmul(own_dz, back, x.dtype), dc), _at(dz, earlier), dz

    of_state, _, dz = lax.fori_loop(0, x.shape[1], body, (of_last, zh[:, last], zh))
    dx = matmul(dz, kernel.T, x.dtype).astype(x.dtype)
    return dx, _weights(x, dz, x.dtype), dz.sum((0, 1, 2)), _weights(h, dz, x.dtype), of_state


lstm_scan.defvjp(_forward, _backward)


def _weights(
    x: Float[Array, "b t n f"], dz: Float[Array, "b t n gates"], dtype: jnp.dtype
) -> Float[Array, "f gates"]:
    """The gradient of ``kernel`` in ``z = x @ kernel``: one product over all frames and rows."""
    operands = x.astype(dtype), dz.astype(dtype)
    return jnp.einsum("b t n f, b t n g -> f g", *operands, preferred_element_type=dz.dtype)


def _at(x: Float[Array, "b t ..."], t: Int[Array, ""]) -> Float[Array, "b ..."]:
    return lax.dynamic_index_in_dim(x, t, 1, keepdims=False)


def _put(
    x: Float[Array, "b t ..."], frame: Float[Array, "b ..."], t: Int[Array, ""]
) -> Float[Array, "b t ..."]:
    return lax.dynamic_update_index_in_dim(x, frame, t, 1)
