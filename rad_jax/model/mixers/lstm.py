"""The LSTM memory (paper section 3.1), one cell per token with weights shared over tokens.

    z = x Wx + h Wh + b;    i, f, g, o = split(z)
    c' = s(f) c + s(i) tanh(g);    h' = s(o) tanh(c')

The input projection of all frames is one matrix product; only ``h Wh`` is what a frame waits for, see `lstm_scan`.
Gates, cell and output are at least float32 whatever the compute dtype: a bfloat16 cell is wrong by a fifth after a thousand
steps.

With ``gates = "slots"`` the action feature is layer-normalised and the input, forget and output gates start as the
random linear functions -/+ of it that make every unit a slot, open where the condition points to it and closed elsewhere.
A plain LSTM has to discover this, which takes far longer than learning what to write.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn
from jax import lax

from rad_jax.axes import Array, Float, Int, Key
from rad_jax.model.mixers import Mixer, Walk, matmul, standardise, states_among

SLOT_GAIN = 4.0  # standard deviation of a gate's response to the normalised action feature
SLOT_INPUT_BIAS, SLOT_FORGET_BIAS = -4.0, 5.0
SLOT_TOKEN_SCALE, SLOT_RECURRENT_SCALE = 0.1, 0.3
FORGET_BIAS = 1.0


class LSTMState(NamedTuple):
    """Output ``h`` and cell ``c`` of every unit: (b, n, u), at least float32."""

    h: Float[Array, "*b u"]
    c: Float[Array, "*b u"]


class Cell(nn.Module):
    """The recurrent weights."""

    units: int
    scale: float
    param_dtype: jnp.dtype

    def setup(self):
        orthogonal = nn.initializers.orthogonal(self.scale)
        self.kernel = self.param("kernel", orthogonal, (self.units, 4 * self.units), self.param_dtype)


class LSTM(Mixer):
    """See the module docstring. With other ``units`` than the width of the model, a linear layer maps onto it."""

    @property
    def units(self) -> int:
        return self.config.memory.hidden or self.config.width

    @property
    def slots(self) -> bool:
        return self.config.memory.gates == "slots"

    def setup(self):
        config, dtype = self.config, self.config.state_dtype
        self.cell = Cell(self.units, SLOT_RECURRENT_SCALE if self.slots else 1.0, dtype)
        shape = config.width + config.memory.features, 4 * self.units
        self.kernel = self.param("kernel", self._init_kernel, shape, dtype)
        self.bias = self.param("bias", self._init_bias, shape[1:], dtype)
        if self.units != config.width:
            self.out = nn.Dense(config.width, **config.types)

    def initial_state(self, batch: int, tokens: int) -> LSTMState:
        zeros = jnp.zeros((batch, tokens, self.units), self.config.state_dtype)
        return LSTMState(zeros, zeros)

    def walk(self, state: LSTMState, x: Float[Array, "b t n f"]) -> Walk:
        state, every = lstm_scan(self._inputs(x), self.kernel, self.bias, self.cell.kernel, state)
        return state, self._output(every.h), partial(states_among, every)

    def read(self, state: LSTMState, x: Float[Array, "b t n f"]) -> Float[Array, "b t n d"]:
        x = self._inputs(x)
        recurrent = matmul(state.h, self.cell.kernel, x.dtype)[:, None]
        z = matmul(x, self.kernel, x.dtype) + recurrent + self.bias
        return self._output(step(z, state.c[:, None]).h)

    def _inputs(self, x: Float[Array, "b t n f"]) -> Float[Array, "b t n f"]:
        """What the gates see of every frame."""
        if self.slots:
            token, feature = jnp.split(x, [self.config.width], axis=-1)
            feature, _ = standardise(feature.astype(self.config.state_dtype))
            x = jnp.concatenate([token, feature], axis=-1)
        return x.astype(self.config.compute_dtype)

    def _output(self, h: Float[Array, "b t n u"]) -> Float[Array, "b t n d"]:
        return self.out(h) if self.units != self.config.width else h.astype(self.config.compute_dtype)

    def _init_kernel(
        self, key: Key[Array, ""], shape: tuple[int, int], dtype: jnp.dtype
    ) -> Float[Array, "f gates"]:
        if not self.slots:
            return nn.initializers.lecun_normal()(key, shape, dtype)
        key_token, key_slot = jax.random.split(key)
        features = self.config.memory.features
        token = nn.initializers.lecun_normal()(key_token, (self.config.width, shape[1]), dtype)
        scale = jnp.array([SLOT_TOKEN_SCALE, SLOT_TOKEN_SCALE, 1.0, SLOT_TOKEN_SCALE], dtype)
        token = rearrange(token, "f (gates u) -> f gates u", gates=4) * scale[:, None]
        slot = jax.random.normal(key_slot, (features, self.units), dtype)
        slot = SLOT_GAIN / jnp.sqrt(features) * slot
        # A slot that opens for writing forgets what it held; candidates see tokens only.
        sign = jnp.array([1.0, -1.0, 0.0, 1.0], dtype)
        slots = slot[:, None, :] * sign[:, None]  # (features, gates, units)
        return rearrange(jnp.concatenate([token, slots]), "f gates u -> f (gates u)")

    def _init_bias(self, key: Key[Array, ""], shape: tuple[int], dtype: jnp.dtype) -> Float[Array, "gates"]:
        starts = (SLOT_INPUT_BIAS, SLOT_FORGET_BIAS, 0.0, 0.0) if self.slots else (0.0, FORGET_BIAS, 0.0, 0.0)
        return jnp.repeat(jnp.array(starts, dtype), self.units)


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
    """Runs the recurrence over all frames, with a derivative that stores the state of every frame and nothing else.

    The derivative that JAX makes of this loop would store every gate and add to the gradient of ``Wh`` frame by frame. Here
    ``h`` and ``c`` are stored, from which the pre-activations of all frames follow in two products; a frame then waits only
    for ``dz Wh^T`` of the next one, and the gradients of ``Wx``, ``Wh`` and ``x`` are one product each, over all frames
    and rows. XLA may store ``x Wx`` rather than compute it again where forward and backward are one program; across the
    iterations of a scan over layers it cannot, and only the states are stored. Differentiable once, in reverse.

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


