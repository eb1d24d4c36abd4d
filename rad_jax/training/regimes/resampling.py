"""Frames as the model itself makes them, for ``memory.frames = "resampled"``.

A rollout puts generated frames into the memory, prefetch true ones; trained on true frames alone, a memory never meets the
errors that it will be given. Here the model predicts every frame x of a clip once, from a noised copy of it:

    for every window of frames of the clip, one after another, with the memory h before it:
        z  = sqrt(alpha_bar[k]) x + sqrt(1 - alpha_bar[k]) noise      a level k and noise of every frame's own
        x~ = the clean latents that ``memory.resample_steps`` DDIM steps from (z, k, h) lead to
        h  = the memory after the window

The first ``memory.resample_after`` frames of a clip stay true, as the context of a rollout is: a model that sees nothing but
predictions of a place that it has not seen yet learns that its memory is not to be trusted.

Windows do not overlap. With one step x~ is the mean over what a frame may be, hence smoother than a frame that a sampler
generates; more steps bring it nearer to a sample. ``memory.resample`` says after which frames a frame is predicted:

    parallel   its window is denoised as one, every frame from its own level down, and h is that of the *true* frames before
               it (with an empty one the model would invent what a rollout remembers). No prediction reads another window's, so
               errors do not build up along a clip as they do along a rollout; how large they are is decided by the levels
               and the steps alone, which `benchmarks.resampling` compares with rollouts
    chain      every frame reads the predicted ones before it, in its window and in h, as in a rollout: errors build up

The name is after Resampling Forcing (arXiv 2512.15702), whose history is a chain of one step each; the rest is ours.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange

from rad_jax import diffusion
from rad_jax.arrays import fit
from rad_jax.axes import Array, Bool, Float, Int, PyTree
from rad_jax.config import DiffusionConfig
from rad_jax.model import RAD, WindowCache
from rad_jax.model.memory import Memory, at_start, layers_first


def resample(
    model: RAD,
    config: DiffusionConfig,
    params: PyTree,
    frames: Float[Array, "b t rows cols ch"],
    actions: Float[Array, "b t a"],
    levels: Int[Array, "b t"],
    noise: Float[Array, "b t rows cols ch"],
) -> Float[Array, "b t rows cols ch"]:
    """Predictions x~ of the frames of clips, and the true ones of their context; see the module docstring.

    They are constants: no gradient flows through them. One `lax.scan` over the windows holds the memory of one place and the
    activations of one window per clip; those of a chain are of one frame, and a second scan runs over the frames of a window.

    Args:
      frames: clean latents.
      levels: from which each frame is predicted.
      noise: that is mixed into it.
    """
    params, frames, actions = jax.lax.stop_gradient((params, frames, actions))
    variables, length, settings = {"params": params}, frames.shape[1], model.config.memory
    size = (
        model.config.window // settings.stride * settings.stride
    )  # the most frames that end where a memory can
    first = (
        min(settings.resample_after, length) // size * size
    )  # in whole windows before it all frames are true
    if first == length:
        return frames
    count = -(-(length - first) // size)
    chained = settings.resample == "chain"
    kept = jnp.broadcast_to(jnp.arange(length) < settings.resample_after, frames.shape[:2])
    # Frames see none after them, so zeros behind the clip change nothing.
    windows = [
        rearrange(fit(count * size, x[:, first:]), "b (k w) ... -> k b w ...", w=size)
        for x in (frames, actions, levels, noise, kept)
    ]
    ends = jnp.full((frames.shape[0], 1), size)
    memory = model.initial_memory(frames.shape[0])
    if first:
        context = frames[:, :first], actions[:, :first], jnp.full_like(ends, first)
        memory = at_start(model.apply(variables, *context, method=RAD.prefetch), 0)

    def predict(memory: Memory, window: list[Array]) -> tuple[Memory, Array]:
        clean, action, level, noise, kept = window
        noised = diffusion.add_noise(config, clean, noise, level)
        if chained:
            true = kept, clean
            predicted = _one_after_another(model, config, variables, noised, level, action, true, memory)
        else:
            predicted = _restore(
                model, config, lambda z, k: model.apply(variables, z, k, action, memory)[0], noised, level
            )
            predicted = _choose(kept, clean, predicted)
        written = predicted if chained else clean
        after = model.apply(variables, written, action, ends, memory, method=RAD.prefetch)
        return at_start(after, 0), predicted

    _, predicted = jax.lax.scan(predict, memory, windows)
    predicted = rearrange(predicted, "k b w ... -> b (k w) ...")
    return jnp.concatenate([frames[:, :first], predicted], axis=1)[:, :length]


def _choose(
    kept: Bool[Array, "*b"], true: Float[Array, "*b rows cols ch"], predicted: Float[Array, "*b rows cols ch"]
) -> Float[Array, "*b rows cols ch"]:
    return jnp.where(kept[..., None, None, None], true, predicted)


def _one_after_another(
    model: RAD,
    config: DiffusionConfig,
    variables: PyTree,
    noised: Float[Array, "b w rows cols ch"],
    levels: Int[Array, "b w"],
    actions: Float[Array, "b w a"],
    true: tuple[Bool[Array, "b w"], Float[Array, "b w rows cols ch"]],
    memory: Memory,
) -> Float[Array, "b w rows cols ch"]:
    """The frames of a window, each predicted after the predictions of those before it; the ``true`` ones as they are."""
    level = jnp.asarray(model.config.context_level)

    def step(cache: WindowCache, frame: tuple[Array, ...]) -> tuple[WindowCache, Array]:
        position, noised, levels, action, kept, clean = frame

        def next_frame(frame: Array, level: Array) -> tuple[Array, WindowCache]:
            return model.apply(variables, frame, level, action, cache, position, method=RAD.next_frame)

        predicted = _restore(model, config, lambda z, k: next_frame(z, k)[0], noised, levels)
        predicted = _choose(kept, clean, predicted)
        return next_frame(predicted, level)[1], predicted

    frames = [jnp.moveaxis(x, 1, 0) for x in (noised, levels, actions, *true)]
    cache = _empty_window(model, variables, noised, actions, memory)
    _, predicted = jax.lax.scan(step, cache, (jnp.arange(noised.shape[1]), *frames))
    return jnp.moveaxis(predicted, 0, 1)


def _empty_window(
    model: RAD,
    variables: PyTree,
    frames: Float[Array, "b w rows cols ch"],
    actions: Float[Array, "b w a"],
    memory: Memory,
) -> WindowCache:
    """As `RAD.context` of no frames, which never reads the keys and values that it makes of empty slots."""
    memory, slots = layers_first(memory), model.config.window - 1
    frames, actions = (fit(slots, x) for x in (frames, actions))
    shapes = jax.eval_shape(
        lambda: model.apply(variables, frames, actions, memory, jnp.asarray(0), method=RAD.context)
    )
    kv = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes.kv)
    return WindowCache(memory, None if model.config.memory.shared else memory.state, kv)


def _restore(
    model: RAD,
    config: DiffusionConfig,
    predict: Callable[[Array, Array], Array],
    noised: Array,
    levels: Array,
) -> Array:
    """The clean latents that ``memory.resample_steps`` steps of ``predict`` lead to."""
    steps = model.config.memory.resample_steps
    if steps > 1:
        return diffusion.denoise(config, predict, noised, diffusion.levels_from(config, steps, levels))
    # What a single DDIM step does, without a scan and without the noise that it mixes in with weight 0.
    clean, _ = diffusion.clean_and_noise(config, noised, predict(noised, levels), levels)
    return clean
