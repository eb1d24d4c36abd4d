"""RAD: a latent video diffusion transformer with local attention and a recurrent memory in every block.

    frames (b, t, rows, cols, ch)  --patches-->  tokens x (b, t, n, d)
    level and action of a frame    --embed--->   condition c (b, t, d)
    x  --`Block`, depth times, each with its own memory state-->  x  --modulate, patches-->  prediction (b, t, rows, cols, ch)

One stack of blocks serves five uses, each a method of `RAD`:

    __call__   one window of noised frames                    (training; the literal definition of generation)
    prefetch   the memory at chosen places of a clean video   (training, start of a rollout)
    advance    the memory after the next clean frames         (generation: slide of a window)
    context    the clean frames of a window, as a cache       (generation: keys, values and state that a new frame reads)
    next_frame the frame after them                           (generation: one sampler step)

`context` and `next_frame` together equal `__call__`, because temporal attention is causal.

A memory is a pytree whose leaves have axes (b, l, ...): batch, layers, and those of the mixer's state (tokens first, if
every token has its own); without memory it has no leaves. In the last three uses the layers come first, (l, b, ...), as the
scan over them wants it: so a rollout rearranges nothing from frame to frame.
"""

from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn

from rad_jax.arrays import fit
from rad_jax.axes import Array, Float, Int, PyTree
from rad_jax.config import ModelConfig
from rad_jax.model import mixers
from rad_jax.model.attention import KVCache, xavier
from rad_jax.model.block import Block, Modulation, modulate

TIME_FEATURES = 256


class WindowCache(NamedTuple):
    """What a new frame of a window reads, the layers first (axis 0).

    Attributes:
      memory: before the window.
      state: the memory behind the window's frames where it runs on through them; None where they all read ``memory``.
      kv: keys and values of the window's frames.
    """

    memory: PyTree
    state: PyTree | None
    kv: KVCache


