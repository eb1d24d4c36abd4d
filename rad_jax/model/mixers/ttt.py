"""The TTT-Linear memory (Sun et al. 2024, arXiv 2407.04620), one inner model per token and head with outer weights shared.

    q, k, v = linear maps of x;    lr_j = sigmoid(x_j . w + c), one per head;    c_i = max(1/i + learned_i, 0)
    inner step on frame j:  weights change by  - inner_rate c_i lr_j / e  times the gradient of 1/2 |LN(k W + b) - (v - k)|^2
    out = q + LN(q W + b), read after the frame's own step;    y = o(post norm of all heads)

i is the position of a frame in its mini-batch of ``memory.mini_batch`` frames, which share the weights at which gradients are
taken; with 1 this is plain online SGD. `rad_jax.model.mixers.inner_sgd` has the equations of the inner training. As in RAD
there is no gate and no convolution (Table 3 leaves no parameters for them). The maps have biases, which the published layer has
not, and no rotary position, which there starts anew with every mini-batch and so does nothing in those of one frame.

The state is the difference of the inner weights from their learned start, so that an empty state needs no parameters. A run
may end inside a mini-batch: then the state has the weights the mini-batch started with, the sums of its steps so far, and
its position. With mini-batches of one frame there is nothing of that.

With ``memory.block`` there is one inner model per block and head, whose tokens come one after another: read "token" for
"frame" above, see `rad_jax.model.mixers.blocks`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from rad_jax.arrays import window_of
from rad_jax.axes import Array, Bool, Float, Int
from rad_jax.model.mixers import EPSILON, Walk, inner_sgd, matmul
from rad_jax.model.mixers.blocks import SequenceMixer
from rad_jax.model.mixers.inner_sgd import Frames, Linear, Norm, add, apply, normalise, scale

small = nn.initializers.normal(0.02)
uniform = nn.initializers.lecun_uniform()  # for square maps that of Xavier, with which DiT starts


class TTTState(NamedTuple):
    """Inner models of every video and token, at least float32.

    weights: at which the open mini-batch takes its gradients, minus the learned start.
    pending: sums of k^T u and u over its frames (None in mini-batches of one frame).
    position: how many these are (b, n), the same for all tokens of a video (None likewise).
    """

    weights: Linear
    pending: Linear | None
    position: Float[Array, "b n"] | None


class TTT(SequenceMixer):
    """See the module docstring. Every head of a token is an inner model of ``e`` features."""

    @property
    def mini_batch(self) -> int:
        return self.config.memory.mini_batch

    def setup(self):
        config, heads, dtype = self.config, self.heads, self.config.state_dtype
        width, e = config.width, config.width // heads
        zeros, ones = nn.initializers.zeros, nn.initializers.ones
        types = {"kernel_init": uniform, **config.types}
        self.qkv = nn.Dense(3 * width, **types)
        self.out = nn.Dense(width, **types)
        self.post_norm = nn.LayerNorm(EPSILON, dtype, dtype, use_fast_variance=False)
        self.rate_kernel = self.param("rate_kernel", small, (width + config.memory.features, heads), dtype)
        self.rate_bias = self.param("rate_bias", zeros, (heads,), dtype)
        self.coefficient = self.param("coefficient", zeros, (self.mini_batch,), dtype)
        self.start = Linear(
            self.param("weight", small, (heads, e, e), dtype), self.param("bias", zeros, (heads, e), dtype)
        )
        self.norm = Norm(
            self.param("norm_gain", ones, (heads, e), dtype),
            self.param("norm_bias", zeros, (heads, e), dtype),
        )

    def initial_state(self, batch: int, tokens: int) -> TTTState:
        e, dtype = self.config.width // self.heads, self.config.state_dtype
        lead = batch, self.sequences(tokens)
        weights = jnp.zeros((*lead, self.heads, e, e), dtype)
        zeros = Linear(weights, weights[..., 0])
        if self.mini_batch == 1:
            return TTTState(zeros, None, None)
        return TTTState(zeros, zeros, jnp.zeros(lead, dtype))

    def run_through(self, state: TTTState, x: Float[Array, "b t n f"]) -> Walk:
        y, keys, u = self._train(state, x)

        def state_after(end: Int[Array, "b"]) -> TTTState:
            return self._state_after(state, keys, u, end)

        def states_at(ends: Int[Array, "b k"]) -> TTTState:
            # One end after another, each recomputed in the backward pass: every one masks a copy of all frames.
            states = jax.lax.map(jax.checkpoint(state_after), ends.T)
            return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), states)

        return state_after(jnp.full(x.shape[0], x.shape[1])), y, states_at

    def step_from(self, state: TTTState, x: Float[Array, "b t n f"]) -> Float[Array, "b t n d"]:
        q, k, v, rate = self._project(x)
        q, k, v = (rearrange(z, "b t n h e -> b n h t e") for z in (q, k, v))
        frames = self._frames(q, k, v, rearrange(rate, "b t n h -> b n h t"))
        read, u = inner_sgd.evaluate(state.weights, frames, self.norm)
        own = (q.astype(u.dtype) * k.astype(u.dtype)).sum(-1, keepdims=True) + 1
        step = own * u
        if state.pending is not None:
            step = step + apply(state.pending, q)
        read = read - self._coefficient(self._position(state))[:, None, None, None, None] * step
        return self._output(rearrange(q + normalise(read, self.norm), "b n h t e -> b t n (h e)"))

    def _train(
        self, state: TTTState, x: Float[Array, "b t n f"]
    ) -> tuple[Float[Array, "b t n d"], Float[Array, "b n h r e"], Float[Array, "b n h r e"]]:
        """Outputs, and keys and ``u`` of all frames in the rows (b n h r e) of a grid of whole mini-batches."""
        length, size, segment = x.shape[1], self.mini_batch, self.config.memory.mixer_segment
        position = self._position(state)
        inputs = (*self._project(x), self._coefficient(position[:, None] + jnp.arange(length)))
        if size > 1:  # videos may be at different positions of their mini-batches
            rows = -(-(length + size - 1) // size) * size
            offset = position.astype(jnp.int32)
            inputs = (shift_into(z, offset, rows) for z in inputs)
        q, k, v, rate, coefficient = inputs
        q, k, v = (rearrange(z, "b (g i) n h e -> g b n h i e", i=size) for z in (q, k, v))
        frames = self._frames(q, k, v, rearrange(rate, "b (g i) n h -> g b n h i", i=size))
        coefficient = rearrange(coefficient, "b (g i) -> g b 1 1 i", i=size)
        products = jnp.einsum("...ie,...je->...ij", q, k, preferred_element_type=rate.dtype)
        coupling = coefficient[..., None] * jnp.tril(products + 1)
        last, weights = self._last(), state.weights
        if state.pending is not None:
            # Their step is taken at once, and taken back where the frames that complete the mini-batch read.
            weights = add(weights, scale(state.pending, jnp.full_like(position, -last)))
            factor = jnp.concatenate([jnp.full_like(coefficient[0], last), last - coefficient[0]], axis=-1)
            back = factor[..., None] * apply(state.pending, frames.tokens[0])
            frames = frames._replace(base=frames.base.at[0].add(back))
        read, u = inner_sgd.train(weights, frames, coupling, self.norm, last, max(1, segment // size))
        y = rearrange(q + normalise(read, self.norm), "g b n h i e -> b (g i) n (h e)")
        if size > 1:
            y = window_of(y, offset, length)
        k, u = (rearrange(z, "g b n h i e -> b n h (g i) e") for z in (k, u))
        return self._output(y), k, u

    def _state_after(
        self,
        state: TTTState,
        keys: Float[Array, "b n h r e"],
        u: Float[Array, "b n h r e"],
        count: Int[Array, "b"],
    ) -> TTTState:
        """The state after the first ``count`` frames, in one product of keys and ``u`` instead of a copy per frame."""
        end = self._position(state).astype(jnp.int32) + count
        begin = end // self.mini_batch * self.mini_batch  # of the open mini-batch
        row = jnp.arange(u.shape[-2])

        def steps(here: Bool[Array, "b r"], factor: Array | int = 1) -> Linear:
            return inner_sgd.written(keys, factor * jnp.where(here[:, None, None, :, None], u, 0))

        weights = add(state.weights, steps(row < begin[:, None], -self._last()))
        if state.pending is None:
            return TTTState(weights, None, None)
        complete = begin > 0
        weights = add(weights, scale(state.pending, jnp.where(complete, -self._last(), 0)))
        pending = scale(state.pending, jnp.where(complete, 0, 1).astype(u.dtype))
        pending = add(pending, steps((begin[:, None] <= row) & (row < end[:, None])))
        position = jnp.broadcast_to((end - begin)[:, None], state.position.shape)
        return TTTState(weights, pending, position.astype(u.dtype))

    def _project(self, x: Float[Array, "b t n f"]) -> tuple[Array, Array, Array, Array]:
        """Queries, keys and values (b t n h e) in the compute dtype, and the rates (b t n h) of inner steps."""
        q, k, v = rearrange(self.qkv(x), "b t n (s h e) -> s b t n h e", s=3, h=self.heads)
        logits = matmul(x, self.rate_kernel, self.config.compute_dtype)
        rate = self.config.memory.inner_rate / q.shape[-1] * jax.nn.sigmoid(logits + self.rate_bias)
        return q, k, v, rate

    def _frames(
        self,
        q: Float[Array, "*g b n h i e"],
        k: Float[Array, "*g b n h i e"],
        v: Float[Array, "*g b n h i e"],
        rate: Float[Array, "*g b n h i"],
    ) -> Frames:
        """What the inner training needs of the frames; nothing of it depends on the state."""
        tokens = jnp.concatenate([k, q], axis=-2)
        base = jax.vmap(apply, (0, -3), -3)(self.start, tokens)  # over heads
        return Frames(tokens, base, v.astype(rate.dtype) - k.astype(rate.dtype), rate)

    def _position(self, state: TTTState) -> Float[Array, "b"]:
        """Frames in the open mini-batch of each video (b,)."""
        if state.position is None:
            return jnp.zeros(state.weights.bias.shape[0], state.weights.bias.dtype)
        return state.position[:, 0]

    def _coefficient(self, position: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """c_i of a frame that follows ``position`` frames, counted from the start of any mini-batch."""
        position = position % self.mini_batch
        return jnp.maximum(1 / (position + 1) + self.coefficient[position.astype(jnp.int32)], 0)

    def _last(self) -> Float[Array, ""]:
        """c of the last frame of a mini-batch, which decides how far its steps go."""
        return self._coefficient(jnp.asarray(self.mini_batch - 1, self.coefficient.dtype))

    def _output(self, y: Float[Array, "b t n d"]) -> Float[Array, "b t n d"]:
        return self.out(self.post_norm(y))


def shift_into(z: Float[Array, "b t ..."], offset: Int[Array, "b"], rows: int) -> Float[Array, "b r ..."]:
    """``rows`` rows with the frames of video ``b`` from row ``offset[b]`` on, and zeros."""

    def shift(z: Array, offset: Int[Array, ""]) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(jnp.zeros((rows, *z.shape[1:]), z.dtype), z, offset, 0)

    return jax.vmap(shift)(z, offset)


MIXER = TTT
