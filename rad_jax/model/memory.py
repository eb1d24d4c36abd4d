"""The recurrent branch of a block: the memory of everything older than the attention window (paper section 4.1)."""

import jax.numpy as jnp
from flax import linen as nn

from rad_jax.axes import Array, Float, Int, PyTree
from rad_jax.config import ModelConfig
from rad_jax.model import mixers
from rad_jax.model.adaln import Modulation, modulate


class MemoryBranch(nn.Module):
    """``x + gate * mixer([modulated LN(x), action feature])`` with a state that comes in and goes out.

    The action feature is a narrow projection of the condition ``c`` (paper section 6.1); Table 4 leaves it out.
    Shift, scale and gate are linear in ``c`` and start at zero, the gate at ``gate_init``: with 0 a pretrained model
    with a fresh memory is exactly itself.
    """

    config: ModelConfig

    def setup(self):
        config, memory = self.config, self.config.memory
        types = {"dtype": config.compute_dtype, "param_dtype": config.state_dtype}
        self.modulation = Modulation(3, config.width, (0.0, 0.0, memory.gate_init), **types)
        if memory.features:
            self.action = nn.Dense(memory.features, **types)
        self.mixer = mixers.build(config)

    def __call__(
        self,
        x: Float[Array, "b t n d"],
        c: Float[Array, "b t d"],
        state: PyTree,
        shared: bool,
        ends: Int[Array, "b k"] | None,
    ) -> tuple[Float[Array, "b t n d"], PyTree, PyTree | None]:
        """Applies the branch to ``t`` frames.

        Args:
          c: the condition of every frame.
          state: the mixer's state before the first frame.
          shared: every frame reads ``state`` and none changes it; otherwise the mixer runs through the frames.
          ends: numbers of frames (1..t) after which the state is wanted; with ``shared`` only 1 is possible.

        Returns:
          The output, the state for the frame that follows (``state`` itself if shared), and the states after the first
          ``ends`` frames with axes (b, k, ...), None if none are wanted.
        """
        shift, scale, gate = self.modulation(c)
        z = modulate(x, shift, scale)
        if self.config.memory.features:
            feature = self.action(nn.silu(c))[
                :, :, None
            ]  # (b, t, 1, features): the same for all tokens of a frame
            z = jnp.concatenate([z, jnp.broadcast_to(feature, (*z.shape[:3], feature.shape[-1]))], axis=-1)
        states = None
        if shared:
            y = self.mixer.read(state, z)
            if ends is not None:
                # A shared window slides by one frame, and that frame alone enters the memory.
                _, _, states = self.mixer.run_with_states(state, z[:, :1], ends)
        elif ends is None:
            state, y = self.mixer.run(state, z)
        else:
            state, y, states = self.mixer.run_with_states(state, z, ends)
        return x + gate[:, :, None] * y, state, states
