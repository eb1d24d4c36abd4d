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

A `Memory` has leaves with axes (b, l, ...): batch, layers, and those of the mixer's state (tokens first, if every token has
its own) or of the records of a bank; without memory it has no leaves. In the last three uses the layers come first,
(l, b, ...), as the scan over them wants it: so a rollout rearranges nothing from frame to frame.
"""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn
from jaxtyping import Shaped

from rad_jax.arrays import fit
from rad_jax.axes import Array, Float, Int, PyTree
from rad_jax.config import ModelConfig, check_without_pose
from rad_jax.model import addressing, mixers
from rad_jax.model.attention import KVCache, xavier
from rad_jax.model.block import Block, Modulation, level_waves, modulate
from rad_jax.model.memory import (
    Memory,
    WindowCache,
    batch_first,
    check_starts,
    layers_first,
    readings,
    settle,
    slots_after,
    slots_along,
)


class RAD(nn.Module):
    """The model; see the module docstring, and `rad_jax.config.ModelConfig` for its settings."""

    config: ModelConfig

    def setup(self):
        config, types = self.config, self.config.types
        if config.pose is None:  # then there is none
            check_without_pose(config.memory)
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
        memory: Memory | None = None,
    ) -> tuple[Float[Array, "b t rows cols ch"], Memory]:
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
        memory = layers_first(self.initial_memory(batch) if memory is None else memory)
        stride = min(config.memory.stride, length)
        prediction, _, states, tape, _ = self._run(
            frames,
            levels,
            actions,
            memory,
            span=length,
            shared=config.memory.shared,
            ends=jnp.full((batch, 1), stride),
            reading=readings(self.config, frames, actions, memory.slots),
            records=stride,
            remat=config.remat,
        )
        states = jax.tree.map(lambda s: rearrange(s, "l b 1 ... -> l b ..."), states)
        _, slots = slots_along(config, memory, frames[:, :stride], actions[:, :stride])
        return prediction, batch_first(settle(Memory(states, tape, slots)))

    @nn.nowrap
    def initial_memory(self, batch: int) -> Memory:
        """The memory of a model that has seen nothing; works on an unbound module."""
        config = self.config
        if config.memory.kind == "none":
            return Memory()
        mixer = mixers.build(config, parent=None)
        memory = Memory(mixer.initial_state(batch, config.tokens))
        if config.memory.has_tape:
            tape = mixer.empty_tape(batch, config.tokens, config.memory.capacity)
            memory = memory._replace(tape=tape, slots=addressing.empty_slots(config, batch))
        return memory.of_layers(lambda s: jnp.repeat(s[:, None], config.depth, axis=1))

    def prefetch(
        self,
        frames: Float[Array, "b t rows cols ch"],
        actions: Float[Array, "b t a"],
        starts: Int[Array, "b k"],
        memory: Memory | None = None,
    ) -> Memory:
        """Runs the memory along clean frames and returns it where windows start (paper section 4.3 and appendix A.3).

        One `lax.scan` over segments of ``memory.prefetch_segment`` frames. In a segment attention is parallel over
        groups of ``stride`` frames (those that enter the memory of a window, its first ones, see one another alone), layer
        by layer, and only the mixers run in time. Steps are rematerialised, and states are emitted at the starts alone, so
        that what is stored does not grow with the number of frames. A bank has no recurrence in time: all frames are one
        segment.

        Args:
          frames: clean latents (or noised or predicted ones, see ``memory.frames``), labelled with ``context_level``.
          actions: the action that led to each frame.
          starts: how many frames each returned memory has seen: multiples of ``stride`` in 0..t.
          memory: the memory before the first frame; None is the empty one.

        Returns:
          The memory at each start, leaves with axes (b, k, l, ...); the tape of a bank (b, l, ...) is that of all starts.
        """
        config, (batch, length), stride = self.config, frames.shape[:2], self.config.memory.stride
        self._check(frames, actions)
        check_starts(starts, length, stride)
        if config.memory.kind == "none":
            return Memory()
        if length and config.memory.has_tape:
            return self._prefetch_tape(frames, actions, starts, memory)
        memory = self.initial_memory(batch) if memory is None else memory
        if length == 0:
            return memory.of_windows(lambda s: jnp.repeat(s[:, None], starts.shape[1], axis=1))
        size = min(config.memory.prefetch_segment, -(-length // stride) * stride)
        count = -(-length // size)
        segments = [
            rearrange(fit(count * size, x), "b (g s) ... -> g b s ...", s=size) for x in (frames, actions)
        ]
        state = layers_first(memory).state
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
            memory, states = advance(model, Memory(state), frames, actions, ends, remat_layers)

            def select(new: Shaped[Array, "l b k ..."], old: Shaped[Array, "l b k ..."]) -> Array:
                here = (ends > 0) & (ends <= size)  # the windows that start after a frame of this segment
                return jnp.where(here.reshape(1, *here.shape, *[1] * (new.ndim - 3)), new, old)

            return (memory.state, jax.tree.map(select, states, at_starts)), None

        xs = (size * jnp.arange(count), *segments)
        if count == 1:  # nothing to carry: the states of a large memory are held once
            (_, at_starts), _ = step(self, (state, at_starts), tuple(x[0] for x in xs))
        else:
            scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
            (_, at_starts), _ = scan(self, (state, at_starts), xs)
        if config.memory.bptt == "none":
            at_starts = jax.lax.stop_gradient(at_starts)
        return Memory(jax.tree.map(lambda s: rearrange(s, "l b k ... -> b k l ..."), at_starts))

    def _prefetch_tape(
        self,
        frames: Float[Array, "b t rows cols ch"],
        actions: Float[Array, "b t a"],
        starts: Int[Array, "b k"],
        memory: Memory | None,
    ) -> Memory:
        """As `prefetch`, of a bank: records of all frames at once, and which of them are held at each start."""
        config, batch = self.config, frames.shape[0]
        if memory is None:  # a tape that holds the new frames alone
            memory = self.initial_memory(batch)
            memory = memory._replace(tape=jax.tree.map(lambda s: s[:, :, :0], memory.tape))
        before, after = slots_along(self.config, memory, frames, actions)
        reading = readings(self.config, frames, actions, before)
        settings = {"span": 1, "shared": False, "records": frames.shape[1], "remat": config.remat}
        settings |= {"reading": reading, "predicts": False}
        _, _, _, tape, _ = self._run(frames, None, actions, layers_first(memory), **settings)
        if config.memory.bptt == "none":
            tape = jax.lax.stop_gradient(tape)
        slots = slots_after(before, after, starts)
        return batch_first(Memory((), tape, slots))

    def advance(
        self,
        memory: Memory,
        frames: Float[Array, "b t rows cols ch"],
        actions: Float[Array, "b t a"],
        ends: Int[Array, "b k"] | None = None,
        remat: bool = False,
    ) -> tuple[Memory, PyTree | None]:
        """Runs all layers over clean frames, a multiple of ``stride``; the layers come first, as in a `WindowCache`.

        Returns the memory after the frames, and the states after the first ``ends`` of them (l, b, k, ...).
        """
        stride = self.config.memory.stride
        before, after = slots_along(self.config, memory, frames, actions)
        settings = {"span": stride, "shared": False, "ends": ends, "remat": remat}
        bank = {"reading": readings(self.config, frames, actions, before), "records": frames.shape[1]}
        _, state, states, tape, _ = self._run(
            frames, None, actions, memory, predicts=False, **settings, **bank
        )
        return settle(Memory(state, tape, after)), states

    def context(
        self,
        frames: Float[Array, "b t rows cols ch"],
        actions: Float[Array, "b t a"],
        memory: Memory,
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
        _, _, states, _, kv = self._run(
            frames,
            None,
            actions,
            memory,
            span=max(1, slots),
            shared=not runs,
            ends=jnp.full((frames.shape[0], 1), count) if runs else None,
            reading=readings(self.config, frames, actions, memory.slots),
        )
        state = None if shared else memory.state
        if runs:  # the mixer gives an arbitrary state after 0 frames
            state = jax.tree.map(
                lambda new, old: jnp.where(count > 0, new[:, :, 0], old), states, memory.state
            )
        return WindowCache(memory, state, kv)

    def next_frame(
        self,
        frame: Float[Array, "b rows cols ch"],
        level: Int[Array, ""] | Int[Array, "b"],
        action: Float[Array, "b a"],
        cache: WindowCache,
        position: Int[Array, ""],
    ) -> tuple[Float[Array, "b rows cols ch"], WindowCache]:
        """Denoises the frame at ``position`` of a window whose earlier frames are in ``cache``.

        Args:
          frame: the noised latent.
          level: its diffusion level, of all videos or of each.
          action: the action that leads to it.
          cache: of `context`, or of this method at the position before.
          position: 0..window-1.

        Returns:
          The prediction, and the cache with the frame appended, which is what the next frame of the window reads if this
          one was clean and at the context level.
        """
        chex.assert_shape(action, (frame.shape[0], self.config.action_dim), custom_message="action")
        levels = jnp.broadcast_to(level, frame.shape[:1])[:, None]
        shared, frames, actions = self.config.memory.shared, frame[:, None], action[:, None]
        memory = cache.memory if shared else Memory(cache.state)
        reading = readings(self.config, frames, actions, memory.slots)
        settings = {"position": position, "shared": shared, "reading": reading}
        prediction, state, _, _, own = self._run(frames, levels, actions, memory, cache.kv, **settings)
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
        memory: Memory,
        kv: KVCache | None = None,
        *,
        remat: bool = False,
        predicts: bool = True,
        **settings: Any,
    ) -> tuple[Float[Array, "b t rows cols ch"], PyTree, PyTree | None, PyTree, KVCache]:
        """Embeds frames, scans `Block` over the layers of ``memory`` and ``kv`` (axis 0), and unembeds the prediction.

        Without ``levels`` the frames are clean, and labelled with ``context_level``. What else comes back, and
        ``settings``, is as the block has it, the layers first. What is not used is not computed; where the prediction is not
        (``predicts``), nothing reads a tape in the last layer.
        """
        if levels is None:
            levels = jnp.full(frames.shape[:2], self.config.context_level)
        c = self._condition(levels, actions)
        if self.config.memory.posed:
            settings["pose"] = addressing.pose_of(self.config, actions)

        def layer(block: Block, x: Array, inputs: PyTree) -> tuple[Array, tuple]:
            number, state, tape, kv = inputs
            reads = None if predicts else number < self.config.depth - 1
            x, *outputs = block(x, c, state, kv, tape=tape, reads=reads, **settings)
            return x, tuple(outputs)

        scan = nn.scan(
            nn.remat(layer, prevent_cse=False) if remat else layer,
            variable_axes={
                "params": 0,
                "intermediates": 0,
            },  # what a probe captures, such as `benchmarks.probe`
            split_rngs={"params": True},
            length=self.config.depth,
        )
        inputs = jnp.arange(self.config.depth), memory.state, memory.tape, kv
        x, outputs = scan(self.block, self._embed(frames), inputs)
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
        return self.embed_time(level_waves(levels, self.config.state_dtype)) + self.embed_action(actions)

    def _check(self, frames: Array, actions: Array) -> None:
        chex.assert_shape(frames, (None, None, *self.config.latent), custom_message="frames")
        chex.assert_shape(actions, (*frames.shape[:2], self.config.action_dim), custom_message="actions")