class RAD(nn.Module):
    """The model; see the module docstring, and `rad_jax.config.ModelConfig` for its settings."""

    config: ModelConfig

    def setup(self):
        config, types = self.config, self.config.types
        small = {"kernel_init": nn.initializers.normal(0.02), **types}
        self.embed_patch = nn.Dense(config.width, kernel_init=xavier, **types)
        self.embed_time = nn.Sequential(
            [nn.Dense(config.width, **small), nn.silu, nn.Dense(config.width, **small)]
        )
        self.embed_action = nn.Dense(config.width, kernel_init=xavier, **types)
        self.block = Block(config)
        self.final_modulation = Modulation(config, (0.0, 0.0))
        features = config.patch**2 * config.latent[-1]
        self.unembed_patch = nn.Dense(features, kernel_init=nn.initializers.zeros, **types)

    def __call__(
        self,
        frames: Float[Array, "b t rows cols ch"],
        levels: Int[Array, "b t"],
        actions: Float[Array, "b t a"],
        memory: PyTree = None,
    ) -> tuple[Float[Array, "b t rows cols ch"], PyTree]:
        """Denoises one window.

        Args:
          frames: noised latents, at most ``window`` frames.
          levels: diffusion level of every frame, 0 the least noisy.
          actions: the action (and pose, if the model is given it) that led to each frame.
          memory: the memory before the window; None is the empty one.

        Returns:
          The prediction (v, noise or clean latents, as the model is trained), and the memory after the window's first
          ``stride`` frames, as a slide leaves it (after all of them if the window is shorter than the stride).
        """
        config, (batch, length) = self.config, frames.shape[:2]
        self._check(frames, actions)
        chex.assert_shape(levels, frames.shape[:2], custom_message="levels")
        if length > config.window:
            raise ValueError(f"frames: {length} frames in one window, at most model.window = {config.window}")
        memory = self.initial_memory(batch) if memory is None else memory
        ends = jnp.full((batch, 1), min(config.memory.stride, length))
        prediction, _, states, _ = self._run(
            frames,
            levels,
            actions,
            _layers_first(memory),
            span=length,
            shared=config.memory.shared,
            ends=ends,
            remat=config.remat,
        )
        return prediction, jax.tree.map(lambda s: rearrange(s, "l b 1 ... -> b l ..."), states)

    @nn.nowrap
    def initial_memory(self, batch: int) -> PyTree:
        """The memory of a model that has seen nothing; works on an unbound module."""
        config = self.config
        if config.memory.kind == "none":
            return ()
        state = mixers.build(config, parent=None).initial_state(batch, config.tokens)
        return jax.tree.map(lambda s: jnp.repeat(s[:, None], config.depth, axis=1), state)

    def prefetch(
        self,
        frames: Float[Array, "b t rows cols ch"],
        actions: Float[Array, "b t a"],
        starts: Int[Array, "b k"],
        memory: PyTree = None,
    ) -> PyTree:
        """Runs the memory along clean frames and returns it where windows start (paper section 4.3 and appendix A.3).

        One `lax.scan` over segments of ``memory.prefetch_segment`` frames. In a segment attention is parallel over
        groups of ``stride`` frames (those that enter the memory of a window, its first ones, see one another alone), layer
        by layer, and only the mixers run in time. Steps are rematerialised, and states are emitted at the starts alone, so
        that what is stored does not grow with the number of frames.

        Args:
          frames: clean latents (or noised or predicted ones, see ``memory.frames``), labelled with ``context_level``.
          actions: the action that led to each frame.
          starts: how many frames each returned memory has seen: multiples of ``stride`` in 0..t.
          memory: the memory before the first frame; None is the empty one.

        Returns:
          The memory at each start, leaves with axes (b, k, l, ...).
        """
        config, (batch, length), stride = self.config, frames.shape[:2], self.config.memory.stride
        self._check(frames, actions)
        _check_starts(starts, length, stride)
        memory = self.initial_memory(batch) if memory is None else memory
        if config.memory.kind == "none":
            return memory
        if length == 0:
            return jax.tree.map(lambda s: jnp.repeat(s[:, None], starts.shape[1], axis=1), memory)
        size = min(config.memory.prefetch_segment, -(-length // stride) * stride)
        count = -(-length // size)
        segments = [
            rearrange(fit(count * size, x), "b (g s) ... -> g b s ...", s=size) for x in (frames, actions)
        ]
        state = _layers_first(memory)
        at_starts = jax.tree.map(lambda s: jnp.repeat(s[:, :, None], starts.shape[1], axis=2), state)

        # A long scan bounds memory by recomputing its steps, a single step by recomputing its layers.
        advance, remat_layers = RAD.advance, config.remat and count == 1
        if config.remat and count > 1:
            advance = nn.remat(advance, prevent_cse=False, static_argnums=5)

        def step(model: RAD, carry: tuple[PyTree, PyTree], segment: tuple[Array, ...]) -> tuple[Any, None]:
            state, at_starts = carry
            first, frames, actions = segment
            if config.memory.bptt == "truncated":
                cut = first % config.memory.bptt_frames == 0
                state = jax.tree.map(lambda s: jnp.where(cut, jax.lax.stop_gradient(s), s), state)
            ends = starts - first
            state, states = advance(model, state, frames, actions, ends, remat_layers)

            def select(new: Float[Array, "l b k ..."], old: Float[Array, "l b k ..."]) -> Array:
                here = (ends > 0) & (ends <= size)  # the windows that start after a frame of this segment
                return jnp.where(here.reshape(1, *here.shape, *[1] * (new.ndim - 3)), new, old)

            return (state, jax.tree.map(select, states, at_starts)), None

        xs = (size * jnp.arange(count), *segments)
        if count == 1:  # nothing to carry: the states of a large memory are held once
            (_, at_starts), _ = step(self, (state, at_starts), tuple(x[0] for x in xs))
        else:
            scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
            (_, at_starts), _ = scan(self, (state, at_starts), xs)
        if config.memory.bptt == "none":
            at_starts = jax.lax.stop_gradient(at_starts)
        return jax.tree.map(lambda s: rearrange(s, "l b k ... -> b k l ..."), at_starts)

    def advance(
        self,
        memory: PyTree,
        frames: Float[Array, "b t rows cols ch"],
        actions: Float[Array, "b t a"],
        ends: Int[Array, "b k"] | None = None,
        remat: bool = False,
    ) -> tuple[PyTree, PyTree | None]:
        """Runs all layers over clean frames, a multiple of ``stride``; the layers come first, as in a `WindowCache`.

        Returns the memory after the frames, and after the first ``ends`` of them (l, b, k, ...).
        """
        stride = self.config.memory.stride
        settings = {"span": stride, "shared": False, "ends": ends, "remat": remat}
        _, state, states, _ = self._run(frames, None, actions, memory, **settings)
        return state, states

    def context(
        self,
        frames: Float[Array, "b t rows cols ch"],
        actions: Float[Array, "b t a"],
        memory: PyTree,
        count: Int[Array, ""],
    ) -> WindowCache:
        """What the next frame of a window reads.

        Args:
          frames: ``window - 1`` slots, the first ``count`` of which are the window's clean frames; the rest is never read.
          actions: the action that led to each frame.
          memory: the memory before the window, the layers first.
          count: frames in the window, 0..window-1.
        """
        shared, slots = self.config.memory.shared, frames.shape[1]
        runs = slots > 0 and not shared
        _, _, states, kv = self._run(
            frames,
            None,
            actions,
            memory,
            span=max(1, slots),
            shared=not runs,
            ends=jnp.full((frames.shape[0], 1), count) if runs else None,
        )
        state = None if shared else memory
        if runs:  # the mixer gives an arbitrary state after 0 frames
            state = jax.tree.map(lambda new, old: jnp.where(count > 0, new[:, :, 0], old), states, memory)
        return WindowCache(memory, state, kv)

    def next_frame(
        self,
        frame: Float[Array, "b rows cols ch"],
        level: Int[Array, ""],
        action: Float[Array, "b a"],
        cache: WindowCache,
        position: Int[Array, ""],
    ) -> tuple[Float[Array, "b rows cols ch"], WindowCache]:
        """Denoises the frame at ``position`` of a window whose earlier frames are in ``cache``.

        Args:
          frame: the noised latent.
          level: its diffusion level, the same in all videos.
          action: the action that leads to it.
          cache: of `context`, or of this method at the position before.
          position: 0..window-1.

        Returns:
          The prediction, and the cache with the frame appended, which is what the next frame of the window reads if this
          one was clean and at the context level.
        """
        chex.assert_shape(action, (frame.shape[0], self.config.action_dim), custom_message="action")
        levels = jnp.full((frame.shape[0], 1), level)
        shared = self.config.memory.shared
        state = cache.memory if shared else cache.state
        prediction, state, _, own = self._run(
            frame[:, None], levels, action[:, None], state, cache.kv, position=position, shared=shared
        )
        kv = cache.kv
        if kv.keys.shape[4]:  # a window of one frame has no slot for earlier ones
            put = partial(jax.lax.dynamic_update_slice_in_dim, start_index=position, axis=4)
            kv = jax.tree.map(put, kv, own)
        return prediction[:, 0], WindowCache(cache.memory, None if shared else state, kv)

    def _run(
        self,
        frames: Float[Array, "b t rows cols ch"],
        levels: Int[Array, "b t"] | None,
        actions: Float[Array, "b t a"],
        state: PyTree,
        kv: KVCache | None = None,
        *,
        remat: bool = False,
        **settings: Any,
    ) -> tuple[Float[Array, "b t rows cols ch"], PyTree, PyTree | None, KVCache]:
        """Embeds frames, scans `Block` over the layers of ``state`` and ``kv`` (axis 0), and unembeds the prediction.

        Without ``levels`` the frames are clean, and labelled with ``context_level``. What else comes back, and
        ``settings``, is as the block has it, the layers first. What is not used is not computed.
        """
        if levels is None:
            levels = jnp.full(frames.shape[:2], self.config.context_level)
        c = self._condition(levels, actions)

        def layer(block: Block, x: Array, inputs: PyTree) -> tuple[Array, tuple]:
            x, *outputs = block(x, c, *inputs, **settings)
            return x, tuple(outputs)

        scan = nn.scan(
            nn.remat(layer, prevent_cse=False) if remat else layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.config.depth,
        )
        x, outputs = scan(self.block, self._embed(frames), (state, kv))
        return self._unembed(x, c), *outputs

    def _embed(self, frames: Float[Array, "b t rows cols ch"]) -> Float[Array, "b t n d"]:
        """Square patches of a latent frame, row after row, as tokens."""
        patch = self.config.patch
        return self.embed_patch(rearrange(frames, "b t (i p) (j q) c -> b t (i j) (p q c)", p=patch, q=patch))

    def _unembed(
        self, x: Float[Array, "b t n d"], c: Float[Array, "b t d"]
    ) -> Float[Array, "b t rows cols ch"]:
        shift, scale = self.final_modulation(c)
        x = self.unembed_patch(modulate(x, shift, scale)).astype(self.config.state_dtype)
        rows, patch = self.config.grid[0], self.config.patch
        return rearrange(x, "b t (i j) (p q c) -> b t (i p) (j q) c", i=rows, p=patch, q=patch)

    def _condition(self, levels: Int[Array, "b t"], actions: Float[Array, "b t a"]) -> Float[Array, "b t d"]:
        """The condition ``c`` of every frame: sinusoids of its level through an MLP, plus its projected action."""
        dtype = self.config.state_dtype
        angle = levels[..., None].astype(dtype) * jnp.asarray(_time_frequencies(), dtype)
        time = self.embed_time(jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1))
        return time + self.embed_action(actions)

    def _check(self, frames: Array, actions: Array) -> None:
        chex.assert_shape(frames, (None, None, *self.config.latent), custom_message="frames")
        chex.assert_shape(actions, (*frames.shape[:2], self.config.action_dim), custom_message="actions")


def _time_frequencies() -> np.ndarray:
    """1 .. 1/10,000 radians per level, float32 with the rounding of the Oasis program: levels multiply it by up to 999."""
    half = TIME_FEATURES // 2
    exponents = np.float32(-np.log(10_000.0)) * np.arange(half, dtype=np.float32) / np.float32(half)
    return np.exp(exponents.astype(np.float64)).astype(np.float32)


def _check_starts(starts: Array, length: int, stride: int) -> None:
    # Values are known outside a compiled function alone.
    if isinstance(starts, jax.core.Tracer):
        return
    starts = np.asarray(starts)
    bad = starts[(starts < 0) | (starts > length) | (starts % stride != 0)]
    if bad.size:
        raise ValueError(f"starts: {bad[0]}, expected multiples of the stride {stride} from 0 to {length}")


def _layers_first(memory: PyTree) -> PyTree:
    """Leaves (b, l, ...) as (l, b, ...), for the scan over layers."""
    return jax.tree.map(lambda s: jnp.moveaxis(s, 1, 0), memory)
