"""What a model remembers, as one pytree that crosses all its methods.

    state   what a memory has instead of the frames it saw: leaves (b, l, ...), copied for every window that starts from it
    tape    what a memory keeps of the frames themselves: leaves (b, l, s, ...), one record per frame, whatever the window
    slots   which records a bank holds, `rad_jax.model.addressing.Slots`: leaves (b, ...), the same in all layers

Memories of the paper have a state alone, a bank has the other two; what a memory lacks has no leaves. With several windows of a
video, state and slots have an axis k behind the batch, the tape has none. Where layers come first (`layers_first`), that is so
for state and tape.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.axes import Array, Float, Int, PyTree
from rad_jax.config import ModelConfig
from rad_jax.model import addressing
from rad_jax.model.addressing import Reading, Slots
from rad_jax.model.attention import KVCache


class Memory(NamedTuple):
    """See the module docstring."""

    state: PyTree = ()
    tape: PyTree = ()
    slots: Slots | tuple = ()

    def of_layers(self, function: Callable[[Array], Array]) -> "Memory":
        """With ``function`` applied to every leaf that has an axis of layers."""
        return self._replace(state=jax.tree.map(function, self.state), tape=jax.tree.map(function, self.tape))

    def of_windows(self, function: Callable[[Array], Array]) -> "Memory":
        """With ``function`` applied to every leaf that is copied for every window."""
        return self._replace(
            state=jax.tree.map(function, self.state), slots=jax.tree.map(function, self.slots)
        )


class WindowCache(NamedTuple):
    """What a new frame of a window reads, the layers first (axis 0).

    Attributes:
      memory: before the window.
      state: the memory behind the window's frames where it runs on through them; None where they all read ``memory``.
      kv: keys and values of the window's frames.
    """

    memory: Memory
    state: PyTree | None
    kv: KVCache


PER_WINDOW = Memory(0, None, 0)  # the axes over which windows are mapped, as `jax.vmap` has them


def layers_first(memory: Memory) -> Memory:
    """Leaves (b, l, ...) as (l, b, ...), for the scan over layers."""
    return memory.of_layers(lambda s: jnp.moveaxis(s, 1, 0))


def batch_first(memory: Memory) -> Memory:
    """The inverse of `layers_first`."""
    return memory.of_layers(lambda s: jnp.moveaxis(s, 0, 1))


def slots_along(
    config: ModelConfig,
    memory: Memory,
    frames: Float[Array, "b t rows cols ch"],
    actions: Float[Array, "b t a"],
) -> tuple[Slots | tuple, Slots | tuple]:
    """The slots before every new frame (b, t, ...) and after all of them; empty ones where the memory is no bank."""
    if not isinstance(memory.slots, Slots):
        return memory.slots, memory.slots
    records = jax.tree.leaves(memory.tape)[0].shape[2]
    marks = addressing.mark(config, frames, actions)
    return addressing.fill(config.memory, memory.slots, marks, records)


def slots_after(before: Slots, after: Slots, counts: Int[Array, "b k"]) -> Slots:
    """The slots after the first ``counts`` frames (b, k, ...), from what `slots_along` returns."""
    every = jax.tree.map(lambda b, a: jnp.concatenate([b, a[:, None]], axis=1), before, after)
    return jax.tree.map(lambda s: jax.vmap(lambda video, count: video[count])(s, counts), every)


def readings(
    config: ModelConfig,
    frames: Float[Array, "b t rows cols ch"],
    actions: Float[Array, "b t a"],
    slots: Slots | tuple,
) -> Reading | None:
    """What every frame reads of a bank whose slots are the same for all frames (b, ...) or each frame's own (b, t, ...)."""
    if not isinstance(slots, Slots):
        return None
    marks = addressing.mark(config, frames, actions)
    choose = partial(addressing.choose, config.memory)
    return jax.vmap(jax.vmap(choose, in_axes=(0 if slots.seen.ndim == 2 else None, 0)))(slots, marks)


def settle(memory: Memory) -> Memory:
    """The same bank on a tape of one record per slot, in the order of the slots; the layers first.

    Other memories come back as they are.

    A tape grows by a record for every frame that passes; what no slot holds is dropped here.
    """
    if not isinstance(memory.slots, Slots):
        return memory
    record = memory.slots.record
    held, index = record > 0, jnp.maximum(record - 1, 0)

    def keep(tape: Array) -> Array:
        kept = jax.vmap(lambda video, places: video[:, places], in_axes=(1, 0), out_axes=1)(tape, index)
        return jnp.where(held.reshape(1, *held.shape, *[1] * (kept.ndim - 3)), kept, 0)

    places = jnp.where(held, jnp.arange(1, record.shape[1] + 1, dtype=record.dtype), 0)
    return memory._replace(tape=jax.tree.map(keep, memory.tape), slots=memory.slots._replace(record=places))


def at_start(memory: Memory, k: int) -> Memory:
    """The memory at the k-th of the starts that `RAD.prefetch` was given, settled; the batch first."""
    return batch_first(settle(layers_first(memory.of_windows(lambda s: s[:, k]))))


def check_starts(starts: Int[Array, "b k"], length: int, stride: int) -> None:
    """Raises `ValueError` unless windows can start after so many of ``length`` frames."""
    # Values are known outside a compiled function alone.
    if isinstance(starts, jax.core.Tracer):
        return
    starts = np.asarray(starts)
    bad = starts[(starts < 0) | (starts > length) | (starts % stride != 0)]
    if bad.size:
        raise ValueError(f"starts: {bad[0]}, expected multiples of the stride {stride} from 0 to {length}")