def _forward(*arguments: Array | LSTMState) -> tuple[tuple[LSTMState, LSTMState], tuple]:
    x, kernel, bias, recurrent, state = arguments
    zx = matmul(x, kernel, x.dtype)

    def body(t: Int[Array, ""], carry: tuple[LSTMState, LSTMState]) -> tuple[LSTMState, LSTMState]:
        state, states = carry
        state = step(_at(zx, t) + matmul(state.h, recurrent, x.dtype) + bias, state.c)
        return state, jax.tree.map(lambda s, all: _put(all, s, t), state, states)

    empty = jnp.zeros((*x.shape[:-1], recurrent.shape[0]), recurrent.dtype)
    after, states = lax.fori_loop(0, x.shape[1], body, (state, LSTMState(empty, empty)))
    return (after, states), (*arguments, states)


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

    def by_weights(z: Float[Array, "b t n f"]) -> Float[Array, "f gates"]:
        """The gradient of what ``z`` is multiplied by: one product over all frames and rows."""
        operands = z.astype(x.dtype), dz.astype(x.dtype)
        return jnp.einsum("b t n f, b t n g -> f g", *operands, preferred_element_type=dz.dtype)

    dx = matmul(dz, kernel.T, x.dtype).astype(x.dtype)
    return dx, by_weights(x), dz.sum((0, 1, 2)), by_weights(h), of_state


lstm_scan.defvjp(_forward, _backward)


def _at(x: Float[Array, "b t ..."], t: Int[Array, ""]) -> Float[Array, "b ..."]:
    return lax.dynamic_index_in_dim(x, t, 1, keepdims=False)


def _put(
    x: Float[Array, "b t ..."], frame: Float[Array, "b ..."], t: Int[Array, ""]
) -> Float[Array, "b t ..."]:
    return lax.dynamic_update_index_in_dim(x, frame, t, 1)


MIXER = LSTM
