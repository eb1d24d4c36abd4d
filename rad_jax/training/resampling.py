"""Frames as the model itself would write them into its memory, for ``memory.frames = "resampled"``.

A rollout puts generated frames into the memory, prefetch true ones; trained on true frames alone, a memory never meets the
errors that it will be given. Here the model predicts every frame of a clip once, in one step, from a noised copy of it:

    for every window of frames x of the clip, one after another, with the memory h before it:
        z  = sqrt(alpha_bar[k]) x + sqrt(1 - alpha_bar[k]) noise          a level k and noise of every frame's own
        x~ = the clean latents that the prediction from (z, k, h) implies: `diffusion.clean_and_noise`
        h  = the memory after x

Windows do not overlap. They read the memory of the *true* frames before them: with an empty one the model would invent what
a rollout remembers, and the errors would be those of a model without memory. Since windows do not read each other's x~, errors
do not build up along a clip as they do along a rollout; how large they are is decided by the levels alone, which
`benchmarks.resampling` compares with rollouts. x~ is the mean over what a frame may be, hence smoother than a frame that a
sampler generates in many steps. The name is after Resampling Forcing (arXiv 2512.15702), the recipe is ours.
"""

import jax
import jax.numpy as jnp
from einops import rearrange

from rad_jax import diffusion
from rad_jax.arrays import fit
from rad_jax.axes import Array, Float, Int, PyTree
from rad_jax.config import DiffusionConfig
from rad_jax.model import RAD
from rad_jax.model.memory import Memory, at_start


def resample(
    model: RAD,
    config: DiffusionConfig,
    params: PyTree,
    frames: Float[Array, "b t rows cols ch"],
    actions: Float[Array, "b t a"],
    levels: Int[Array, "b t"],
    noise: Float[Array, "b t rows cols ch"],
) -> Float[Array, "b t rows cols ch"]:
    """One-step predictions x~ of all frames of clips, which are constants: no gradient flows through them.

    One `lax.scan` over the windows, which holds the memory of one place and the activations of one window per clip.

    Args:
      frames: clean latents.
      levels: from which each frame is predicted.
      noise: that is mixed into it.
    """
    params, frames, actions = jax.lax.stop_gradient((params, frames, actions))
    variables, length = {"params": params}, frames.shape[1]
    size = window_frames(model)
    count = -(-length // size)
    # Frames see none after them, so zeros behind the clip change nothing.
    windows = [
        rearrange(fit(count * size, x), "b (k w) ... -> k b w ...", w=size)
        for x in (frames, actions, levels, noise)
    ]
    ends = jnp.full((frames.shape[0], 1), size)

    def predict(memory: Memory, window: list[Array]) -> tuple[Memory, Array]:
        clean, action, level, noise = window
        noised = diffusion.add_noise(config, clean, noise, level)
        prediction, _ = model.apply(variables, noised, level, action, memory)
        predicted, _ = diffusion.clean_and_noise(config, noised, prediction, level)
        after = model.apply(variables, clean, action, ends, memory, method=RAD.prefetch)
        return at_start(after, 0), predicted

    _, predicted = jax.lax.scan(predict, model.initial_memory(frames.shape[0]), windows)
    return rearrange(predicted, "k b w ... -> b (k w) ...")[:, :length]


def window_frames(model: RAD) -> int:
    """Frames of a window here: the most that fit and end where a memory can: a multiple of the stride."""
    stride = model.config.memory.stride
    return model.config.window // stride * stride
