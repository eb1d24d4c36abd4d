"""One block: spatial attention, temporal attention, memory (the order of the paper's Figure 2)."""

import jax.numpy as jnp
from flax import linen as nn

from rad_jax.axes import Array, Float, Int, PyTree
from rad_jax.config import ModelConfig
from rad_jax.model.adaln import Modulation, modulate
from rad_jax.model.attention import Past, SpatialAttention, TemporalAttention, xavier
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
    """Every part is a residual with its own shift, scale and gate from the condition ``c``."""

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
        stops: Int[Array, "b k"] | None = None,
    ) -> tuple[Float[Array, "b t n d"], PyTree, PyTree | None, Past]:
        """Applies the block to ``t`` frames, in attention windows of ``span`` frames.

        ``shared`` and ``stops`` are those of `MemoryBranch`. Returns the output, the state after the frames, the states at
        ``stops``, and the keys and values of the frames.
        """
        x = self._spatial(x, c)
        x, past = self._temporal(x, c, lambda z: self.temporal_attention(z, span))
        x, state, kept = self._remember(x, c, state, shared, stops)
        return x, state, kept, past

    def after(
        self,
        x: Float[Array, "b 1 n d"],
        c: Float[Array, "b 1 d"],
        state: PyTree,
        past: Past,
        position: Int[Array, ""],
        *,
        shared: bool,
    ) -> tuple[Float[Array, "b 1 n d"], PyTree, Past]:
        """Applies the block to the one frame at ``position`` of a window whose earlier frames are in ``past`` and ``state``.

        Returns the output, the state after the frame (unchanged if shared), and the frame's own keys and values.
        """
        x = self._spatial(x, c)
        x, own = self._temporal(x, c, lambda z: self.temporal_attention.after(z, past, position))
        x, state, _ = self._remember(x, c, state, shared, None)
        return x, state, own

    def _spatial(self, x, c):
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.spatial_modulation(c)
        x = x + gate[:, :, None] * self.spatial_attention(modulate(x, shift, scale))
        return x + mlp_gate[:, :, None] * self.spatial_mlp(modulate(x, mlp_shift, mlp_scale))

    def _temporal(self, x, c, attend):
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.temporal_modulation(c)
        y, past = attend(modulate(x, shift, scale))
        x = x + gate[:, :, None] * y
        return x + mlp_gate[:, :, None] * self.temporal_mlp(modulate(x, mlp_shift, mlp_scale)), past

    def _remember(self, x, c, state, shared, stops):
        if self.config.memory.kind == "none":
            return x, state, None if stops is None else state
        return self.memory(x, c, state, shared, stops)
