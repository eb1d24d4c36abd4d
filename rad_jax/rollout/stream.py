"""Streaming generation: one frame at a time, with a state of constant size (paper sections 4.2 and 4.3).

    start: advance the memory until at most window - 1 clean frames of the context remain in the window
    step:  denoise a new last frame of the window, all other frames held clean;
           when the window is full, advance the memory by its first stride frames and drop them

The clean frames of a window do not depend on the frame being denoised (attention is causal), so their keys, values and
mixer states are computed once per frame and a sampler step costs one frame instead of a window. What is computed is
exactly the full window at every sampler step.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from rad_jax import diffusion
from rad_jax.arrays import fit, window_of
from rad_jax.axes import Array, Bool, Float, Int, Key, PyTree
from rad_jax.config import DiffusionConfig
from rad_jax.model import RAD, WindowCache
from rad_jax.model.memory import Memory, at_start, layers_first


class Window(NamedTuple):
    """What a rollout carries from frame to frame.

    Attributes:
      frames: slots for the clean frames of the window; those from ``count`` on are not read.
      actions: the action that led to each frame.
      count: frames in the window, 0..window-1.
      cache: what a new frame reads, among it the memory of all frames before the window.
    """

    frames: Float[Array, "b w rows cols ch"]
    actions: Float[Array, "b w a"]
    count: Int[Array, ""]
    cache: WindowCache


@struct.dataclass
class RolloutState:
    """A rollout between two frames: a pytree of constant shapes."""

    window: Window | None
    params: PyTree
    model: RAD = struct.field(pytree_node=False)
    diffusion: DiffusionConfig = struct.field(pytree_node=False)
    steps: int = struct.field(pytree_node=False)


def start(
    model: RAD,
    params: PyTree,
    frames: Float[Array, "b t rows cols ch"],
    actions: Float[Array, "b t a"],
    *,
    diffusion: DiffusionConfig,
    steps: int,
    lengths: Int[np.ndarray, "b"] | None = None,
) -> RolloutState:
    """Reads a context of clean frames, each with the action that led to it.

    Args:
      params: the model's parameters (without the ``{"params": ...}`` around them).
      steps: DDIM steps per frame.
      lengths: how many of the ``t`` frames of each video are its context (the rest is padding); all if None. They may
        differ as long as equally many frames remain in the window, see `frames_in_window`.
    """
    lengths = np.full(frames.shape[0], frames.shape[1]) if lengths is None else np.asarray(lengths)
    if lengths.min() < 0 or lengths.max() > frames.shape[1]:
        raise ValueError(
            f"lengths: {lengths.tolist()}, expected 0 to {frames.shape[1]}, as many as there are frames"
        )
    counts = {frames_in_window(model, int(length)) for length in lengths}
    if len(counts) > 1:
        raise ValueError(
            f"lengths: contexts of {sorted(set(map(int, lengths)))} frames leave {sorted(counts)} frames in "
            "their windows; start videos together only where that number is equal"
        )
    # Prefetch runs in whole segments, so contexts are padded to whole segments: few sizes to compile for, and no more work.
    segment = model.config.memory.prefetch_segment
    segments = -(-_frames_in_memory(model, int(lengths.max())) // segment)
    size = segments * segment + model.config.window
    frames, actions = (fit(size, x) for x in (frames, actions))
    count = jnp.asarray(counts.pop(), jnp.int32)
    window = _read_context(model, params, frames, actions, jnp.asarray(lengths, jnp.int32), count)
    return RolloutState(window, params, model, diffusion, steps)


def frames_in_window(model: RAD, length: int) -> int:
    """How many frames of a context of ``length`` frames stay visible to attention; the others are in the memory."""
    return length - _frames_in_memory(model, length)


def _frames_in_memory(model: RAD, length: int | Int[Array, "b"]) -> int | Int[Array, "b"]:
    """The smallest multiple of the stride that leaves at most window - 1 frames of a context for the window."""
    stride = model.config.memory.stride
    excess = length - model.config.window + 1
    return -(-excess * (excess > 0) // stride) * stride


@partial(jax.jit, static_argnames="model")
def _read_context(
    model: RAD,
    params: PyTree,
    frames: Float[Array, "b t rows cols ch"],
    actions: Float[Array, "b t a"],
    lengths: Int[Array, "b"],
    count: Int[Array, ""],
) -> Window:
    """The window at the end of the context; ``frames`` holds whole prefetch segments and a window more, zeros at the end."""
    window = model.config.window
    ends = _frames_in_memory(model, lengths)
    last = frames.shape[1] - window
    with jax.named_scope("prefetch"):
        memory = model.apply(
            {"params": params}, frames[:, :last], actions[:, :last], ends[:, None], method=RAD.prefetch
        )
    memory = layers_first(at_start(memory, 0))
    frames, actions = (window_of(x, ends, window) for x in (frames, actions))
    return _make_window(model, params, memory, frames, actions, count)


def forget(state: RolloutState) -> RolloutState:
    """The same rollout with an empty memory: what it can still know is in the frames of its window."""
    return state.replace(window=_forget(state))


@jax.jit
def _forget(state: RolloutState) -> Window:
    window = state.window
    memory = jax.tree.map(jnp.zeros_like, window.cache.memory)
    return _make_window(state.model, state.params, memory, window.frames, window.actions, window.count)


def step(
    state: RolloutState, action: Float[Array, "b a"], key: Key[Array, ""] | Key[Array, "b"]
) -> tuple[RolloutState, Float[Array, "b rows cols ch"]]:
    """Generates the frame that ``action`` leads to. Compiled once for all frames.

    The window of ``state`` is donated: its buffers become those of the new state, and ``state`` itself can no longer be
    used. To go on from one state twice, copy it first (``jax.tree.map(jnp.copy, state.window)``). Parameters are never
    donated.

    Args:
      key: the noise is ``jax.random.normal(key, (b, rows, cols, ch))``; or a key for every video, whose noise is then
        ``jax.random.normal(key[b], (rows, cols, ch))`` whatever else is in the batch.
    """
    window, frame = _step(state.replace(window=None), state.window, action, key)
    return state.replace(window=window), frame


def generate(
    state: RolloutState, actions: Float[Array, "b t a"], key: Key[Array, ""] | Key[Array, "b"]
) -> tuple[RolloutState, Float[Array, "b t rows cols ch"]]:
    """`step` for every action in turn, frame i with ``fold_in(key, i)`` of every key, as one compiled program.

    Unlike that of `step`, the state that comes in remains usable.
    """
    window, frames = _generate(state, actions, key)
    return state.replace(window=window), frames


@jax.jit
def _generate(
    state: RolloutState, actions: Float[Array, "b t a"], key: Key[Array, ""] | Key[Array, "b"]
) -> tuple[Window, Float[Array, "b t rows cols ch"]]:
    def body(window: Window, inputs: tuple[Array, Array]) -> tuple[Window, Array]:
        index, action = inputs
        key_frame = jnp.vectorize(jax.random.fold_in, excluded=(1,))(key, index)
        return next_frame(state, window, action, key_frame)

    inputs = jnp.arange(actions.shape[1]), jnp.moveaxis(actions, 1, 0)
    window, frames = jax.lax.scan(body, state.window, inputs)
    return window, jnp.moveaxis(frames, 0, 1)


def next_frame(
    rollout: RolloutState,
    window: Window,
    action: Float[Array, "b a"],
    key: Key[Array, ""] | Key[Array, "b"],
    remembers: bool = True,
) -> tuple[Window, Float[Array, "b rows cols ch"]]:
    """The next frame, and the window that it is in: the program of `step`, to be a part of another one.

    Args:
      rollout: its window is not read.
      remembers: without it what leaves the window leaves the memory empty.
    """
    model, params = rollout.model, rollout.params
    with jax.named_scope("sampler"):
        frame = sample(rollout, window, action, key)
    full = window.count + 1 == model.config.window
    window = window._replace(
        frames=jax.lax.dynamic_update_slice_in_dim(window.frames, frame[:, None], window.count, 1),
        actions=jax.lax.dynamic_update_slice_in_dim(window.actions, action[:, None], window.count, 1),
        count=window.count + 1,
    )
    # Either of two things happens. They are loops of at most one turn, as XLA copies nothing of what a loop leaves alone, but
    # all that a `cond` passes on: the memory is most of a rollout's state, and changes once in ``stride`` frames.
    with jax.named_scope("append"):
        window = _once(~full, partial(append, model, params, frame, action), window)
    with jax.named_scope("slide"):
        window = _once(full, partial(slide, model, params, remembers=remembers), window)
    return window, frame


def sample(
    rollout: RolloutState,
    window: Window,
    action: Float[Array, "b a"],
    key: Key[Array, ""] | Key[Array, "b"],
) -> Float[Array, "b rows cols ch"]:
    """Denoises the frame after a window in ``rollout.steps`` steps; the window of ``rollout`` is not read."""
    config = rollout.diffusion
    levels = jnp.asarray(diffusion.sampler_levels(config, rollout.steps))

    def predict(frame: Array, level: Array) -> Array:
        now = frame, level, action, window.cache, window.count
        return rollout.model.apply({"params": rollout.params}, *now, method=RAD.next_frame)[0]

    return diffusion.denoise(config, predict, _noise(key, window.frames[:, 0]), levels)


def append(
    model: RAD,
    params: PyTree,
    frame: Float[Array, "b rows cols ch"],
    action: Float[Array, "b a"],
    window: Window,
) -> Window:
    """Lets the last frame of a window, now clean, be read by the next one."""
    level = jnp.asarray(model.config.context_level)
    now = frame, level, action, window.cache, window.count - 1
    _, cache = model.apply({"params": params}, *now, method=RAD.next_frame)
    return window._replace(cache=cache)


_step = jax.jit(next_frame, donate_argnames="window")


def _once(wanted: Bool[Array, ""], function: Callable[[Window], Window], window: Window) -> Window:
    """``function(window)`` if wanted, otherwise ``window``."""
    window, _ = jax.lax.while_loop(
        lambda carry: carry[1], lambda carry: (function(carry[0]), jnp.zeros_like(wanted)), (window, wanted)
    )
    return window


def _noise(
    key: Key[Array, ""] | Key[Array, "b"], like: Float[Array, "b rows cols ch"]
) -> Float[Array, "b rows cols ch"]:
    """From one key for the whole batch, or from one for every video of it."""
    if key.ndim == 0:
        return jax.random.normal(key, like.shape, like.dtype)
    return jax.vmap(lambda one: jax.random.normal(one, like.shape[1:], like.dtype))(key)


def slide(model: RAD, params: PyTree, window: Window, remembers: bool = True) -> Window:
    """Moves the first ``stride`` frames of a full window into the memory; only the rest stays visible to attention.

    Unless it ``remembers``, they are dropped.
    """
    stride, memory = model.config.memory.stride, window.cache.memory
    if remembers:
        first = window.frames[:, :stride], window.actions[:, :stride]
        memory, _ = model.apply({"params": params}, memory, *first, method=RAD.advance)
    frames, actions = (fit(x.shape[1], x[:, stride:]) for x in (window.frames, window.actions))
    return _make_window(model, params, memory, frames, actions, window.count - stride)


def _make_window(
    model: RAD,
    params: PyTree,
    memory: Memory,
    frames: Float[Array, "b w rows cols ch"],
    actions: Float[Array, "b w a"],
    count: Int[Array, ""],
) -> Window:
    """The window whose first ``count`` slots hold clean frames."""
    cache = model.apply(
        {"params": params}, frames[:, :-1], actions[:, :-1], memory, count, method=RAD.context
    )
    return Window(frames, actions, count, cache)
