"""RAD: a latent video diffusion transformer with local attention and a recurrent memory in every block.

    frames (b, t, rows, cols, ch)  --patches-->  tokens x (b, t, n, d)
    level and action of a frame    --embed--->   condition c (b, t, d)
    x  --`Block`, depth times, each with its own memory state-->  x  --modulate, patches-->  prediction (b, t, rows, cols, ch)

One stack of blocks serves four uses, each a method of `RAD`:

    __call__   one window of noised frames                    (training; the literal definition of generation)
    prefetch   the memory at chosen places of a clean video   (training, start of a rollout, slide of a window)
    context    the clean frames of a window, as a cache       (generation: keys, values and state that a new frame reads)
    next_frame the frame after them                           (generation: one sampler step)

The last two together equal the first, because temporal attention is causal.

A memory, where it crosses this interface, is a pytree whose leaves have axes (b, l, ...): batch, layers, and those of the
mixer's state (tokens first, if every token has its own); without memory it has no leaves. Inside, and in a `WindowCache`,
the layers come first, as the scan over them wants it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn

from rad_jax.axes import Array, Bool, Float, Int, PyTree
from rad_jax.config import ModelConfig
from rad_jax.model import mixers
from rad_jax.model.adaln import Modulation, modulate
from rad_jax.model.attention import KVCache, xavier
from rad_jax.model.block import Block

TIME_FEATURES = 256


class WindowCache(NamedTuple):
    """What a new frame of a window reads, in every layer (axis 0): the mixer's state, and the window's keys and values."""

    state: PyTree
    kv: KVCache


class RAD(nn.Module):
    """The model; see the module docstring, and `rad_jax.config.ModelConfig` for its settings."""

    config: ModelConfig

    def setup(self):
        config = self.config
        types = {"dtype": config.compute_dtype, "param_dtype": config.state_dtype}
        channels = config.latent[-1]
        small = nn.initializers.normal(0.02)
        self.embed_patch = nn.Dense(config.width, kernel_init=xavier, **types)
        self.embed_time = nn.Sequential(
            [
                nn.Dense(config.width, kernel_init=small, **types),
                nn.silu,
                nn.Dense(config.width, kernel_init=small, **types),
            ]
        )
        self.embed_action = nn.Dense(config.width, kernel_init=xavier, **types)
        self.block = Block(config)
        self.final_modulation = Modulation(2, config.width, (0.0, 0.0), **types)
        self.unembed_patch = nn.Dense(config.patch**2 * channels, kernel_init=nn.initializers.zeros, **types)

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
        config = self.config
        self._check(frames, levels, actions)
        if frames.shape[1] > config.window:
            raise ValueError(
                f"frames: {frames.shape[1]} frames in one window, at most model.window = {config.window}"
            )
        memory = self.initial_memory(frames.shape[0]) if memory is None else memory
        c = self._condition(levels, actions)
        slide = min(config.memory.stride, frames.shape[1])
        ends = jnp.full((frames.shape[0], 1), slide)

        def layer(block: Block, x: Array, state: PyTree) -> tuple[Array, PyTree]:
            x, _, states, _ = block(x, c, state, span=frames.shape[1], shared=config.memory.shared, ends=ends)
            return x, states

        x, states = self._scan_layers(layer, self._embed(frames), _layers_first(memory), config.remat)
        return self._unembed(x, c), jax.tree.map(lambda s: rearrange(s, "l b 1 ... -> b l ..."), states)

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
        groups of ``stride`` frames, layer by layer, and only the mixers run in time. Steps are rematerialised, and states
        are emitted at the starts alone, so that what is stored does not grow with the number of frames.

        Args:
          frames: clean latents (or slightly noised, for Table 5), labelled with ``context_level``.
          actions: the action that led to each frame.
          starts: how many frames each returned memory has seen: multiples of ``stride`` in 0..t.
          memory: the memory before the first frame; None is the empty one.

        Returns:
          The memory at each start, leaves with axes (b, k, l, ...).
        """
        config = self.config
        batch, length = frames.shape[:2]
        self._check(frames, jnp.zeros((batch, length), int), actions)
        _check_starts(starts, length, config.memory.stride)
        memory = self.initial_memory(batch) if memory is None else memory
        if config.memory.kind == "none":
            return memory
        if length == 0:
            return jax.tree.map(lambda s: jnp.repeat(s[:, None], starts.shape[1], axis=1), memory)
        size = min(config.memory.prefetch_segment, -(-length // config.memory.stride) * config.memory.stride)
        count = -(-length // size)
        padded = [
            jnp.pad(x, [(0, 0), (0, count * size - length)] + [(0, 0)] * (x.ndim - 2))
            for x in (frames, actions)
        ]
        segments = [rearrange(x, "b (g s) ... -> g b s ...", s=size) for x in padded]
        # A long scan bounds memory by recomputing its steps, a single step by recomputing its layers.
        remat_steps, remat_layers = config.remat and count > 1, config.remat and count == 1
        run_segment = RAD._run_segment
        if remat_steps:
            run_segment = nn.remat(run_segment, prevent_cse=False, static_argnums=(5,))
        state = _layers_first(memory)
        at_starts = jax.tree.map(lambda s: jnp.repeat(s[:, :, None], starts.shape[1], axis=2), state)

        def step(model: RAD, carry: tuple[PyTree, PyTree], segment: tuple[Array, ...]) -> tuple[Any, None]:
            state, at_starts = carry
            index, frames, actions = segment
            ends = starts - index * size  # counted from the segment's first frame
            state = self._truncate_gradient(state, index * size)
            state, states = run_segment(model, state, frames, actions, ends, remat_layers)
            here = (ends > 0) & (ends <= size)  # the windows that start after a frame of this segment
            at_starts = jax.tree.map(lambda new, old: _select(here, new, old), states, at_starts)
            return (state, at_starts), None

        xs = (jnp.arange(count), *segments)
        if count == 1:  # nothing to carry: the states of a large memory are held once
            (_, at_starts), _ = step(self, (state, at_starts), jax.tree.map(lambda x: x[0], xs))
        else:
            scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
            (_, at_starts), _ = scan(self, (state, at_starts), xs)
        if config.memory.bptt == "none":
            at_starts = jax.lax.stop_gradient(at_starts)
        return jax.tree.map(lambda s: rearrange(s, "l b k ... -> b k l ..."), at_starts)

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
          memory: the memory before the window.
          count: frames in the window, 0..window-1.
        """
        shared = self.config.memory.shared
        c = self._condition(self._context_levels(frames), actions)
        ends = None if shared else jnp.full((frames.shape[0], 1), count)

        def layer(block: Block, x: Array, state: PyTree) -> tuple[Array, tuple[PyTree, KVCache]]:
            x, _, states, kv = block(x, c, state, span=frames.shape[1], shared=shared, ends=ends)
            return x, (states, kv)

        before = _layers_first(memory)
        if frames.shape[1] == 0:
            return WindowCache(before, self._empty_kv(frames.shape[0]))
        _, (states, kv) = self._scan_layers(layer, self._embed(frames), before, False)
        if shared:
            return WindowCache(before, kv)
        # The mixer gives an arbitrary state after 0 frames.
        state = jax.tree.map(lambda new, old: jnp.where(count > 0, new[:, :, 0], old), states, before)
        return WindowCache(state, kv)

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
        c = self._condition(jnp.full((frame.shape[0], 1), level), action[:, None])

        def layer(block: Block, x: Array, cache: WindowCache) -> tuple[Array, WindowCache]:
            x, state, own = block.next_frame(
                x, c, cache.state, cache.kv, position, shared=self.config.memory.shared
            )
            return x, WindowCache(state, own)

        x, new = self._scan_layers(layer, self._embed(frame[:, None]), cache, False)
        kv = jax.tree.map(
            lambda slots, own: jax.lax.dynamic_update_slice_in_dim(slots, own, position, 4), cache.kv, new.kv
        )
        return self._unembed(x, c)[:, 0], WindowCache(new.state, kv)

    def _empty_kv(self, batch: int) -> KVCache:
        """The keys and values of a window of one frame, which has no slot for earlier ones."""
        config = self.config
        empty = jnp.zeros((config.depth, batch, config.tokens, config.heads, 0, config.width // config.heads))
        return KVCache(*[empty.astype(config.compute_dtype)] * 2)

    def _run_segment(
        self,
        state: PyTree,
        frames: Float[Array, "b t rows cols ch"],
        actions: Float[Array, "b t a"],
        ends: Int[Array, "b k"],
        remat_layers: bool,
    ) -> tuple[PyTree, PyTree]:
        """Runs all layers over clean frames in windows of ``stride``; returns the state after them, and after ``ends``."""
        c = self._condition(self._context_levels(frames), actions)

        def layer(block: Block, x: Array, state: PyTree) -> tuple[Array, tuple[PyTree, PyTree]]:
            x, state, states, _ = block(x, c, state, span=self.config.memory.stride, shared=False, ends=ends)
            return x, (state, states)

        _, states = self._scan_layers(layer, self._embed(frames), state, remat_layers)
        return states

    def _scan_layers(
        self, layer: Callable[[Block, Array, Any], tuple[Array, Any]], x: Array, inputs: PyTree, remat: bool
    ) -> tuple[Array, PyTree]:
        """Scans ``layer(block, x, inputs of the layer) -> (x, outputs of the layer)`` over the depth."""
        scan = nn.scan(
            nn.remat(layer, prevent_cse=False) if remat else layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.config.depth,
        )
        return scan(self.block, x, inputs)

    def _truncate_gradient(self, state: PyTree, frame: Int[Array, ""]) -> PyTree:
        """Stops gradients through time every ``bptt_frames`` frames."""
        config = self.config.memory
        if config.bptt != "truncated":
            return state
        cut = frame % config.bptt_frames == 0
        return jax.tree.map(lambda s: jnp.where(cut, jax.lax.stop_gradient(s), s), state)

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
        angle = levels[..., None].astype(self.config.state_dtype) * jnp.asarray(
            _time_frequencies(), self.config.state_dtype
        )
        time = self.embed_time(jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1))
        return time + self.embed_action(actions)

    def _context_levels(self, frames: Float[Array, "b t rows cols ch"]) -> Int[Array, "b t"]:
        return jnp.full(frames.shape[:2], self.config.context_level)

    def _check(self, frames: Array, levels: Array, actions: Array) -> None:
        config = self.config
        expected = (*frames.shape[:2], *config.latent)
        if frames.shape != expected:
            raise ValueError(
                f"frames: shape {frames.shape}, expected (b, t, {', '.join(map(str, config.latent))})"
            )
        if levels.shape != frames.shape[:2]:
            raise ValueError(f"levels: shape {levels.shape}, expected {frames.shape[:2]} as the frames")
        if actions.shape != (*frames.shape[:2], config.action_dim):
            raise ValueError(
                f"actions: shape {actions.shape}, expected {(*frames.shape[:2], config.action_dim)}"
            )


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
        raise ValueError(
            f"starts: {bad[0]} among them, expected multiples of the stride {stride} from 0 to {length}"
        )


def _layers_first(memory: PyTree) -> PyTree:
    """Leaves (b, l, ...) as (l, b, ...), for the scan over layers."""
    return jax.tree.map(lambda s: jnp.moveaxis(s, 1, 0), memory)


def _select(
    here: Bool[Array, "b k"], new: Float[Array, "l b k ..."], old: Float[Array, "l b k ..."]
) -> Array:
    """Selects per (b, k) in leaves (l, b, k, ...)."""
    return jnp.where(here.reshape(1, *here.shape, *[1] * (new.ndim - 3)), new, old)
