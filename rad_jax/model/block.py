"""One block: spatial attention, temporal attention, memory (the order of the paper's Figure 2).

    x = x + gate * spatial_attention(modulate(x));   x = x + gate * MLP(modulate(x))     tokens of one frame
    x = x + gate * temporal_attention(modulate(x));  x = x + gate * MLP(modulate(x))     frames of one window
    x = x + gate * mixer([modulate(x), action feature], state or tape)                   everything older

Every line has shifts, scales and gates of its own (`Modulation`), linear in SiLU of the condition ``c`` (b, t, d) of the
frame: the embedded diffusion level plus the embedded action.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from rad_jax.axes import Array, Bool, Float, Int, PyTree
from rad_jax.config import ModelConfig
from rad_jax.model import mixers
from rad_jax.model.addressing import Reading
from rad_jax.model.attention import KVCache, SpatialAttention, TemporalAttention, xavier

EPSILON = 1e-6  # of the layer norms
LEVEL_WAVES = 128


def level_waves(levels: Int[Array, "b t"], dtype: np.dtype) -> Float[Array, "b t f"]:
    """Cosines, then sines, of every frame's diffusion level.

    1 .. 1/10,000 radians per level, float32 with the rounding of the Oasis program: levels multiply it by up to 999.
    """
    exponents = (
        np.float32(-np.log(10_000.0)) * np.arange(LEVEL_WAVES, dtype=np.float32) / np.float32(LEVEL_WAVES)
    )
    frequencies = np.exp(exponents.astype(np.float64)).astype(np.float32)
    angle = levels[..., None].astype(dtype) * jnp.asarray(frequencies, dtype)
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


class Modulation(nn.Module):
    """Vectors (b, t, 1, d), one per entry of ``start``, linear in SiLU(c); weights start at zero, biases at ``start``."""

    config: ModelConfig
    start: tuple[float, ...]

    @nn.compact
    def __call__(self, c: Float[Array, "b t d"]) -> tuple[Float[Array, "b t 1 d"], ...]:
        width, count, dtype = self.config.width, len(self.start), self.config.state_dtype
        first = {
            "kernel_init": nn.initializers.zeros,
            "bias_init": lambda *_: jnp.repeat(jnp.array(self.start, dtype), width),
        }
        dense = nn.Dense(count * width, **first, **self.config.types)
        return tuple(jnp.split(dense(nn.silu(c))[:, :, None], count, axis=-1))


def modulate(
    x: Float[Array, "b t n d"],
    shift: Float[Array, "b t 1 d"],
    scale: Float[Array, "b t 1 d"],
) -> Float[Array, "b t n d"]:
    """Layer norm without parameters, then scaled by ``1 + scale`` and shifted, per frame.

    Statistics are in at least float32, the result in the dtype of ``x``.
    """
    z = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    z = z - z.mean(-1, keepdims=True)
    z = z / jnp.sqrt(jnp.square(z).mean(-1, keepdims=True) + EPSILON)
    return z.astype(x.dtype) * (1 + scale) + shift


class MLP(nn.Module):
    """Two layers with the tanh form of GELU between them."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[Array, "b t n d"]) -> Float[Array, "b t n d"]:
        width, types = self.config.width, {"kernel_init": xavier, **self.config.types}
        hidden = int(self.config.mlp_ratio * width)
        return nn.Dense(width, **types)(nn.gelu(nn.Dense(hidden, **types)(x)))


