"""The LSTM memory (paper section 3.1), one cell per token with weights shared over tokens.

    z = x Wx + h Wh + b;    i, f, g, o = split(z)
    c' = s(f) c + s(i) tanh(g);    h' = s(o) tanh(c')

The input projection of all frames is one matrix product; only ``h Wh`` is sequential, see `rad_jax.model.mixers.lstm_scan`.
Gates, cell and output are at least float32 whatever the compute dtype: a bfloat16 cell is wrong by a fifth after a thousand
steps.

With ``gates = "slots"`` the action feature is layer-normalised and the input, forget and output gates start as the
random linear functions -/+ of it that make every unit a slot, open where the condition points to it and closed elsewhere.
A plain LSTM has to discover this, which takes far longer than learning what to write.
"""

from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from rad_jax.axes import Array, Float, Int, Key
from rad_jax.config import ModelConfig
from rad_jax.model.mixers.lstm_scan import LSTMState, lstm_scan, matmul, step

SLOT_GAIN = 4.0  # standard deviation of a gate's response to the normalised action feature
SLOT_INPUT_BIAS, SLOT_FORGET_BIAS = -4.0, 5.0
SLOT_TOKEN_SCALE, SLOT_RECURRENT_SCALE = 0.1, 0.3
FORGET_BIAS = 1.0


class Cell(nn.Module):
    """The recurrent weights."""

    units: int
    scale: float
    param_dtype: jnp.dtype

    def setup(self):
        orthogonal = nn.initializers.orthogonal(self.scale)
        self.kernel = self.param("kernel", orthogonal, (self.units, 4 * self.units), self.param_dtype)


class LSTM(nn.Module):
    """See the module docstring, and `rad_jax.model.mixers` for the contract.

    Attributes:
      width: features of the output ``y``; with other ``units`` a linear layer maps onto it.
      units: width of ``h`` and ``c``.
      features: how many of the last input features are the action feature (0: none).
      slots: see the module docstring; needs an action feature.
      dtype: of the operands of matrix products.
      param_dtype: of parameters, gates and state.
    """

    width: int
    units: int
    features: int
    slots: bool
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @classmethod
    def from_config(cls, config: ModelConfig, **kwargs: Any) -> "LSTM":
        """Builds the module from a ``ModelConfig``."""
        memory = config.memory
        return cls(
            config.width,
            memory.hidden or config.width,
            memory.features,
            memory.gates == "slots",
            config.compute_dtype,
            config.state_dtype,
            **kwargs,
        )

    def setup(self):
        recurrent_scale = SLOT_RECURRENT_SCALE if self.slots else 1.0
        self.cell = Cell(self.units, recurrent_scale, self.param_dtype)
        if self.units != self.width:
            self.out = nn.Dense(self.width, dtype=self.dtype, param_dtype=self.param_dtype)

    def initial_state(self, batch: int, tokens: int) -> LSTMState:
        zeros = jnp.zeros((batch, tokens, self.units), self.param_dtype)
        return LSTMState(zeros, zeros)

    def run(self, state: LSTMState, x: Float[Array, "b t n f"]) -> tuple[LSTMState, Float[Array, "b t n d"]]:
        state, every = self._scan(state, x)
        return state, self._output(every.h)

    def run_with_states(
        self, state: LSTMState, x: Float[Array, "b t n f"], ends: Int[Array, "b k"]
    ) -> tuple[LSTMState, Float[Array, "b t n d"], LSTMState]:
        state, every = self._scan(state, x)
        index = jnp.clip(ends - 1, 0, x.shape[1] - 1)[:, :, None, None]
        states = LSTMState(*(jnp.take_along_axis(s, index, axis=1) for s in every))
        return state, self._output(every.h), states

    def read(self, state: LSTMState, x: Float[Array, "b t n f"]) -> Float[Array, "b t n d"]:
        x, kernel, bias = self._inputs(x)
        z = matmul(x, kernel, self.dtype) + matmul(state.h, self.cell.kernel, self.dtype)[:, None] + bias
        return self._output(step(z, state.c[:, None]).h)

    def _scan(self, state: LSTMState, x: Float[Array, "b t n f"]) -> tuple[LSTMState, LSTMState]:
        """The state after all frames, and after each of them."""
        return lstm_scan(*self._inputs(x), self.cell.kernel, state)

    @nn.compact
    def _inputs(self, x: Float[Array, "b t n f"]) -> tuple[Array, Array, Array]:
        """What the gates see of every frame, and the kernel and bias it meets."""
        kernel = self.param("kernel", self._init_kernel, (x.shape[-1], 4 * self.units), self.param_dtype)
        bias = self.param("bias", self._init_bias, (4 * self.units,), self.param_dtype)
        if self.slots:
            token, feature = jnp.split(x, [x.shape[-1] - self.features], axis=-1)
            x = jnp.concatenate([token, standardise(feature)], axis=-1)
        return x.astype(self.dtype), kernel, bias

    def _output(self, h: Float[Array, "b t n u"]) -> Float[Array, "b t n d"]:
        return self.out(h) if self.units != self.width else h.astype(self.dtype)

    def _init_kernel(
        self, key: Key[Array, ""], shape: tuple[int, int], dtype: jnp.dtype
    ) -> Float[Array, "f gates"]:
        if not self.slots:
            return nn.initializers.lecun_normal()(key, shape, dtype)
        key_token, key_slot = jax.random.split(key)
        token = nn.initializers.lecun_normal()(key_token, (shape[0] - self.features, shape[1]), dtype)
        scale = jnp.array([SLOT_TOKEN_SCALE, SLOT_TOKEN_SCALE, 1.0, SLOT_TOKEN_SCALE], dtype)
        token = rearrange(token, "f (gates u) -> f gates u", gates=4) * scale[:, None]
        slot = jax.random.normal(key_slot, (self.features, self.units), dtype)
        slot = SLOT_GAIN / jnp.sqrt(self.features) * slot
        # A slot that opens for writing forgets what it held; candidates see tokens only.
        sign = jnp.array([1.0, -1.0, 0.0, 1.0], dtype)
        slots = slot[:, None, :] * sign[:, None]  # (features, gates, units)
        return rearrange(jnp.concatenate([token, slots]), "f gates u -> f (gates u)")

    def _init_bias(self, key: Key[Array, ""], shape: tuple[int], dtype: jnp.dtype) -> Float[Array, "gates"]:
        starts = (SLOT_INPUT_BIAS, SLOT_FORGET_BIAS, 0.0, 0.0) if self.slots else (0.0, FORGET_BIAS, 0.0, 0.0)
        return jnp.repeat(jnp.array(starts, dtype), self.units)


def standardise(x: Float[Array, "*b f"], epsilon: float = 1e-6) -> Float[Array, "*b f"]:
    """Layer normalisation without parameters."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + epsilon)


MIXER = LSTM
