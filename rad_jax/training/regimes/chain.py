"""Windows that follow one another from one start, in whose later ones the model reads its own predictions: ``train.chain``.

A rollout reads its own frames in the window, training true ones. In a chain of c windows, which start a frame apart,

    for m = 0 .. c - 2:
        frame W - 1 of window m is predicted from the frames before it in the window, in ``train.chain_steps`` DDIM steps
        and takes the place of the true one in windows m + 1 .. c - 1
    the loss is the mean over the c windows, as of windows that were drawn one by one

which is the chain of Memory Forcing (arXiv 2510.03198). The predictions are constants. In a later window such a frame is
noised, and learned, as a true one is. The windows' memories are of the true frames: with c <= W no predicted one is so early.
"""

from functools import partial

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Shaped

from rad_jax import diffusion
from rad_jax.arrays import window_of
from rad_jax.axes import Array, Float, Int, PyTree
from rad_jax.config import DiffusionConfig, TrainConfig
from rad_jax.model import RAD
from rad_jax.model.memory import Memory, layers_first


def chained_starts(train: TrainConfig, starts: Int[Array, "b k"]) -> Int[Array, "b kc"]:
    """The starts of all windows of chains, those of a chain one after another."""
    return rearrange(starts[:, :, None] + jnp.arange(train.chain), "b k c -> b (k c)")


def before_last(
    model: RAD,
    config: DiffusionConfig,
    train: TrainConfig,
    params: PyTree,
    frames: Float[Array, "b t rows cols ch"],
    actions: Float[Array, "b t a"],
    starts: Int[Array, "b kc"],
    memory: Memory,
    noise: Float[Array, "b k m rows cols ch"],
) -> Float[Array, "b kc m rows cols ch"]:
    """The ``chain - 1`` frames before the last one of every window, predicted where an earlier window of its chain has done so.

    Args:
      starts, memory: of all windows, as `chained_starts` has them.
      noise: from which the last frame of every window but a chain's last is predicted.
    """
    count, window = train.chain, model.config.window
    first = starts[:, ::count]
    predict = partial(
        _predict_last_frames, model, config, train, *jax.lax.stop_gradient((params, memory.tape))
    )
    clips = [
        jax.vmap(window_of, in_axes=(None, 1, None))(x, first, window + count - 1) for x in (frames, actions)
    ]
    memory = memory.of_windows(lambda x: rearrange(x, "b (k c) ... -> k c b ...", c=count)[:, : count - 1])
    chains = (*clips, memory._replace(tape=()), rearrange(noise, "b k m ... -> k m b ..."))
    at_once = train.window_batch or first.shape[1]
    clips = jax.lax.map(lambda chain: predict(*chain), jax.lax.stop_gradient(chains), batch_size=at_once)

    def of_window(m: int) -> Shaped[Array, "k b m ..."]:
        # Window m is frames m .. m + W - 1 of the chain's clip.
        return clips[:, :, m + window - count : m + window - 1]

    return rearrange(jnp.stack([of_window(m) for m in range(count)]), "c k b ... -> b (k c) ...")


def _predict_last_frames(
    model: RAD,
    config: DiffusionConfig,
    train: TrainConfig,
    params: PyTree,
    tape: PyTree,
    frames: Float[Array, "b t rows cols ch"],
    actions: Float[Array, "b t a"],
    memory: Memory,
    noise: Float[Array, "m b rows cols ch"],
) -> Float[Array, "b t rows cols ch"]:
    """The frames of one chain per video, with the last one of every window but the last replaced by its prediction."""
    apply, window = partial(model.apply, {"params": params}), model.config.window
    levels, last = jnp.asarray(diffusion.sampler_levels(config, train.chain_steps)), jnp.asarray(window - 1)

    def step(frames: Array, inputs: tuple[Array, Memory, Array]) -> tuple[Array, None]:
        m, memory, noise = inputs
        now, action = (jax.lax.dynamic_slice_in_dim(x, m, window, axis=1) for x in (frames, actions))
        memory = layers_first(memory._replace(tape=tape))
        cache = apply(now[:, :-1], action[:, :-1], memory, last, method=RAD.context)

        def predict(frame: Array, level: Array) -> Array:
            return apply(frame, level, action[:, -1], cache, last, method=RAD.next_frame)[0]

        predicted = diffusion.denoise(config, predict, noise, levels)
        return jax.lax.dynamic_update_slice_in_dim(frames, predicted[:, None], m + window - 1, axis=1), None

    return jax.lax.scan(step, frames, (jnp.arange(train.chain - 1), memory, noise))[0]
