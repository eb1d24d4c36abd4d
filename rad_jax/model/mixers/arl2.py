"""The gated delta memory of ARL2 (Li, Shah and Shang 2026, arXiv 2605.16579), one state per head for a whole frame.

Every token of a frame reads the state from before the frame; then the frame is written. With the rule of ARL2, which is the
default of ``memory.rule``, this is done token after token by the gated delta rule:

    y = o(s(x Wg) * S^T q / sqrt(e))                       all tokens, from the same S
    S <- exp(gamma) S;   S <- S + k (beta (v - S^T k))^T   for each token of the frame
    gamma = -exp(A) softplus(x Wa + bias);   beta = 2 s(x Wb);   q and k of length one, rotated to their place in the frame

That a token sees nothing of its own frame here is the rule: what is in the frame is the business of spatial attention.
ARL2's feature maps and norms of q and k only mattered to a frozen teacher; they are part of the projections here.

``memory.rule=frame`` writes all tokens of a frame at once, as SANA-WM does (arXiv 2605.15178), and ``sum`` adds them up for
ever, as SANA-Video does (arXiv 2509.24695). Both have a normaliser; `rad_jax.model.mixers.linear_rules` has their equations.

    q = relu(norm(x Wq));   k = relu(norm(x Wk)) / sqrt(e n);   both rotated, but not where they meet the normaliser
    y = o(silu(x Wg + bias) * read(S, z, q))
    gamma = -exp(A) softplus(mean over the frame of x Wa + bias);   beta = s(x Wb + bias)    (frame only)

The norm is over the features of a head, of mean square 1 and without a gain, so that the keys of the n tokens of a frame have
squared lengths that sum up to at most 1, which the rule needs. The three W of the gates start at 0 and the biases such that
exp(gamma) and beta are 0.9933 and the gate is 1: ``frame`` starts close to linear attention that forgets slowly. SANA-WM has a
gate for every feature, not for every head, norms over all heads, and a convolution of the keys along time over four frames;
the last would need a second state and is left out. SANA-Video has no gate.

With ``memory.block`` there is one state for every block of rows x columns of tokens, as in block-wise state-space models (Po et
al. 2025, arXiv 2505.20171): a block is written into and reads its own state, as if it were a frame; weights are shared.

The write of a frame is an affine map of the state, S <- keep S + write, and the maps of all frames are made at once; only
their products are sequential.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat
from flax import linen as nn

from rad_jax.axes import Array, Float, Int, Key, PyTree
from rad_jax.model.mixers import Mixer, Walk, states_among
from rad_jax.model.mixers.linear_rules import RULES, LinearState, advance, maps, normalise
from rad_jax.model.mixers.mamba2 import first_log_rate, first_step
from rad_jax.model.rope import rotate, token_angles

small = nn.initializers.variance_scaling(2.0**-5, "fan_avg", "uniform")  # Xavier with ARL2's gain 2^-2.5
# Of the rules frame and sum: sigmoid(5) = exp(-softplus(-5)) = 0.9933, silu of the last is 1.
FIRST_BIAS = {"step": -5.0, "strength": 5.0, "gate": 1.2784645427610738}
GATES = {"token": ("step", "strength", "gate"), "frame": ("step", "strength", "gate"), "sum": ("gate",)}


Heads = Float[Array, "b t n h e"]


class Tokens(NamedTuple):
    """Queries, keys and values of tokens, at least float32; the bare ones are not rotated (None: no normaliser)."""

    q: Heads
    k: Heads
    v: Heads
    bare_q: Heads | None = None
    bare_k: Heads | None = None


class ARL2(Mixer):
    """See the module docstring. The state of every block of tokens and head is a `LinearState` (b, blocks, h, ...).

    Inside, every block is a video of its own, and ``n`` counts its tokens in raster order.
    """

    @property
    def rule(self) -> str:
        return self.config.memory.rule

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of the tokens that share a state."""
        return self.config.memory.block or self.config.grid

    @property
    def blocks(self) -> int:
        return self.config.tokens // math.prod(self.block)

    def setup(self):
        config, heads, dtype = self.config, self.heads, self.config.state_dtype
        names, zeros = GATES[self.rule], nn.initializers.zeros
        by_token = self.rule == "token"
        self.qkv = nn.Dense(3 * config.width, **config.types)
        start = small if by_token else zeros
        self.gates = nn.Dense(len(names) * heads, use_bias=False, kernel_init=start, **config.types)
        self.out = nn.Dense(config.width, **config.types)
        if "step" in names:
            self.rate = self.param("rate", first_log_rate if by_token else zeros, (heads,), dtype)
        if by_token:
            # Per token, so that a frame of any size starts with the decay that the delta rule's authors give one token.
            self.step = self.param("step", first_step, (heads,), dtype, math.prod(self.block))
        else:
            self.bias = self.param("bias", first_bias, (len(names), heads), dtype, names)

    def initial_state(self, batch: int, tokens: int) -> LinearState:
        e = self.config.width // self.heads
        s = jnp.zeros((batch, self.blocks, self.heads, e, e), self.config.state_dtype)
        return LinearState(s, None if self.rule == "token" else s[..., 0])

    def walk(self, state: LinearState, x: Float[Array, "b t n f"], *pose: Float[Array, "b t p"]) -> Walk:
        tokens, *gates, gate = self._project(x, *pose)
        keep, write = self._maps(tokens, *gates)
        state = jax.tree.map(lambda z: rearrange(z, "b s ... -> (b s) ..."), state)
        last, before = jax.lax.scan(lambda s, frame: (advance(s, *frame), s), state, (keep, write))
        before = jax.tree.map(lambda z: jnp.moveaxis(z, 0, 1), before)

        def states_at(ends: Int[Array, "b k"]) -> LinearState:
            # A state for every frame is affordable here: it has no axis of tokens.
            every = jax.tree.map(lambda b, s: jnp.concatenate([b[:, 1:], s[:, None]], axis=1), before, last)
            kept = states_among(every, repeat(ends, "b k -> (b s) k", s=self.blocks))
            return jax.tree.map(lambda z: rearrange(z, "(b s) k ... -> b k s ...", s=self.blocks), kept)

        after = jax.tree.map(lambda z: rearrange(z, "(b s) ... -> b s ...", s=self.blocks), last)
        return after, self._output(recall("bt", before, tokens), gate), states_at

    def read(
        self, state: LinearState, x: Float[Array, "b t n f"], *pose: Float[Array, "b t p"]
    ) -> Float[Array, "b t n d"]:
        tokens, *_, gate = self._project(x, *pose)
        state = jax.tree.map(lambda z: rearrange(z, "b s ... -> (b s) ..."), state)
        return self._output(recall("b", state, tokens), gate)

    def _project(
        self, x: Float[Array, "b t n f"], *pose: Float[Array, "b t p"]
    ) -> tuple[Tokens, Array | None, Array | None, Array]:
        """Tokens, write strength, log decay (None: the rule has none) and output gate, block by block."""
        qkv, gates = (
            layer.astype(self.config.state_dtype) for layer in (self.qkv(x), self.gates(self._split(x)))
        )
        q, k, v = rearrange(qkv, "b t n (s h e) -> s b t n h e", s=3, h=self.heads)
        gates = rearrange(gates, "b t n (s h) -> s b t n h", h=self.heads)
        return self._tokens(q, k, v, *pose), *self._gates(gates)

    def _tokens(self, q: Heads, k: Heads, v: Heads, *pose: Float[Array, "b t p"]) -> Tokens:
        """Queries (scaled), keys and values of blocks from those of frames."""
        angles = token_angles(self.config, q.shape[-1], *pose)
        if self.rule == "token":
            q, k = (unit(rotate(z, angles)) for z in (q, k))
            every = Tokens(q / np.sqrt(q.shape[-1]), k, v)
        else:
            q, k = (nn.relu(unit(z)) for z in (q, k))
            k = k / math.sqrt(math.prod(self.block))  # as one of mean square 1 over sqrt(e n)
            every = Tokens(rotate(q, angles), rotate(k, angles), v, q, k)
        return jax.tree.map(self._split, every)

    def _gates(self, logits: Float[Array, "gates b t n h"]) -> tuple[Array | None, Array | None, Array]:
        """Write strength, log decay and output gate."""
        if self.rule == "token":
            step, strength, gate = logits
            gamma = -jnp.exp(self.rate) * jax.nn.softplus(step + self.step)
            return 2 * jax.nn.sigmoid(strength), gamma, jax.nn.sigmoid(gate)
        *others, gate = logits + rearrange(self.bias, "s h -> s 1 1 1 h")
        if self.rule == "sum":
            return None, None, nn.silu(gate)
        step, strength = others
        gamma = -jnp.exp(self.rate) * jax.nn.softplus(step.mean(2, keepdims=True))  # one for the frame
        return jax.nn.sigmoid(strength), gamma, nn.silu(gate)

    def _split(self, z: Float[Array, "b t n ..."]) -> Float[Array, "m t k ..."]:
        """Blocks of tokens of ``z`` as videos of their own."""
        if self.blocks == 1:
            return z
        rows, columns = np.floor_divide(self.config.grid, self.block)
        return rearrange(z, "b t (i r j c) ... -> (b i j) t (r c) ...", i=rows, j=columns, r=self.block[0])

    def _output(self, y: Heads, gate: Float[Array, "b t n h"]) -> Float[Array, "m t k d"]:
        """Outputs of blocks, joined to frames."""
        y = self.out(rearrange(gate[..., None] * y, "b t n h e -> b t n (h e)"))
        if self.blocks == 1:
            return y
        rows, columns = np.floor_divide(self.config.grid, self.block)
        return rearrange(y, "(b i j) t (r c) d -> b t (i r j c) d", i=rows, j=columns, r=self.block[0])

    def _maps(self, tokens: Tokens, *gates: Array | None) -> tuple[LinearState, LinearState]:
        """``keep`` and ``write`` of every frame, frames first."""

        def heads_first(tree: PyTree) -> PyTree:
            return jax.tree.map(lambda z: rearrange(z, "b t n h ... -> t b h n ..."), tree)

        tokens, gates = heads_first(tokens), heads_first(gates)
        # The square matrices over tokens are made again in the backward pass.
        rule = jax.checkpoint(RULES[self.rule])
        return maps(rule, tokens.k, tokens.v, tokens.bare_k, *gates)


def recall(axes: str, state: LinearState, tokens: Tokens) -> Heads:
    """What the queries read; ``axes`` are the leading ones of the state: "b", or "bt" with one for every frame."""
    y = jnp.einsum(f"{axes}hke,btnhk->btnhe", state.s, tokens.q)
    if state.z is None:
        return y
    return normalise(y, jnp.einsum(f"{axes}hk,btnhk->btnh", state.z, tokens.bare_q))


def first_bias(
    key: Key[Array, ""], shape: tuple[int, int], dtype: jnp.dtype, names: tuple
) -> Float[Array, "i j"]:
    """The biases of the gates as they start, one row for every gate."""
    return jnp.broadcast_to(jnp.array([[FIRST_BIAS[name]] for name in names], dtype), shape)


def unit(x: Float[Array, "*b e"]) -> Float[Array, "*b e"]:
    """Vectors of length one."""
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-6)


MIXER = ARL2