class MemoryBranch(nn.Module):
    """The recurrent branch: ``x + gate * mixer([modulate(x), action feature])``, with a state that comes in and goes out.

    The action feature is a narrow projection of SiLU(c) (paper section 6.1); Table 4 leaves it out. The gate starts at
    ``gate_init``: with 0 a pretrained model with a fresh memory is exactly itself.
    """

    config: ModelConfig

    def setup(self):
        memory = self.config.memory
        self.modulation = Modulation(self.config, (0.0, 0.0, memory.gate_init))
        if memory.features:
            self.action = nn.Dense(memory.features, **self.config.types)
        self.mixer = mixers.build(self.config)

    def __call__(
        self,
        x: Float[Array, "b t n d"],
        c: Float[Array, "b t d"],
        state: PyTree,
        shared: bool,
        ends: Int[Array, "b k"] | None = None,
        pose: Float[Array, "b t p"] | None = None,
        tape: PyTree = (),
        reading: Reading | None = None,
        records: int = 0,
        reads: Bool[Array, ""] | None = None,
    ) -> tuple[Float[Array, "b t n d"], PyTree, PyTree | None, PyTree]:
        """As `Block`: the output, the state after all frames, the states after the first ``ends`` ones, and the tape."""
        shift, scale, gate = self.modulation(c)
        z = modulate(x, shift, scale)
        if self.config.memory.features:
            feature = self.action(nn.silu(c))[:, :, None]  # the same for all tokens of a frame
            z = jnp.concatenate([z, jnp.broadcast_to(feature, (*z.shape[:3], feature.shape[-1]))], axis=-1)
        if self.config.memory.has_tape:
            grown = tape
            if records:
                new = self.mixer.record(z[:, :records])
                grown = jax.tree.map(lambda old, new: jnp.concatenate([old, new], axis=1), tape, new)
            # A shared window reads what was there before it: with its own records the tape would be one per window.
            read = tape if shared else grown

            def reader(branch: MemoryBranch, x: Array) -> Array:
                return x + gate * branch.mixer.attend(read, reading, z)

            if reads is None:
                x = reader(self, x)
            else:
                x = nn.cond(reads, reader, lambda branch, x: x, self, x)
            return x, state, None if ends is None else state, grown
        states, where = None, () if pose is None else (pose,)
        if shared:
            y = self.mixer.read(state, z, *where)
            if ends is not None:
                # A shared window slides by one frame, and that frame alone enters the memory.
                first = jax.tree.map(lambda frames: frames[:, :1], where)
                _, _, states = self.mixer.run_with_states(state, z[:, :1], ends, *first)
        elif ends is None:
            state, y = self.mixer.run(state, z, *where)
        else:
            state, y, states = self.mixer.run_with_states(state, z, ends, *where)
        return x + gate * y, state, states, tape


class Block(nn.Module):
    """See the module docstring."""

    config: ModelConfig

    def setup(self):
        config, zeros = self.config, (0.0,) * 6
        self.spatial_modulation = Modulation(config, zeros)
        self.spatial_attention = SpatialAttention(config)
        self.spatial_mlp = MLP(config)
        self.temporal_modulation = Modulation(config, zeros)
        self.temporal_attention = TemporalAttention(config)
        self.temporal_mlp = MLP(config)
        if config.memory.kind != "none":
            self.memory = MemoryBranch(config)

    def __call__(
        self,
        x: Float[Array, "b t n d"],
        c: Float[Array, "b t d"],
        state: PyTree,
        cache: KVCache | None = None,
        *,
        span: int = 1,
        position: Int[Array, ""] | None = None,
        shared: bool,
        ends: Int[Array, "b k"] | None = None,
        pose: Float[Array, "b t p"] | None = None,
        tape: PyTree = (),
        reading: Reading | None = None,
        records: int = 0,
        reads: Bool[Array, ""] | None = None,
    ) -> tuple[Float[Array, "b t n d"], PyTree, PyTree | None, PyTree, KVCache]:
        """Applies the block to whole windows of frames, or to one frame that follows others of its window.

        Args:
          c: the condition of every frame.
          state: of the memory, before the first frame.
          cache: None for whole windows; else the keys and values of the window's earlier frames.
          span: frames of a window; divides ``t``.
          position: with ``cache``, the place in the window of the one frame in ``x``.
          shared: every frame reads ``state``; otherwise the memory runs through the frames.
          ends: numbers of frames, 1..t, after which the memory's state is wanted (of others, an arbitrary but finite one); if
            shared, only 1 is possible.
          pose: of every frame, for a memory that is given it (``memory.posed``); else None.
          tape: of a bank, the records of earlier frames (b, s, ...).
          reading: of a bank, which records every frame reads.
          records: of a bank, how many of the first frames leave a record, which the frames can read.
          reads: of a bank, whether the frames read at all; None: they do.

        Returns:
          The output, the state after all frames (``state`` itself if shared), the states after the first ``ends`` frames
          with axes (b, k, ...) (None if none are wanted), the tape with the new records behind the old ones, and the keys and
          values of the frames in ``x``.
        """
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.spatial_modulation(c)
        x = x + gate * self.spatial_attention(modulate(x, shift, scale))
        x = x + mlp_gate * self.spatial_mlp(modulate(x, mlp_shift, mlp_scale))

        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.temporal_modulation(c)
        z = modulate(x, shift, scale)
        if cache is None:
            y, own = self.temporal_attention(z, span)
        else:
            y, own = self.temporal_attention.next_frame(z, cache, position)
        x = x + gate * y
        x = x + mlp_gate * self.temporal_mlp(modulate(x, mlp_shift, mlp_scale))

        if self.config.memory.kind == "none":
            return x, state, None if ends is None else state, tape, own
        return *self.memory(x, c, state, shared, ends, pose, tape, reading, records, reads), own
