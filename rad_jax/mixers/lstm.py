"""The LSTM memory (paper section 3.1), one cell per token with weights shared over tokens.

    z = x Wx + h Wh + b;    i, f, g, o = split(z)
    c' = s(f) c + s(i) tanh(g);    h' = s(o) tanh(c')

The input projection of all frames is one matrix product outside the scan; only ``h Wh`` is sequential. Gates, cell and
output are at least float32 whatever the compute dtype: a bfloat16 cell is wrong by a fifth after a thousand steps.

With ``gates = "slots"`` the action feature is layer-normalised and the input, forget and output gates start as the
random linear functions -/+ of it that make every unit a slot, open where the condition points to it and closed elsewhere.
A plain LSTM has to discover this, which takes far longer than learning what to write.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from rad_jax.axes import Array, Float, Int
from rad_jax.schema import ConfigError

SLOT_GAIN = 4.0  # standard deviation of a gate's response to the normalised action feature
SLOT_INPUT_BIAS, SLOT_FORGET_BIAS = -4.0, 5.0
SLOT_TOKEN_SCALE, SLOT_RECURRENT_SCALE = 0.1, 0.3
FORGET_BIAS = 1.0


class LSTMState(NamedTuple):
    """Output ``h`` and cell ``c`` of every unit: (b, n, u), float32."""

    h: Float[Array, "b n u"]
    c: Float[Array, "b n u"]


def gate(z: Float[Array, "*b gates"], c: Float[Array, "*#b u"]) -> LSTMState:
    """One step of the recurrence from the pre-activations of the gates and the previous cell."""
    i, f, g, o = jnp.split(z, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return LSTMState(jax.nn.sigmoid(o) * jnp.tanh(c), c)


class Cell(nn.Module):
    """The sequential half of the LSTM: what the previous output adds to the gates."""

    units: int
    scale: float
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    def setup(self):
        orthogonal = nn.initializers.orthogonal(self.scale)
        self.kernel = self.param("kernel", orthogonal, (self.units, 4 * self.units), self.param_dtype)

    def recurrent(self, h: Float[Array, "b n u"]) -> Float[Array, "b n gates"]:
        return matmul(h, self.kernel, self.dtype)

    def __call__(self, state: LSTMState, z: Float[Array, "b n gates"]) -> tuple[LSTMState, LSTMState]:
        state = gate(z + self.recurrent(state.h), state.c)
        return state, state


def matmul(x, kernel, dtype):
    """``x @ kernel`` with operands in ``dtype`` and a result in the precision of the state."""
    return jnp.matmul(x.astype(dtype), kernel.astype(dtype), preferred_element_type=kernel.dtype)


class LSTM(nn.Module):
    """See the module docstring, and `rad_jax.mixers` for the contract.

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
    def check(cls, config):
        """Raises `ConfigError` for slots without what they are functions of."""
        if config.memory.gates == "slots" and not config.memory.features:
            raise ConfigError(
                "memory.gates=slots: the slots are functions of the action feature; set memory.action=true"
            )

    @classmethod
    def from_config(cls, config, **kwargs):
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
        self.cell = Cell(self.units, recurrent_scale, self.dtype, self.param_dtype)
        if self.units != self.width:
            self.out = nn.Dense(self.width, dtype=self.dtype, param_dtype=self.param_dtype)

    def initial_state(self, batch: int, tokens: int) -> LSTMState:
        zeros = jnp.zeros((batch, tokens, self.units), self.param_dtype)
        return LSTMState(zeros, zeros)

    def run(self, state: LSTMState, x: Float[Array, "b t n f"]) -> tuple[LSTMState, Float[Array, "b t n d"]]:
        state, states = self._scan(state, x)
        return state, self._output(states.h)

    def run_keeping(
        self, state: LSTMState, x: Float[Array, "b t n f"], stops: Int[Array, "b k"]
    ) -> tuple[LSTMState, Float[Array, "b t n d"], LSTMState]:
        state, states = self._scan(state, x)
        index = jnp.clip(stops - 1, 0, x.shape[1] - 1)[:, :, None, None]
        kept = LSTMState(*(jnp.take_along_axis(s, index, axis=1) for s in states))
        return state, self._output(states.h), kept

    def read(self, state: LSTMState, x: Float[Array, "b t n f"]) -> Float[Array, "b t n d"]:
        z = self._project(x) + self.cell.recurrent(state.h)[:, None]
        return self._output(gate(z, state.c[:, None]).h)

    def _scan(self, state, x):
        scan = nn.scan(
            lambda cell, carry, z: cell(carry, z),
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=1,
            out_axes=1,
        )
        return scan(self.cell, state, self._project(x))

    @nn.compact
    def _project(self, x):
        kernel = self.param("kernel", self._init_kernel, (x.shape[-1], 4 * self.units), self.param_dtype)
        bias = self.param("bias", self._init_bias, (4 * self.units,), self.param_dtype)
        if self.slots:
            token, feature = jnp.split(x, [x.shape[-1] - self.features], axis=-1)
            x = jnp.concatenate([token, standardise(feature)], axis=-1)
        return matmul(x, kernel, self.dtype) + bias

    def _output(self, h):
        return self.out(h) if self.units != self.width else h.astype(self.dtype)

    def _init_kernel(self, key, shape, dtype):
        if not self.slots:
            return nn.initializers.lecun_normal()(key, shape, dtype)
        key_token, key_slot = jax.random.split(key)
        token = nn.initializers.lecun_normal()(key_token, (shape[0] - self.features, shape[1]), dtype)
        scale = jnp.array([SLOT_TOKEN_SCALE, SLOT_TOKEN_SCALE, 1.0, SLOT_TOKEN_SCALE], dtype)
        token = rearrange(token, "f (gates u) -> f gates u", gates=4) * scale[:, None]
        slot = (
            SLOT_GAIN
            / jnp.sqrt(self.features)
            * jax.random.normal(key_slot, (self.features, self.units), dtype)
        )
        sign = jnp.array(
            [1.0, -1.0, 0.0, 1.0], dtype
        )  # a slot that opens forgets what it held; candidates see tokens only
        slots = slot[:, None, :] * sign[:, None]
        return rearrange(jnp.concatenate([token, slots]), "f gates u -> f (gates u)")

    def _init_bias(self, key, shape, dtype):
        starts = (SLOT_INPUT_BIAS, SLOT_FORGET_BIAS, 0.0, 0.0) if self.slots else (0.0, FORGET_BIAS, 0.0, 0.0)
        return jnp.repeat(jnp.array(starts, dtype), self.units)


def standardise(x: Float[Array, "*b f"], epsilon: float = 1e-6) -> Float[Array, "*b f"]:
    """Layer normalisation without parameters."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + epsilon)
