"""A leaky average as a memory: the smallest one that is complete, with a setting of its own.

    s' = a s + (1 - a) x W;    y = s' V;    a = sigmoid(rate), one per unit, which starts at ``decay``

It is used from any package, as docs/memories.md says. The contract is explained in `rad_jax.model.mixers`.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from rad_jax.axes import Array, Float
from rad_jax.config import Section, key
from rad_jax.model.mixers import Mixer, Walk, states_among


@dataclass(frozen=True)
class Settings(Section):
    decay: float = key(
        0.95, "share of the state that a frame leaves, at the start of training", above=0, below=1
    )


class EMA(Mixer):
    Settings = Settings

    def setup(self):
        width, dtype = self.config.width, self.config.state_dtype  # of parameters and state, at least float32
        self.value, self.out = (nn.Dense(width, **self.config.types) for _ in range(2))
        rate = np.log(self.own.decay / (1 - self.own.decay))
        self.rate = self.param("rate", nn.initializers.constant(rate), (width,), dtype)

    def initial_state(self, batch: int, tokens: int) -> Float[Array, "b n d"]:
        return jnp.zeros((batch, tokens, self.config.width), self.config.state_dtype)

    def walk(self, state: Float[Array, "b n d"], x: Float[Array, "b t n f"]) -> Walk:
        values = jnp.moveaxis(self.value(x), 1, 0)
        state, every = jax.lax.scan(lambda s, v: (self._step(s, v),) * 2, state, values)
        every = jnp.moveaxis(every, 0, 1)  # the states after each of the frames (b, t, n, d)
        return state, self.out(every), lambda ends: states_among(every, ends)

    def read(self, state: Float[Array, "b n d"], x: Float[Array, "b t n f"]) -> Float[Array, "b t n d"]:
        return self.out(self._step(state[:, None], self.value(x)))

    def _step(self, state: Float[Array, "... d"], value: Float[Array, "... d"]) -> Float[Array, "... d"]:
        a = nn.sigmoid(self.rate)
        return a * state + (1 - a) * value.astype(self.config.state_dtype)
