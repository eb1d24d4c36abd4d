"""The training objective: Diffusion Forcing with memory.

    choose window starts (`train.revisit`, `train.chain`);
    H = prefetch(video)[starts], its frames clean, noised, predicted by the model or given errors of it (`memory.frames`),
        or empty (`memory.drop`);
    noise every frame of every window at its own level;
    loss = weighted mean over frames of |prediction - target|^2

All randomness of a step is drawn first, for the whole batch, so that neither gradient accumulation nor the number of
windows run together changes what is computed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Shaped

from rad_jax import diffusion
from rad_jax.arrays import window_of
from rad_jax.axes import Array, Bool, Float, Int, Key, PyTree
from rad_jax.config import DiffusionConfig, TrainConfig, window_starts
from rad_jax.model import RAD
from rad_jax.model.memory import PER_WINDOW, Memory
from rad_jax.training.regimes.archive import Archive, add_errors
from rad_jax.training.regimes.chain import before_last, chained_starts
from rad_jax.training.regimes.resampling import resample
from rad_jax.training.regimes.starts import draw_starts, revisits


class StepRandomness(NamedTuple):
    """All random numbers of one training step, for the whole batch.

    Attributes:
      starts: the first frames of the windows.
      levels: diffusion level of every frame of every window.
      noise: its noise.
      memory_levels, memory_noise: of the frames that enter the memory, with ``memory.frames = "noised"`` (Table 5), or of
        those from which they are predicted, with "resampled".
      memory_clean: the clips whose true frames enter the memory, with "resampled" and "archive".
      archive_choice, archive_scale: in [0, 1), with "archive": which error of it every frame is given, and how much of it.
      memory_dropped: the windows that read the empty memory: ``memory.drop``.
      chain_noise: from which last frames of windows are predicted: ``train.chain``. Windows of a chain are neighbours in k.
    """

    starts: Int[Array, "b k"]
    levels: Int[Array, "b k w"]
    noise: Float[Array, "b k w rows cols ch"]
    memory_levels: Int[Array, "b t"]
    memory_noise: Float[Array, "b t rows cols ch"]
    memory_clean: Bool[Array, "b"]
    archive_choice: Float[Array, "b t"]
    archive_scale: Float[Array, "b t"]
    memory_dropped: Bool[Array, "b k"]
    chain_noise: Float[Array, "b chains m rows cols ch"]


class Aside(NamedTuple):
    """What comes out beside the loss.

    Attributes:
      metrics: that are logged: ``error``, unweighted.
      residuals: predicted minus true latents of all windows, where there is an archive of them; else ().
    """

    metrics: dict[str, Float[Array, ""]]
    residuals: Float[Array, "b k w rows cols ch"] | tuple


def step_randomness(
    model: RAD,
    config: DiffusionConfig,
    train: TrainConfig,
    key: Key[Array, ""],
    frames: Float[Array, "b t rows cols ch"],
    actions: Float[Array, "b t a"] | None = None,
) -> StepRandomness:
    """Draws distinct window starts per video, and an independent level and noise for every frame of every window.

    Args:
      frames: clips, of which the shape alone matters.
      actions: their conditions, whose poses decide what ``train.revisit`` draws; without it they are not needed.
    """
    (batch, length), memory = frames.shape[:2], model.config.memory
    key_start, key_level, key_noise, key_memory_level, key_memory_noise = jax.random.split(key, 5)
    # A split in more than five could change those five.
    key_memory_clean, key_memory_dropped, key_revisit, key_chain, key_choice, key_scale = (
        jax.random.fold_in(key, index) for index in range(5, 11)
    )
    resampled = memory.frames == "resampled"
    lowest, highest = memory.resample_levels if resampled else (0, memory.noised_levels - 1)
    candidates = np.asarray(_candidates(model, train, length))
    dropped = jax.random.bernoulli(key_memory_dropped, memory.drop, (batch, train.windows))
    if train.revisit:
        preferred = revisits(model.config, actions, candidates)
        starts, revisit = draw_starts(key_revisit, candidates, preferred, train.revisit, train.windows)
        dropped &= ~revisit  # the model would learn to ignore its memory where it counts
    else:
        order = jnp.tile(jnp.asarray(candidates), (batch, 1))
        starts = jax.random.permutation(key_start, order, axis=1, independent=True)[:, : train.windows]
    shape = (batch, train.windows * train.chain, model.config.window)
    noise_of_chains = (batch, train.windows, train.chain - 1, *frames.shape[2:])
    return StepRandomness(
        starts=chained_starts(train, starts),
        levels=jax.random.randint(key_level, shape, 0, config.levels),
        noise=jax.random.normal(key_noise, (*shape, *frames.shape[2:]), frames.dtype),
        memory_levels=jax.random.randint(key_memory_level, frames.shape[:2], lowest, highest + 1),
        memory_noise=jax.random.normal(key_memory_noise, frames.shape, frames.dtype),
        memory_clean=jax.random.bernoulli(key_memory_clean, memory.resample_clean, (batch,)),
        archive_choice=jax.random.uniform(key_choice, frames.shape[:2], frames.dtype),
        archive_scale=jax.random.uniform(key_scale, frames.shape[:2], frames.dtype),
        memory_dropped=jnp.repeat(dropped, train.chain, axis=1),
        chain_noise=jax.random.normal(key_chain, noise_of_chains, frames.dtype),
    )


def loss(
    model: RAD,
    config: DiffusionConfig,
    train: TrainConfig,
    params: PyTree,
    frames: Float[Array, "b t rows cols ch"],
    actions: Float[Array, "b t a"],
    random: StepRandomness,
    archive: Archive | None = None,
) -> tuple[Float[Array, ""], Aside]:
    """The loss of a batch of clips, and what comes out beside it.

    Args:
      archive: of the errors that frames are given which enter the memory, with ``memory.frames = "archive"``.
    """
    variables = {"params": params}
    window = model.config.window
    # Frames that come before some window.
    seen = _candidates(model, train, frames.shape[1])[-1] + train.chain - 1
    written = _written(model, config, params, *(x[:, :seen] for x in (frames, actions)), random, archive)
    with jax.named_scope("objective/prefetch"):
        memory = model.apply(variables, written, actions[:, :seen], random.starts, method=RAD.prefetch)
        memory = _drop(model, memory, random.memory_dropped)
    predicted = ()
    if train.chain > 1:
        with jax.named_scope("objective/chain"):
            windows = frames, actions, random.starts, memory, random.chain_noise
            predicted = before_last(model, config, train, params, *windows)

    def window_loss(
        start: Int[Array, "b"],
        predicted: Float[Array, "b m rows cols ch"] | tuple,
        levels: Int[Array, "b w"],
        noise: Float[Array, "b w rows cols ch"],
        memory: Memory,
    ) -> tuple[Float[Array, "b w"], Float[Array, "b w"], Float[Array, "b w rows cols ch"] | tuple]:
        """One window of every video: the weighted and the plain error of every frame, and its residual for the archive."""
        clean, action = (window_of(x, start, window) for x in (frames, actions))
        true = clean
        if train.chain > 1:
            clean = jnp.concatenate([clean[:, : window - train.chain], predicted, clean[:, -1:]], axis=1)
        noised = diffusion.add_noise(config, clean, noise, levels)
        prediction, _ = model.apply(variables, noised, levels, action, memory)
        target = diffusion.target(config, clean, noise, levels)
        error = jnp.square(prediction - target).mean((-3, -2, -1))
        residual = () if archive is None else _residual(config, true, noised, prediction, levels)
        return diffusion.loss_weight(config, levels).astype(error.dtype) * error, error, residual

    # Windows first (k, b, ...): `window_loss` is vmapped over them; the tape of a bank is the same for all.
    randoms = random.starts, predicted, random.levels, random.noise, memory._replace(tape=())
    windows = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), randoms)

    def run(group: PyTree) -> tuple[Array, Array, Array | tuple]:
        *group, own = group
        return jax.vmap(window_loss, in_axes=(0, 0, 0, 0, PER_WINDOW))(*group, own._replace(tape=memory.tape))

    with jax.named_scope("objective/windows"):
        if train.window_batch:
            groups = jax.tree.map(
                lambda x: rearrange(x, "(g k) ... -> g k ...", k=train.window_batch), windows
            )
            # With remat the layers are recomputed already; recomputing the group as well would do it twice.
            found = jax.lax.map(run if model.config.remat else jax.checkpoint(run), groups)
        else:
            found = run(windows)
    weighted, error, residuals = found
    residuals = jax.tree.map(
        lambda x: rearrange(x, "... b w rows cols ch -> b (...) w rows cols ch"), residuals
    )
    return weighted.mean(), Aside({"error": error.mean()}, residuals)


def _residual(
    config: DiffusionConfig,
    true: Float[Array, "b w rows cols ch"],
    noised: Float[Array, "b w rows cols ch"],
    prediction: Float[Array, "b w rows cols ch"],
    levels: Int[Array, "b w"],
) -> Float[Array, "b w rows cols ch"]:
    """Predicted minus true latents."""
    return jax.lax.stop_gradient(diffusion.clean_and_noise(config, noised, prediction, levels)[0] - true)


def _written(
    model: RAD,
    config: DiffusionConfig,
    params: PyTree,
    frames: Float[Array, "b t rows cols ch"],
    actions: Float[Array, "b t a"],
    random: StepRandomness,
    archive: Archive | None,
) -> Float[Array, "b t rows cols ch"]:
    """What enters the memory in place of ``frames``, the first of a clip: ``memory.frames``."""
    memory, length = model.config.memory, frames.shape[1]
    levels, noise = random.memory_levels[:, :length], random.memory_noise[:, :length]
    if memory.frames == "noised":
        return diffusion.add_noise(config, frames, noise, levels)
    if memory.frames == "clean" or memory.resample_clean == 1 or memory.kind == "none" or length == 0:
        return frames
    if memory.frames == "archive":
        choice, scale = random.archive_choice[:, :length], random.archive_scale[:, :length]
        wrong = add_errors(memory, archive, frames, choice, scale)
    else:
        with jax.named_scope("objective/resample"):
            wrong = resample(model, config, params, frames, actions, levels, noise)
    return jnp.where(random.memory_clean[:, None, None, None, None], frames, wrong)


def _drop(model: RAD, memory: Memory, dropped: Bool[Array, "b k"]) -> Memory:
    """The memory of every window, the empty one where it is ``dropped``; all as they are without ``memory.drop``."""
    if not model.config.memory.drop:
        return memory

    def choose(kept: Shaped[Array, "b k ..."], empty: Shaped[Array, "b ..."]) -> Shaped[Array, "b k ..."]:
        return jnp.where(dropped.reshape(*dropped.shape, *[1] * (kept.ndim - 2)), empty[:, None], kept)

    empty = model.initial_memory(dropped.shape[0])
    state, slots = (
        jax.tree.map(choose, *of) for of in ((memory.state, empty.state), (memory.slots, empty.slots))
    )
    return memory._replace(state=state, slots=slots)  # the tape of a bank is that of all windows


def _candidates(model: RAD, train: TrainConfig, length: int) -> range:
    """The frames at which a window, or the first one of a chain, may start in a clip of ``length`` frames."""
    return window_starts(
        length - train.chain + 1, model.config.window, model.config.memory.stride, train.first_start
    )
