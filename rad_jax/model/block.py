"""One block: spatial attention, temporal attention, memory (the order of the paper's Figure 2).

    x = x + gate * spatial_attention(modulate(LN(x)));   x = x + gate * MLP(modulate(LN(x)))     tokens of one frame
    x = x + gate * temporal_attention(modulate(LN(x)));  x = x + gate * MLP(modulate(LN(x)))     frames of one window
    x = x + gate * memory(modulate(LN(x)), state)                                                everything older

Every line has shifts, scales and gates of its own, linear in the condition ``c`` (b, t, d) of the frame: the embedded
diffusion level plus the embedded action.
"""

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn

from rad_jax.axes import Array, Float, Int, PyTree
from rad_jax.config import ModelConfig
from rad_jax.model.adaln import Modulation, modulate
from rad_jax.model.attention import KVCache, SpatialAttention, TemporalAttention, xavier
from rad_jax.model.memory import MemoryBranch


class MLP(nn.Module):
    """Two layers with the tanh form of GELU between them."""

    width: int
    hidden: int
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b t n d"]) -> Float[Array, "b t n d"]:
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype, "kernel_init": xavier}
        return nn.Dense(self.width, **types)(nn.gelu(nn.Dense(self.hidden, **types)(x)))


class Block(nn.Module):
    """See the module docstring."""

    config: ModelConfig

    def setup(self):
        config = self.config
        types = {"dtype": config.compute_dtype, "param_dtype": config.state_dtype}
        heads = {"width": config.width, "heads": config.heads, **types}
        hidden = int(config.mlp_ratio * config.width)
        self.spatial_modulation = Modulation(6, config.width, (0.0,) * 6, **types)
        self.spatial_attention = SpatialAttention(grid=config.grid, **heads)
        self.spatial_mlp = MLP(config.width, hidden, **types)
        self.temporal_modulation = Modulation(6, config.width, (0.0,) * 6, **types)
        self.temporal_attention = TemporalAttention(window=config.window, **heads)
        self.temporal_mlp = MLP(config.width, hidden, **types)
        if config.memory.kind != "none":
            self.memory = MemoryBranch(config)

    def __call__(
        self,
        x: Float[Array, "b t n d"],
        c: Float[Array, "b t d"],
        state: PyTree,
        *,
        span: int,
        shared: bool,
        ends: Int[Array, "b k"] | None = None,
    ) -> tuple[Float[Array, "b t n d"], PyTree, PyTree | None, KVCache]:
        """Applies the block to ``t`` frames.

        Args:
          c: the condition of every frame.
          state: of the memory, before the first frame.
          span: frames of an attention window; divides ``t``.
          shared: every frame reads ``state``; otherwise the memory runs through the frames.
          ends: numbers of frames, 1..t, after which the memory's state is wanted.

        Returns:
          The output, the state after all frames (``state`` itself if shared), the states after the first ``ends`` frames
          with axes (b, k, ...), and the keys and values of the frames.
        """
        x = self._spatial(x, c)
        x, cache = self._temporal(x, c, lambda z: self.temporal_attention(z, span))
        x, state, states = self._memory(x, c, state, shared, ends)
        return x, state, states, cache

    def next_frame(
        self,
        x: Float[Array, "b 1 n d"],
        c: Float[Array, "b 1 d"],
        state: PyTree,
        cache: KVCache,
        position: Int[Array, ""],
        *,
        shared: bool,
    ) -> tuple[Float[Array, "b 1 n d"], PyTree, KVCache]:
        """Applies the block to the one frame at ``position`` of a window whose earlier frames are in ``cache`` and ``state``.

        Returns the output, the state after the frame (unchanged if shared), and the frame's own keys and values.
        """
        x = self._spatial(x, c)
        x, own = self._temporal(x, c, lambda z: self.temporal_attention.next_frame(z, cache, position))
        x, state, _ = self._memory(x, c, state, shared, None)
        return x, state, own

    def _spatial(self, x: Float[Array, "b t n d"], c: Float[Array, "b t d"]) -> Float[Array, "b t n d"]:
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.spatial_modulation(c)
        x = x + gate[:, :, None] * self.spatial_attention(modulate(x, shift, scale))
        return x + mlp_gate[:, :, None] * self.spatial_mlp(modulate(x, mlp_shift, mlp_scale))

    def _temporal(
        self,
        x: Float[Array, "b t n d"],
        c: Float[Array, "b t d"],
        attend: Callable[[Array], tuple[Array, KVCache]],
    ) -> tuple[Float[Array, "b t n d"], KVCache]:
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.temporal_modulation(c)
        y, cache = attend(modulate(x, shift, scale))
        x = x + gate[:, :, None] * y
        return x + mlp_gate[:, :, None] * self.temporal_mlp(modulate(x, mlp_shift, mlp_scale)), cache

    def _memory(
        self,
        x: Float[Array, "b t n d"],
        c: Float[Array, "b t d"],
        state: PyTree,
        shared: bool,
        ends: Int[Array, "b k"] | None,
    ) -> tuple[Float[Array, "b t n d"], PyTree, PyTree | None]:
        if self.config.memory.kind == "none":
            return x, state, None if ends is None else state
        return self.memory(x, c, state, shared, ends)
