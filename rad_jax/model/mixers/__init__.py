"""The memories of RAD: alternatives of one another behind one contract.

A mixer is a Linen module in a file of its own, a `Mixer`, that carries a state through time. ``x`` holds the ``f`` input
features of a token: those of the model, then the ``config.memory.features`` of the action feature (there may be none).
``y`` has the model's width ``d``. A mixer of tokens runs on its own for every token of a frame, with the
same weights, as those of the paper do; a mixer of frames (ARL2) has one state for the whole frame, and every token reads the
state from before the frame. States, gates and decays are at least float32, whatever the compute dtype. All methods are pure:

    initial_state(batch, tokens)      -> state               a pytree, batch axis first, that remembers nothing
    run(state, x)                     -> (state, y)          frame after frame, for any number of frames t >= 1
    run_with_states(state, x, ends)   -> (state, y, states)  the same, and the states after the first ends[b, k] frames of x,
                                                             with axes (b, k, ...); an end outside 1..t gives an arbitrary
                                                             but finite state
    read(state, x)                    -> y                   every frame takes one step from the same state; nothing is kept

Three equations hold exactly: ``run(x[:, :i])`` followed by ``run(x[:, i:])`` is ``run(x)``; ``run_with_states`` gives the
states of such prefixes; and ``read(state, x)[:, i]`` is the output of ``run(state, x[:, i:i+1])``. An output depends on no
later frame. `tests/model/mixers/contract.py` checks all of this for every memory.

Adding a memory is one file here, named after the memory, whose ``MIXER`` is the class, and one line in
`rad_jax.config.memories`; `docs/examples/ema_memory.py` is a complete one. It writes ``initial_state``, ``read`` and

    walk(state, x)                    -> (state, y, states_at)   ``states_at(ends)`` makes the states of `run_with_states`

from which `Mixer` makes the two ways to run: states that nobody asks for are never made.

With ``memory.rotate`` other than "frame", all four have one more argument, the pose of every frame (b, t, p): weighted scaled
positions, then cosine and sine of the heading, in the precision of states.

A memory that keeps frames themselves (`rad_jax.config.memories.FRAME_WISE`) has an empty state, and in place of running

    empty_tape(batch, tokens, records) -> tape           records of no frame: zeros (b, s, ...)
    record(x)                          -> records        what every frame leaves behind, whatever came before (b, t, ...)
    attend(tape, reading, x)           -> y              every frame reads the records chosen for it (b, t, n, d)

Which records those are is decided once for all layers, by `rad_jax.model.addressing`.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from rad_jax.axes import Array, Float, Int, PyTree
from rad_jax.config import ModelConfig

Walk = tuple[PyTree, Float[Array, "b t n d"], Callable[[Int[Array, "b k"]], PyTree]]


EPSILON = 1e-6  # of the layer norms


class Mixer(nn.Module):
    """What all mixers share; see the module docstring."""

    config: ModelConfig

    @property
    def heads(self) -> int:
        """Heads of ``config.width / heads`` features, for a mixer that shares out the width."""
        return self.config.memory.heads or self.config.heads

    def run(
        self, state: PyTree, x: Float[Array, "b t n f"], *pose: Float[Array, "b t p"]
    ) -> tuple[PyTree, Float[Array, "b t n d"]]:
        state, y, _ = self.walk(state, x, *pose)
        return state, y

    def run_with_states(
        self,
        state: PyTree,
        x: Float[Array, "b t n f"],
        ends: Int[Array, "b k"],
        *pose: Float[Array, "b t p"],
    ) -> tuple[PyTree, Float[Array, "b t n d"], PyTree]:
        state, y, states_at = self.walk(state, x, *pose)
        return state, y, states_at(ends)


def states_among(every: PyTree, ends: Int[Array, "b k"]) -> PyTree:
    """The states after the first ``ends`` frames, of a memory that can afford those after every frame (b, t, ...)."""

    def at(states: Float[Array, "b t ..."]) -> Float[Array, "b k ..."]:
        index = jnp.clip(ends - 1, 0, states.shape[1] - 1)
        return jnp.take_along_axis(states, index.reshape(*index.shape, *[1] * (states.ndim - 2)), axis=1)

    return jax.tree.map(at, every)


def standardise(z: Float[Array, "*b e"]) -> tuple[Float[Array, "*b e"], Float[Array, "*b 1"]]:
    """``z`` with mean 0 and variance 1 over the last axis, and what it was multiplied by."""
    z = z - z.mean(-1, keepdims=True)
    factor = jax.lax.rsqrt(jnp.square(z).mean(-1, keepdims=True) + EPSILON)
    return z * factor, factor


def matmul(x: Float[Array, "*b f"], kernel: Float[Array, "f u"], dtype: jnp.dtype) -> Float[Array, "*b u"]:
    """``x @ kernel`` with operands in ``dtype`` and a result in the precision of ``kernel``."""
    return jnp.matmul(x.astype(dtype), kernel.astype(dtype), preferred_element_type=kernel.dtype)


def build(config: ModelConfig, **kwargs: Any) -> Mixer:
    """The mixer that ``config.memory.kind`` names; ``kwargs`` go to Linen."""
    return import_module(f"{__name__}.{config.memory.kind}").MIXER(config, **kwargs)
