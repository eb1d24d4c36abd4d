"""The Mamba2 memory (paper section 3.1), one state-space model per token with weights shared over tokens.

    [z, xbc, dt] = input W_in;    [x, b, c] = SiLU(causal depthwise convolution of xbc);    dt = softplus(dt + bias)
    S_t = exp(-exp(a_log) dt_t) S_{t-1} + (dt_t x_t) b_t^T;    y_t = S_t c_t + d x_t
    output = RMSNorm(y * SiLU(z)) W_out

This is the layer of state-spaces/mamba with one group of b and c, d per head and the norm after the gate. Frames run in
segments, see `rad_jax.model.mixers.ssd`. The whole layer does, so that beyond inputs and outputs only the states between
segments grow with the number of frames, also in the backward pass, which redoes each segment. Steps, decays and states are at
least float32 whatever the compute dtype.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from rad_jax.axes import Array, Float, Int, Key
from rad_jax.config import ModelConfig
from rad_jax.model.mixers import ssd

EPSILON = 1e-5  # of the RMS norm
FIRST_RATE = (1.0, 16.0)  # exp(a_log), uniform
FIRST_STEP = (1e-3, 1e-1)  # softplus(bias of dt), uniform in its logarithm

uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # within 1 / sqrt(fan in)


class Mamba2State(NamedTuple):
    """The frames that the convolution still sees, and the state of every head; at least float32.

    ``tail`` holds the last ``memory.conv - 1`` frames of xbc, before the convolution; ``u`` is the size of b and c.
    """

    tail: Float[Array, "b n conv_past xbc"]
    s: Float[Array, "b n h e u"]


class Mamba2(nn.Module):
    """See the module docstring, and `rad_jax.model.mixers` for the contract. Inside, frames come after tokens.

    Attributes:
      width: features of the output.
      heads: heads, together ``memory.expand`` times as wide as the model.
      head_width: features of a head, rows of its state.
      size: size of b and c, columns of a head's state.
      conv: frames the convolution sees, at least 2.
      segment: most frames taken at once.
      dtype: of the operands of matrix products.
      param_dtype: of parameters, steps, decays and states.
    """

    width: int
    heads: int
    head_width: int
    size: int
    conv: int
    segment: int
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @classmethod
    def from_config(cls, config: ModelConfig, **kwargs: Any) -> "Mamba2":
        """Builds the module from a ``ModelConfig``."""
        memory = config.memory
        return cls(
            config.width,
            memory.expand * config.width // memory.head_width,
            memory.head_width,
            memory.state,
            memory.conv,
            memory.mixer_segment,
            config.compute_dtype,
            config.state_dtype,
            **kwargs,
        )

    def setup(self):
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype, "kernel_init": uniform}
        exact = {**types, "dtype": self.param_dtype}  # a rounded step decays the state at another rate
        inner, convolved = self._widths
        self.project = nn.Dense(inner + convolved, use_bias=False, **types)
        self.step = nn.Dense(self.heads, bias_init=first_step, **exact)
        self.conv_kernel = self.param("conv_kernel", uniform, (self.conv, convolved), self.param_dtype)
        self.conv_bias = self.param("conv_bias", self._init_conv_bias, (convolved,), self.param_dtype)
        self.a_log = self.param("a_log", first_log_rate, (self.heads,), self.param_dtype)
        self.d = self.param("d", nn.initializers.ones, (self.heads,), self.param_dtype)
        self.norm = nn.RMSNorm(EPSILON, dtype=self.param_dtype, param_dtype=self.param_dtype)
        self.out = nn.Dense(self.width, use_bias=False, **types)

    def initial_state(self, batch: int, tokens: int) -> Mamba2State:
        tail = jnp.zeros((batch, tokens, self.conv - 1, self._widths[1]), self.param_dtype)
        s = jnp.zeros((batch, tokens, self.heads, self.head_width, self.size), self.param_dtype)
        return Mamba2State(tail, s)

    def run(
        self, state: Mamba2State, x: Float[Array, "b t n f"]
    ) -> tuple[Mamba2State, Float[Array, "b t n d"]]:
        state, y, _ = self._scan(state, x, collect=False)
        return state, y

    def run_with_states(
        self, state: Mamba2State, x: Float[Array, "b t n f"], ends: Int[Array, "b k"]
    ) -> tuple[Mamba2State, Float[Array, "b t n d"], Mamba2State]:
        last, y, (firsts, new, xbc) = self._scan(state, x, collect=True)
        size = new.dt.shape[-1]
        ends = jnp.clip(ends, 0, x.shape[1])
        segment = jnp.maximum(ends - 1, 0) // size  # of the last frame that counts
        # From its first state once more to the end: the only states made are one per segment and one per end.
        of_video = jax.vmap(lambda z, i: z[i], (1, 0))
        s, new = jax.tree.map(lambda z: of_video(z, segment), (firsts, new))
        counts = jnp.arange(size) < (ends - segment * size)[:, :, None, None, None]
        s = ssd.advance(s, new._replace(dt=jnp.where(counts, new.dt, 0)), self._heads)
        tail = frames_at(self._with_tail(state, xbc), ends, self.conv - 1)
        return last, y, Mamba2State(tail.astype(self.param_dtype), s)

    def read(self, state: Mamba2State, x: Float[Array, "b t n f"]) -> Float[Array, "b t n d"]:
        z, xbc, dt = self._project(rearrange(x, "b t n f -> b n t f"))
        before = (state.tail * self.conv_kernel[:-1]).sum(-2, keepdims=True)
        new = ssd.Inputs(self._activate(before + self.conv_kernel[-1] * xbc), dt)
        return rearrange(self._output(ssd.read(state.s, new, self._heads), z), "b n t d -> b t n d")

    def _scan(
        self, state: Mamba2State, x: Float[Array, "b t n f"], collect: bool
    ) -> tuple[Mamba2State, Float[Array, "b t n d"], tuple | None]:
        """Runs segment after segment.

        With ``collect`` also returns the first state and the inputs of every segment (g b n ...), and xbc of all frames.
        """
        frames = x.shape[1]
        count = -(-frames // self.segment)
        size = -(-frames // count)  # as many segments as needed, no longer than needed
        x = jnp.pad(x, [(0, 0), (0, count * size - frames), (0, 0), (0, 0)])
        x = rearrange(x, "b (g q) n f -> g b n q f", q=size)
        lengths = jnp.minimum(frames - size * jnp.arange(count), size)

        def step(
            mixer: Mamba2, state: Mamba2State, segment: tuple[Array, Array]
        ) -> tuple[Mamba2State, tuple]:
            x, length = segment
            z, xbc, dt = mixer._project(x)
            dt = jnp.where(jnp.arange(size) < length, dt, 0)  # padding changes nothing
            frames = mixer._with_tail(state, xbc)
            new, heads = mixer._inputs(frames, dt), mixer._heads
            y = mixer._output(ssd.outputs(state.s, new, heads), z)
            tail = jax.lax.dynamic_slice_in_dim(frames, length, mixer.conv - 1, axis=2)
            after = Mamba2State(tail.astype(mixer.param_dtype), ssd.advance(state.s, new, heads))
            return after, (y, (state.s, new, xbc) if collect else None)

        scan = nn.scan(
            nn.remat(step, prevent_cse=False), variable_broadcast="params", split_rngs={"params": False}
        )
        state, (y, collected) = scan(self, state, (x, lengths))
        y = rearrange(y, "g b n q d -> b (g q) n d")[:, :frames]
        if collect:
            collected = *collected[:2], rearrange(collected[2], "g b n q f -> b n (g q) f")
        return state, y, collected

    @property
    def _widths(self) -> tuple[int, int]:
        """Features of z, which are those of all heads, and of xbc."""
        inner = self.heads * self.head_width
        return inner, inner + 2 * self.size

    @property
    def _heads(self) -> ssd.Heads:
        return ssd.Heads(-jnp.exp(self.a_log), self.d)

    def _project(self, x: Float[Array, "b n t f"]) -> tuple[Array, Array, Array]:
        """z and xbc (b, n, t, ...), and the steps dt (b, n, h, t)."""
        z, xbc = jnp.split(self.project(x), [self._widths[0]], axis=-1)
        dt = rearrange(nn.softplus(self.step(x)), "b n t h -> b n h t")
        return z, xbc, dt

    def _with_tail(self, state: Mamba2State, xbc: Float[Array, "b n t xbc"]) -> Float[Array, "b n m xbc"]:
        """xbc behind the ``conv - 1`` frames before it."""
        return jnp.concatenate([state.tail.astype(xbc.dtype), xbc], axis=2)

    def _inputs(self, xbc: Float[Array, "b n m xbc"], dt: Float[Array, "b n h t"]) -> ssd.Inputs:
        """What frames bring to the state; ``xbc`` begins ``conv - 1`` frames before them."""
        xbc, count = xbc.astype(self.param_dtype), dt.shape[-1]
        seen = (self.conv_kernel[i] * xbc[:, :, i : i + count] for i in range(self.conv))
        return ssd.Inputs(self._activate(sum(seen)), dt)

    def _activate(self, convolved: Float[Array, "b n t xbc"]) -> Float[Array, "b n t xbc"]:
        return silu(convolved + self.conv_bias).astype(self.dtype)

    def _output(self, y: Float[Array, "b n t h e"], z: Float[Array, "b n t f"]) -> Float[Array, "b n t d"]:
        y = rearrange(y, "b n t h e -> b n t (h e)")
        return self.out(self.norm(y * nn.silu(z.astype(self.param_dtype))))

    def _init_conv_bias(
        self, key: Key[Array, ""], shape: tuple[int], dtype: jnp.dtype
    ) -> Float[Array, "xbc"]:
        bound = self.conv**-0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)


def silu(x: Float[Array, "*b f"]) -> Float[Array, "*b f"]:
    """x sigmoid(x) as a quotient: what ends in a product, XLA repeats for every consumer, here with the convolution."""
    # Beyond 80 the gradient would overflow, and x sigmoid(x) is 0.
    return x / (1 + jnp.exp(jnp.minimum(-x, 80.0)))


def frames_at(
    z: Float[Array, "b n t f"], first: Int[Array, "b k"], count: int
) -> Float[Array, "b k n count f"]:
    """``count`` frames, from each of the ``first`` ones on."""

    def frames(z: Array, i: Int[Array, ""]) -> Array:
        return jax.lax.dynamic_slice_in_dim(z, i, count, axis=1)

    return jax.vmap(jax.vmap(frames, (None, 0)))(z, first)


def first_log_rate(key: Key[Array, ""], shape: tuple[int], dtype: jnp.dtype) -> Float[Array, "h"]:
    """The logarithm of a rate that is uniform in `FIRST_RATE`."""
    return jnp.log(jax.random.uniform(key, shape, dtype, *FIRST_RATE))


def first_step(key: Key[Array, ""], shape: tuple[int], dtype: jnp.dtype) -> Float[Array, "h"]:
    """A bias whose softplus is the first step."""
    low, high = (jnp.log(jnp.array(step, dtype)) for step in FIRST_STEP)
    step = jnp.exp(jax.random.uniform(key, shape, dtype, low, high))
    return step + jnp.log(-jnp.expm1(-step))


MIXER = Mamba2
