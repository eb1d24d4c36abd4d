"""Spatial attention within a frame and causal temporal attention within a window (paper section 4.1).

Logits are accumulated, and their softmax is taken, in at least float32: rounded to bfloat16, the logits of a trained model
would make the error of the output several times as large. (`jax.nn.dot_product_attention` gives the same numbers at the same
speed for bfloat16 and float32, and stores as much; but it takes the softmax of float64 in float32, and a model in float64 is
what exactness is tested with. Its cuDNN version, which stores less, cannot even be traced where there is no GPU.)
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from rad_jax.axes import Array, Bool, Float, Int
from rad_jax.config import ModelConfig
from rad_jax.model.rope import rotate, spatial_angles, temporal_angles

xavier = nn.initializers.xavier_uniform()


class KVCache(NamedTuple):
    """Rotated keys, and values, of the frames of a window: what a later frame of that window attends to."""

    keys: Float[Array, "*l b n h w e"]
    values: Float[Array, "*l b n h w e"]


def softmax(
    logits: Float[Array, "*b keys"], visible: Bool[Array, "*#b keys"] | None = None
) -> Float[Array, "*b keys"]:
    """Attention weights; what is not ``visible`` gets none."""
    if visible is not None:
        logits = jnp.where(visible, logits, jnp.finfo(logits.dtype).min)
    return jax.nn.softmax(logits, axis=-1)


def scaled_logits(equation: str, q: Float[Array, "..."], k: Float[Array, "..."]) -> Float[Array, "..."]:
    """``einsum(equation, q, k) / sqrt(e)``, never rounded to less than float32."""
    dtype = jnp.promote_types(q.dtype, jnp.float32)
    return jnp.einsum(equation, q, k, preferred_element_type=dtype) / math.sqrt(q.shape[-1])


class Attention(nn.Module):
    """The projections that both attentions share: three without bias into the heads, one with bias out of them."""

    config: ModelConfig

    def setup(self):
        width, types = self.config.width, {"kernel_init": xavier, **self.config.types}
        self.qkv = nn.Dense(3 * width, use_bias=False, **types)
        self.out = nn.Dense(width, **types)

    def split_heads(self, x: Float[Array, "b t n d"]) -> Float[Array, "3 b t n h e"]:
        """Queries, keys and values."""
        return rearrange(self.qkv(x), "b t n (s h e) -> s b t n h e", s=3, h=self.config.heads)

    def merge_heads(self, x: Float[Array, "b t n h e"]) -> Float[Array, "b t n d"]:
        return self.out(rearrange(x, "b t n h e -> b t n (h e)"))


class SpatialAttention(Attention):
    """Full attention over the tokens of one frame, with 2-D RoPE over its grid of rows and columns."""

    def __call__(self, x: Float[Array, "b t n d"]) -> Float[Array, "b t n d"]:
        q, k, v = self.split_heads(x)
        angles = spatial_angles(*self.config.grid, q.shape[-1])[:, None]
        q, k = rotate(q, angles), rotate(k, angles)
        logits = scaled_logits("btqhe,btkhe->bthqk", q, k)
        return self.merge_heads(jnp.einsum("bthqk,btkhe->btqhe", softmax(logits).astype(v.dtype), v))


class TemporalAttention(Attention):
    """Causal attention over the frames of a window at one token position, with RoPE relative to the window's start."""

    def __call__(self, x: Float[Array, "b t n d"], span: int) -> tuple[Float[Array, "b t n d"], KVCache]:
        """Attends within non-overlapping windows of ``span`` frames, which divides ``t``.

        Returns the output and the keys and values of all frames.
        """
        q, k, v = self.split_heads(x)
        if span == 1:  # the softmax over one key is that key's value; position 0 is not rotated
            return self.merge_heads(v), _cache(k, v)
        q, k, v = (rearrange(z, "b (g t) n h e -> (b g) n h t e", t=span) for z in (q, k, v))
        angles = temporal_angles(span, q.shape[-1])
        q, k = rotate(q, angles), rotate(k, angles)
        logits = scaled_logits("bnhqe,bnhke->bnhqk", q, k)
        causal = jnp.tril(jnp.ones((span, span), bool))
        y = jnp.einsum("bnhqk,bnhke->bnhqe", softmax(logits, causal).astype(v.dtype), v)
        windows = x.shape[1] // span
        y = rearrange(y, "(b g) n h t e -> b (g t) n h e", g=windows)
        cache = KVCache(*(rearrange(z, "(b g) n h t e -> b n h (g t) e", g=windows) for z in (k, v)))
        return self.merge_heads(y), cache

    def next_frame(
        self, x: Float[Array, "b 1 n d"], cache: KVCache, position: Int[Array, ""]
    ) -> tuple[Float[Array, "b 1 n d"], KVCache]:
        """Attends from the one frame at ``position`` of the window to itself and to the slots before it in ``cache``.

        Returns the output and the keys and values of this frame (one slot).
        """
        q, k, v = self.split_heads(x)
        # The angles of the whole window are a table, as the position is not known when this is compiled.
        angles = jnp.asarray(temporal_angles(self.config.window, q.shape[-1]))[position]
        own = _cache(rotate(k, angles), v)
        q = rearrange(rotate(q, angles), "b 1 n h e -> b n h e")
        logits = jnp.concatenate(
            [scaled_logits("bnhe,bnhwe->bnhw", q, keys) for keys in (cache.keys, own.keys)], axis=-1
        )
        slot = jnp.arange(cache.keys.shape[3] + 1)
        visible = (slot < position) | (slot == cache.keys.shape[3])
        weights = softmax(logits, visible).astype(v.dtype)
        before, now = jnp.split(weights, [cache.keys.shape[3]], axis=-1)
        y = jnp.einsum("bnhw,bnhwe->bnhe", before, cache.values) + now * own.values[:, :, :, 0]
        return self.merge_heads(y[:, None]), own


def _cache(k: Float[Array, "b t n h e"], v: Float[Array, "b t n h e"]) -> KVCache:
    return KVCache(rearrange(k, "b t n h e -> b n h t e"), rearrange(v, "b t n h e -> b n h t e"))
