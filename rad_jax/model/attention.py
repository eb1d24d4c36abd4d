"""Spatial attention within a frame and causal temporal attention within a window (paper section 4.1)."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from rad_jax.axes import Array, Bool, Float, Int
from rad_jax.model.rope import rotate, spatial_angles, temporal_angles

xavier = nn.initializers.xavier_uniform()


class Past(NamedTuple):
    """Rotated keys, and values, of the clean frames of a window: what a new frame of that window attends to."""

    keys: Float[Array, "b n h w e"]
    values: Float[Array, "b n h w e"]


def softmax(
    logits: Float[Array, "*b keys"], visible: Bool[Array, "*#b keys"] | None = None
) -> Float[Array, "*b keys"]:
    """Attention weights, computed in at least float32."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if visible is not None:
        logits = jnp.where(visible, logits, jnp.finfo(logits.dtype).min)
    return jax.nn.softmax(logits, axis=-1)


class Attention(nn.Module):
    """The projections that both attentions share: three without bias into the heads, one with bias out of them."""

    width: int
    heads: int
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    def setup(self):
        def dense(width, **kwargs):
            return nn.Dense(
                width, kernel_init=xavier, dtype=self.dtype, param_dtype=self.param_dtype, **kwargs
            )

        self.qkv = dense(3 * self.width, use_bias=False)
        self.out = dense(self.width)

    def split(self, x: Float[Array, "b t n d"]) -> Float[Array, "3 b t n h e"]:
        return rearrange(self.qkv(x), "b t n (s h e) -> s b t n h e", s=3, h=self.heads)

    def merge(self, x: Float[Array, "b t n h e"]) -> Float[Array, "b t n d"]:
        return self.out(rearrange(x, "b t n h e -> b t n (h e)"))


class SpatialAttention(Attention):
    """Full attention over the tokens of one frame, with 2-D RoPE over its ``grid`` (rows, columns)."""

    grid: tuple[int, int]

    def __call__(self, x: Float[Array, "b t n d"]) -> Float[Array, "b t n d"]:
        q, k, v = self.split(x)
        angles = spatial_angles(*self.grid, q.shape[-1])[:, None]
        q, k = rotate(q, angles), rotate(k, angles)
        logits = jnp.einsum("btqhe,btkhe->bthqk", q, k) / math.sqrt(q.shape[-1])
        return self.merge(jnp.einsum("bthqk,btkhe->btqhe", softmax(logits).astype(v.dtype), v))


class TemporalAttention(Attention):
    """Causal attention over the frames of a window at one token position, with RoPE relative to the window's start."""

    window: int

    def __call__(self, x: Float[Array, "b t n d"], span: int) -> tuple[Float[Array, "b t n d"], Past]:
        """Attends within non-overlapping windows of ``span`` frames, which divides ``t``.

        Returns the output and the keys and values of all frames.
        """
        q, k, v = self.split(x)
        if span == 1:  # the softmax over one key is that key's value; position 0 is not rotated
            return self.merge(v), _past(k, v)
        q, k, v = (rearrange(part, "b (g t) n h e -> (b g) n h t e", t=span) for part in (q, k, v))
        angles = temporal_angles(span, q.shape[-1])
        q, k = rotate(q, angles), rotate(k, angles)
        logits = jnp.einsum("bnhqe,bnhke->bnhqk", q, k) / math.sqrt(q.shape[-1])
        causal = jnp.tril(jnp.ones((span, span), bool))
        y = jnp.einsum("bnhqk,bnhke->bnhqe", softmax(logits, causal).astype(v.dtype), v)
        windows = x.shape[1] // span
        y = rearrange(y, "(b g) n h t e -> b (g t) n h e", g=windows)
        past = Past(*(rearrange(part, "(b g) n h t e -> b n h (g t) e", g=windows) for part in (k, v)))
        return self.merge(y), past

    def after(
        self, x: Float[Array, "b 1 n d"], past: Past, position: Int[Array, ""]
    ) -> tuple[Float[Array, "b 1 n d"], Past]:
        """Attends from the one frame at ``position`` of the window to itself and to the slots before it in ``past``.

        Returns the output and the keys and values of this frame (one slot).
        """
        q, k, v = self.split(x)
        angles = jnp.asarray(temporal_angles(self.window, q.shape[-1]))[position]
        own = _past(rotate(k, angles), v)
        q = rearrange(rotate(q, angles), "b 1 n h e -> b n h e")
        logits = jnp.concatenate(
            [jnp.einsum("bnhe,bnhwe->bnhw", q, keys) for keys in (past.keys, own.keys)], axis=-1
        )
        slot = jnp.arange(past.keys.shape[3] + 1)
        visible = (slot < position) | (slot == past.keys.shape[3])
        weights = softmax(logits / math.sqrt(q.shape[-1]), visible).astype(v.dtype)
        before, now = jnp.split(weights, [past.keys.shape[3]], axis=-1)
        y = jnp.einsum("bnhw,bnhwe->bnhe", before, past.values) + now * own.values[:, :, :, 0]
        return self.merge(y[:, None]), own


def _past(k: Float[Array, "b t n h e"], v: Float[Array, "b t n h e"]) -> Past:
    return Past(rearrange(k, "b t n h e -> b n h t e"), rearrange(v, "b t n h e -> b n h t e"))
