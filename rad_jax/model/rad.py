"""RAD: a latent video diffusion transformer with local attention and a recurrent memory in every block.

One stack of blocks serves four uses, each a method of `RAD`:

    __call__   one window of noised frames                    (training; the literal definition of generation)
    prefetch   the memory at chosen places of a clean video   (training, start of a rollout, slide of a window)
    context    the clean frames of a window, kept             (generation: keys, values and state a new frame reads)
    next_frame the frame after them                           (generation: one sampler step)

The last two together equal the first, because temporal attention is causal.

A memory, where it crosses this interface, is a pytree whose leaves have axes (b, l, ...): batch, layers, and those of the
mixer's state (tokens first, if every token has its own); without memory it has no leaves. `Live` is the same thing inside
a window, kept in the order of the layer scan.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn

from rad_jax.axes import Array, Float, Int, PyTree
from rad_jax.config import ModelConfig
from rad_jax.model import mixers
from rad_jax.model.adaln import Modulation, modulate
from rad_jax.model.attention import Past, xavier
from rad_jax.model.block import Block

TIME_FEATURES = 256


class Live(NamedTuple):
    """What a new frame of a window reads, leaves with a leading layer axis: mixer state, keys and values of the window."""

    state: PyTree
    past: Past


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
        stops = jnp.full((frames.shape[0], 1), slide)

        def layer(block, x, state):
            x, _, kept, _ = block(x, c, state, span=frames.shape[1], shared=config.memory.shared, stops=stops)
            return x, kept

        x, kept = self._layers(layer, self._embed(frames), _layers_first(memory), config.remat)
        return self._unembed(x, c), jax.tree.map(lambda s: rearrange(s, "l b 1 ... -> b l ..."), kept)

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
        remat = (
            config.remat
        )  # a long scan bounds memory by redoing its steps, a single step by redoing its layers
        run_segment = (
            nn.remat(RAD._segment, prevent_cse=False, static_argnums=(5,))
            if remat and count > 1
            else RAD._segment
        )

        state = _layers_first(memory)
        collected = jax.tree.map(lambda s: jnp.repeat(s[:, :, None], starts.shape[1], axis=2), state)

        def step(model, carry, segment):
            state, collected = carry
            index, frames, actions = segment
            stops = starts - index * size
            state, kept = run_segment(
                model, self._cut(state, index * size), frames, actions, stops, remat and count == 1
            )
            here = (stops > 0) & (stops <= size)
            collected = jax.tree.map(lambda new, old: _where(here, new, old), kept, collected)
            return (state, collected), None

        xs = (jnp.arange(count), *segments)
        if count == 1:  # nothing to carry: the states of a large memory are held once
            (_, collected), _ = step(self, (state, collected), jax.tree.map(lambda x: x[0], xs))
        else:
            scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
            (_, collected), _ = scan(self, (state, collected), xs)
        if config.memory.bptt == "none":
            collected = jax.lax.stop_gradient(collected)
        return jax.tree.map(lambda s: rearrange(s, "l b k ... -> b k l ..."), collected)

    def context(
        self,
        frames: Float[Array, "b t rows cols ch"],
        actions: Float[Array, "b t a"],
        memory: PyTree,
        count: Int[Array, ""],
    ) -> Live:
        """What the next frame of a window reads.

        Args:
          frames: ``window - 1`` slots, the first ``count`` of which are the window's clean frames; the rest is never read.
          actions: the action that led to each frame.
          memory: the memory before the window.
          count: frames in the window, 0..window-1.
        """
        shared = self.config.memory.shared
        c = self._condition(self._context_levels(frames), actions)
        stops = None if shared else jnp.full((frames.shape[0], 1), count)

        def layer(block, x, state):
            x, _, kept, past = block(x, c, state, span=frames.shape[1], shared=shared, stops=stops)
            return x, (kept, past)

        before = _layers_first(memory)
        if frames.shape[1] == 0:
            return Live(before, self._no_past(frames.shape[0]))
        _, (kept, past) = self._layers(layer, self._embed(frames), before, False)
        if shared:
            return Live(before, past)
        return Live(
            jax.tree.map(lambda new, old: jnp.where(count > 0, new[:, :, 0], old), kept, before), past
        )

    def next_frame(
        self,
        frame: Float[Array, "b rows cols ch"],
        level: Int[Array, ""],
        action: Float[Array, "b a"],
        live: Live,
        position: Int[Array, ""],
    ) -> tuple[Float[Array, "b rows cols ch"], Live]:
        """Denoises the frame at ``position`` of a window whose earlier frames are in ``live``.

        Returns the prediction, and ``live`` with the frame appended, which is what the frame after it in the window reads if
        this one was clean and at the context level.
        """
        c = self._condition(jnp.full((frame.shape[0], 1), level), action[:, None])

        def layer(block, x, live):
            x, state, own = block.after(
                x, c, live.state, live.past, position, shared=self.config.memory.shared
            )
            return x, Live(state, own)

        x, new = self._layers(layer, self._embed(frame[:, None]), live, False)
        past = jax.tree.map(
            lambda p, own: jax.lax.dynamic_update_slice_in_dim(p, own, position, 4), live.past, new.past
        )
        return self._unembed(x, c)[:, 0], Live(new.state, past)

    def _no_past(self, batch):
        """The empty keys and values of a window of one frame, which has no slot for earlier ones."""
        config = self.config
        empty = jnp.zeros((config.depth, batch, config.tokens, config.heads, 0, config.width // config.heads))
        return Past(*[empty.astype(config.compute_dtype)] * 2)

    def _segment(self, state, frames, actions, stops, remat_layers):
        """Runs all layers over clean frames in windows of ``stride``; returns the state and the states at ``stops``."""
        c = self._condition(self._context_levels(frames), actions)

        def layer(block, x, state):
            x, state, kept, _ = block(x, c, state, span=self.config.memory.stride, shared=False, stops=stops)
            return x, (state, kept)

        _, states = self._layers(layer, self._embed(frames), state, remat_layers)
        return states

    def _layers(self, layer, x, inputs, remat):
        """Scans ``layer(block, x, inputs of the layer) -> (x, outputs of the layer)`` over the depth."""
        scan = nn.scan(
            nn.remat(layer, prevent_cse=False) if remat else layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.config.depth,
        )
        return scan(self.block, x, inputs)

    def _cut(self, state, frame):
        """Stops gradients through time every ``bptt_frames`` frames."""
        config = self.config.memory
        if config.bptt != "truncated":
            return state
        cut = frame % config.bptt_frames == 0
        return jax.tree.map(lambda s: jnp.where(cut, jax.lax.stop_gradient(s), s), state)

    def _embed(self, frames):
        patch = self.config.patch
        return self.embed_patch(rearrange(frames, "b t (i p) (j q) c -> b t (i j) (p q c)", p=patch, q=patch))

    def _unembed(self, x, c):
        shift, scale = self.final_modulation(c)
        x = self.unembed_patch(modulate(x, shift, scale)).astype(self.config.state_dtype)
        rows, patch = self.config.grid[0], self.config.patch
        return rearrange(x, "b t (i j) (p q c) -> b t (i p) (j q) c", i=rows, p=patch, q=patch)

    def _condition(self, levels, actions):
        angle = levels[..., None].astype(self.config.state_dtype) * jnp.asarray(
            _time_frequencies(), self.config.state_dtype
        )
        time = self.embed_time(jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1))
        return time + self.embed_action(actions)

    def _context_levels(self, frames):
        return jnp.full(frames.shape[:2], self.config.context_level)

    def _check(self, frames, levels, actions):
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


def _check_starts(starts, length, stride):
    if isinstance(starts, jax.core.Tracer):
        return
    starts = np.asarray(starts)
    bad = starts[(starts < 0) | (starts > length) | (starts % stride != 0)]
    if bad.size:
        raise ValueError(
            f"starts: {bad[0]} among them, expected multiples of the stride {stride} from 0 to {length}"
        )


def _layers_first(memory):
    return jax.tree.map(lambda s: jnp.moveaxis(s, 1, 0), memory)


def _where(here, new, old):
    """Selects per (b, k) in leaves (l, b, k, ...)."""
    return jnp.where(here.reshape(1, *here.shape, *[1] * (new.ndim - 3)), new, old)
