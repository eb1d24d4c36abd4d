"""Adaptive layer normalisation: how a frame's level and action reach every part of a block."""

import jax.numpy as jnp
from flax import linen as nn

from rad_jax.axes import Array, Float, Key


class Modulation(nn.Module):
    """``chunks`` vectors (b, t, d) that are linear in SiLU(c); their weights start at zero, their biases at ``start``."""

    chunks: int
    width: int
    start: tuple[float, ...]
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(self, c: Float[Array, "b t d"]) -> tuple[Float[Array, "b t d"], ...]:
        def bias(_: Key[Array, ""], shape: tuple[int], dtype: jnp.dtype) -> Float[Array, "f"]:
            return jnp.repeat(jnp.array(self.start, dtype), self.width).reshape(shape)

        dense = nn.Dense(
            self.chunks * self.width,
            kernel_init=nn.initializers.zeros,
            bias_init=bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        return tuple(jnp.split(dense(nn.silu(c)), self.chunks, axis=-1))


def modulate(
    x: Float[Array, "b t n d"],
    shift: Float[Array, "b t d"],
    scale: Float[Array, "b t d"],
    epsilon: float = 1e-6,
) -> Float[Array, "b t n d"]:
    """Layer norm without parameters, then scaled by ``1 + scale`` and shifted, per frame.

    Statistics are in at least float32, the result in the dtype of ``x``.
    """
    z = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    z = z - z.mean(-1, keepdims=True)
    z = z / jnp.sqrt(jnp.square(z).mean(-1, keepdims=True) + epsilon)
    return z.astype(x.dtype) * (1 + scale[:, :, None]) + shift[:, :, None]
