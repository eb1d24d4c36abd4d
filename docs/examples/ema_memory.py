"""A leaky average as a memory: the smallest one that is complete.

    s' = a s + (1 - a) x W;    y = s' V;    a = sigmoid(rate), one per unit

To use it, copy this file to ``rad_jax/model/mixers/ema.py`` and add ``"ema": None`` to ``MEMORIES`` in
``rad_jax/config/memories.py``. The contract is explained in `rad_jax.model.mixers`.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from rad_jax.axes import Array, Float, Int


class EMA(nn.Module):
    width: int
    dtype: jnp.dtype  # of the operands of matrix products
    param_dtype: jnp.dtype  # of parameters and state, at least float32

    @classmethod
    def from_config(cls, config, **kwargs):
        return cls(config.width, config.compute_dtype, config.state_dtype, **kwargs)

    def setup(self):
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.value, self.out = nn.Dense(self.width, **types), nn.Dense(self.width, **types)
        self.rate = self.param("rate", nn.initializers.constant(3.0), (self.width,), self.param_dtype)

    def initial_state(self, batch: int, tokens: int) -> Float[Array, "b n d"]:
        return jnp.zeros((batch, tokens, self.width), self.param_dtype)

    def run(self, state: Float[Array, "b n d"], x: Float[Array, "b t n f"]):
        state, every = self._scan(state, x)
        return state, self.out(every)

    def run_with_states(
        self, state: Float[Array, "b n d"], x: Float[Array, "b t n f"], ends: Int[Array, "b k"]
    ):
        state, every = self._scan(state, x)
        index = jnp.clip(ends - 1, 0, x.shape[1] - 1)[:, :, None, None]
        return state, self.out(every), jnp.take_along_axis(every, index, axis=1)

    def read(self, state: Float[Array, "b n d"], x: Float[Array, "b t n f"]) -> Float[Array, "b t n d"]:
        return self.out(self._step(state[:, None], self.value(x)))

    def _step(self, state, value):
        a = nn.sigmoid(self.rate)
        return a * state + (1 - a) * value.astype(self.param_dtype)

    def _scan(self, state, x):
        """The state after all frames, and after each of them (b, t, n, d)."""
        values = jnp.moveaxis(self.value(x), 1, 0)
        state, every = jax.lax.scan(lambda s, v: (self._step(s, v),) * 2, state, values)
        return state, jnp.moveaxis(every, 0, 1)


MIXER = EMA
