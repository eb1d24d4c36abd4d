"""The Mamba2 memory (paper section 3.1), one state-space model per token with weights shared over tokens.

With ``memory.block`` there is one per block, whose tokens come one after another: read "token" for "frame" below, see
`rad_jax.model.mixers.blocks`.

    [z, xbc, dt] = input W_in;    [x, b, c] = SiLU(causal depthwise convolution of xbc);    dt = softplus(dt + bias)
    S_t = exp(-exp(a_log) dt_t) S_{t-1} + (dt_t x_t) b_t^T;    y_t = S_t c_t + d x_t
    output = RMSNorm(y * SiLU(z)) W_out

This is the layer of state-spaces/mamba with one group of b and c, d per head and the norm after the gate. Frames run in
segments, see `rad_jax.model.mixers.ssd`. The whole layer does, so that beyond inputs and outputs only the states between
segments grow with the number of frames, also in the backward pass, which redoes each segment. Steps, decays and states are at
least float32 whatever the compute dtype.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from rad_jax.arrays import fit, window_of
from rad_jax.axes import Array, Float, Int, Key
from rad_jax.model.mixers import Walk, ssd
from rad_jax.model.mixers.blocks import SequenceMixer

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


class Mamba2(SequenceMixer):
    """See the module docstring. Inside, frames come after tokens; at most ``memory.mixer_segment`` are taken at once."""

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Number of heads, their width, features of z (those of all heads), and features of xbc."""
        memory = self.config.memory
        inner = memory.expand * self.config.width
        return inner // memory.head_width, memory.head_width, inner, inner + 2 * memory.state

    def setup(self):
        config, memory, dtype = self.config, self.config.memory, self.config.state_dtype
        heads, _, inner, convolved = self.sizes
        types = {**config.types, "kernel_init": uniform}
        bound = memory.conv**-0.5
        exact = {**types, "dtype": dtype}  # a rounded step decays the state at another rate
        self.project = nn.Dense(inner + convolved, use_bias=False, **types)
        # Per token, so that a block starts with the decay that a single token has.
        self.step = nn.Dense(heads, bias_init=partial(first_step, parts=self.shared_by), **exact)
        self.conv_kernel = self.param("conv_kernel", uniform, (memory.conv, convolved), dtype)
        self.conv_bias = self.param(
            "conv_bias", partial(jax.random.uniform, minval=-bound, maxval=bound), (convolved,), dtype
        )
        self.rate = -jnp.exp(self.param("a_log", first_log_rate, (heads,), dtype))  # log decay per unit of dt
        self.d = self.param("d", nn.initializers.ones, (heads,), dtype)
        self.norm = nn.RMSNorm(EPSILON, dtype=dtype, param_dtype=dtype)
        self.out = nn.Dense(config.width, use_bias=False, **types)

    def initial_state(self, batch: int, tokens: int) -> Mamba2State:
        memory, (heads, head_width, _, convolved) = self.config.memory, self.sizes
        shapes = (memory.conv - 1, convolved), (heads, head_width, memory.state)
        lead = batch, self.sequences(tokens)
        return Mamba2State(*(jnp.zeros((*lead, *s), self.config.state_dtype) for s in shapes))

    def run_through(self, state: Mamba2State, x: Float[Array, "b t n f"]) -> Walk:
        frames, most = x.shape[1], self.config.memory.mixer_segment
        count = -(-frames // most)
        size = -(-frames // count)  # as many segments as needed, no longer than needed
        segments = rearrange(fit(count * size, x), "b (g q) n f -> g b n q f", q=size)
        lengths = jnp.minimum(frames - size * jnp.arange(count), size)

        def step(
            mixer: Mamba2, state: Mamba2State, segment: tuple[Array, Array]
        ) -> tuple[Mamba2State, tuple]:
            x, length = segment
            z, xbc, dt = mixer._project(x)
            dt = jnp.where(jnp.arange(size) < length, dt, 0)  # padding changes nothing
            frames = mixer._with_tail(state, xbc)
            new = mixer._inputs(frames, dt)
            y = mixer._output(ssd.outputs(state.s, new, mixer.rate, mixer.d), z)
            tail = jax.lax.dynamic_slice_in_dim(frames, length, mixer.config.memory.conv - 1, axis=2)
            after = Mamba2State(tail.astype(state.tail.dtype), ssd.advance(state.s, new, mixer.rate))
            return after, (y, state.s, new, xbc)

        scan = nn.scan(
            nn.remat(step, prevent_cse=False), variable_broadcast="params", split_rngs={"params": False}
        )
        last, (y, firsts, new, xbc) = scan(self, state, (segments, lengths))

        def states_at(ends: Int[Array, "b k"]) -> Mamba2State:
            ends = jnp.clip(ends, 0, frames)
            segment = jnp.maximum(ends - 1, 0) // size  # of the last frame that counts
            # From its first state once more to the end: the only states made are one per segment and one per end.
            s, inputs = jax.tree.map(lambda z: jax.vmap(lambda z, i: z[i], (1, 0))(z, segment), (firsts, new))
            counts = jnp.arange(size) < (ends - segment * size)[:, :, None, None, None]
            s = ssd.advance(s, inputs._replace(dt=jnp.where(counts, inputs.dt, 0)), self.rate)
            every = rearrange(
                self._with_tail(state, rearrange(xbc, "g b n q f -> b n (g q) f")), "b n t f -> b t n f"
            )
            tail = jax.vmap(lambda end: window_of(every, end, self.config.memory.conv - 1), 1, 1)(ends)
            tail = rearrange(tail, "b k w n f -> b k n w f")
            return Mamba2State(tail.astype(state.tail.dtype), s)

        return last, rearrange(y, "g b n q d -> b (g q) n d")[:, :frames], states_at

    def step_from(self, state: Mamba2State, x: Float[Array, "b t n f"]) -> Float[Array, "b t n d"]:
        z, xbc, dt = self._project(rearrange(x, "b t n f -> b n t f"))
        before = (state.tail * self.conv_kernel[:-1]).sum(-2, keepdims=True)
        new = ssd.Inputs(self._activate(before + self.conv_kernel[-1] * xbc), dt)
        return rearrange(self._output(ssd.read(state.s, new, self.rate, self.d), z), "b n t d -> b t n d")

    def _project(self, x: Float[Array, "b n t f"]) -> tuple[Array, Array, Array]:
        """z and xbc (b, n, t, ...), and the steps dt (b, n, h, t)."""
        z, xbc = jnp.split(self.project(x), [self.sizes[2]], axis=-1)
        dt = rearrange(nn.softplus(self.step(x)), "b n t h -> b n h t")
        return z, xbc, dt

    def _with_tail(self, state: Mamba2State, xbc: Float[Array, "b n t xbc"]) -> Float[Array, "b n m xbc"]:
        """xbc behind the ``conv - 1`` frames before it."""
        return jnp.concatenate([state.tail.astype(xbc.dtype), xbc], axis=2)

    def _inputs(self, xbc: Float[Array, "b n m xbc"], dt: Float[Array, "b n h t"]) -> ssd.Inputs:
        """What frames bring to the state; ``xbc`` begins ``conv - 1`` frames before them."""
        xbc, count = xbc.astype(self.config.state_dtype), dt.shape[-1]
        seen = (kernel * xbc[:, :, i : i + count] for i, kernel in enumerate(self.conv_kernel))
        return ssd.Inputs(self._activate(sum(seen)), dt)

    def _activate(self, convolved: Float[Array, "b n t xbc"]) -> Float[Array, "b n t xbc"]:
        return silu(convolved + self.conv_bias).astype(self.config.compute_dtype)

    def _output(self, y: Float[Array, "b n t h e"], z: Float[Array, "b n t f"]) -> Float[Array, "b n t d"]:
        y = rearrange(y, "b n t h e -> b n t (h e)")
        return self.out(self.norm(y * nn.silu(z.astype(y.dtype))))


def silu(x: Float[Array, "*b f"]) -> Float[Array, "*b f"]:
    """x sigmoid(x) as a quotient: what ends in a product, XLA repeats for every consumer, here with the convolution."""
    # Beyond 80 the gradient would overflow, and x sigmoid(x) is 0.
    return x / (1 + jnp.exp(jnp.minimum(-x, 80.0)))


def first_log_rate(key: Key[Array, ""], shape: tuple[int], dtype: jnp.dtype) -> Float[Array, "h"]:
    """The logarithm of a rate that is uniform in `FIRST_RATE`."""
    return jnp.log(jax.random.uniform(key, shape, dtype, *FIRST_RATE))


def first_step(key: Key[Array, ""], shape: tuple[int], dtype: jnp.dtype, parts: int = 1) -> Float[Array, "h"]:
    """A bias whose softplus is the first step, shared out over ``parts``."""
    low, high = (jnp.log(jnp.array(step, dtype)) for step in FIRST_STEP)
    step = jnp.exp(jax.random.uniform(key, shape, dtype, low, high)) / parts
    return step + jnp.log(-jnp.expm1(-step))


MIXER = Mamba2
