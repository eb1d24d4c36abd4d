"""One optimiser step as a pure function of the state and a batch; all randomness is a function of (seed, step)."""

import dataclasses
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from einops import rearrange
from jax.sharding import Mesh
from jax.typing import DTypeLike

from rad_jax.axes import Array, Float, Int, Key, PyTree
from rad_jax.config import Config, DataConfig, SampleConfig
from rad_jax.model import RAD
from rad_jax.model.names import init_params, map_named
from rad_jax.tokenizer import Tokenizer
from rad_jax.training import objective, optimizer, sharding
from rad_jax.training.regimes.archive import Archive, empty_archive, record

TRAINING = 1
"""Purpose that is folded into the seed for training; generation has another, so that the two never share their noise."""


class TrainState(NamedTuple):
    """Everything that a checkpoint holds.

    ``ema`` is the moving average of the parameters, ``archive`` the errors for ``memory.frames = "archive"``; each is None
    without one. ``totals`` sums the metrics since the last logged step.
    """

    step: Int[Array, ""]
    params: PyTree
    opt: PyTree
    ema: PyTree
    totals: dict[str, Float[Array, ""]]
    archive: Archive | None = None


def init_state(model: RAD, config: Config) -> TrainState:
    """The state before the first step."""
    params = init_params(config.model, config.seed)
    ema = optimizer.ema_init(params) if config.train.ema else None
    opt = optimizer.make(config.optimizer, config.train).init(params)
    totals = {name: jnp.zeros(()) for name in ("loss", "error", "grad_norm")}
    return TrainState(jnp.zeros((), jnp.int32), params, opt, ema, totals, empty_archive(config.model))


def abstract_state(model: RAD, config: Config, mesh: Mesh) -> TrainState:
    """The state as `jax.ShapeDtypeStruct`, each with the sharding of its leaf; nothing is allocated."""
    return sharding.with_shardings(_state_shapes(model, _of_a_step(config)), mesh)


def _of_a_step(config: Config) -> Config:
    """What a step depends on; all else, such as paths, is as it is by default, or what goes with every step."""
    data = DataConfig(clip=config.data.clip, condition=config.data.condition)
    train = dataclasses.replace(config.train, sample_every=0)
    parts = {name: getattr(config, name) for name in ("seed", "model", "diffusion", "optimizer", "mesh")}
    return Config(data=data, train=train, sample=SampleConfig(steps=1), **parts)


@lru_cache(maxsize=4)  # to trace it takes a second, and a training asks three times before its first step
def _state_shapes(model: RAD, config: Config) -> TrainState:
    return jax.eval_shape(partial(init_state, model, config))


def step_key(seed: int, step: int | Int[Array, ""]) -> Key[Array, ""]:
    """The key of all random numbers of a training step."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), TRAINING), step)


def latents_of(
    batch: dict[str, Array], tokenizer: Tokenizer | None, dtype: DTypeLike
) -> Float[Array, "b t rows cols ch"]:
    """The batch's latents: stored (then no tokenizer is needed), or encoded from its uint8 images."""
    if "latents" in batch:
        return batch["latents"].astype(dtype)
    return tokenizer.encode(batch["frames"].astype(dtype) / 255).astype(dtype)


def compile_step(model: RAD, config: Config, mesh: Mesh) -> jax.stages.Wrapped:
    """`train_step` as a jitted function (tokenizer, state, batch) -> (state, metrics), which donates the state.

    The state is where `abstract_state` has it; the batch is split over all devices of ``mesh``.
    """
    return _compile_step(model, _of_a_step(config), mesh)


@lru_cache(maxsize=4)  # a notebook that trains again does not compile again
def _compile_step(model: RAD, config: Config, mesh: Mesh) -> jax.stages.Wrapped:
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(model, config, mesh))
    return jax.jit(
        partial(train_step, model, config),
        in_shardings=(sharding.replicated(mesh), shardings, sharding.batch_sharding(mesh)),
        out_shardings=(shardings, sharding.replicated(mesh)),
        donate_argnums=1,
    )


def train_step(
    model: RAD, config: Config, tokenizer: Tokenizer | None, state: TrainState, batch: dict[str, Array]
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """One step of AdamW on the Diffusion Forcing loss.

    If the loss, the gradient's norm or a new parameter is not finite, the state comes back as it was, and the metric
    ``finite`` is false.

    Args:
      tokenizer: what encodes the batch's images, a pytree; None where latents are stored.

    Returns:
      The new state, and the step's metrics; those in ``totals`` are means since the last logged step.
    """
    key = step_key(config.seed, state.step)
    frames = latents_of(batch, tokenizer, config.model.state_dtype)
    random = objective.step_randomness(model, config.diffusion, config.train, key, frames, batch["actions"])
    gradient = jax.value_and_grad(partial(_loss, model, config, state.archive), has_aux=True)
    groups = config.train.accumulate
    if groups == 1:
        (value, (extra, residuals)), grads = gradient(state.params, frames, batch["actions"], random)
    else:
        split = jax.tree.map(
            lambda x: rearrange(x, "(b g) ... -> g b ...", g=groups), (frames, batch["actions"], random)
        )
        zero = jnp.zeros((), frames.dtype)
        zeros = (zero, {"error": zero}), jax.tree.map(jnp.zeros_like, state.params)

        def add(total: PyTree, group: PyTree) -> tuple[PyTree, PyTree]:
            (value, (extra, residuals)), grads = gradient(state.params, *group)
            return optax.tree.add(total, ((value, extra), grads)), residuals

        sums, residuals = jax.lax.scan(add, zeros, split)
        (value, extra), grads = jax.tree.map(lambda x: x / groups, sums)
        residuals = jax.tree.map(lambda x: rearrange(x, "g b ... -> (b g) ..."), residuals)
    with jax.named_scope("optimizer"):
        grad_norm = optax.tree.norm(grads)
        updates, opt = optimizer.make(config.optimizer, config.train).update(grads, state.opt, state.params)
        params = optax.apply_updates(state.params, updates)
    with jax.named_scope("ema"):
        ema = state.ema and optimizer.ema_update(state.ema, params, config.train.ema, state.step)
    fresh = state.step % config.train.log_every == 0
    now = {"loss": value, **extra, "grad_norm": grad_norm}
    totals = jax.tree.map(lambda total, x: jnp.where(fresh, 0, total) + x, state.totals, now)
    count = state.step % config.train.log_every + 1
    metrics = {name: total / count for name, total in totals.items()}
    metrics["learning_rate"] = optimizer.learning_rate(config.optimizer, config.train, state.step)
    archive = state.archive and record(config.model.memory, state.archive, residuals, random.levels)
    new = TrainState(state.step + 1, params, opt, ema, totals, archive)
    with jax.named_scope("finite"):
        # The parameters too: a learning rate that is too large spoils them after a loss and a gradient that are finite.
        finite = jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves((value, grad_norm, params))]).all()
        state = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, state)
    return state, metrics | {"finite": finite}


def _loss(
    model: RAD, config: Config, archive: Archive | None, params: PyTree, *batch: PyTree
) -> tuple[Float[Array, ""], objective.Aside]:
    """The loss; gradients of parameters that stay as they are are zero, and are not computed."""

    def without_gradient(name: str, param: Array) -> Array:
        return jax.lax.stop_gradient(param) if optimizer.is_frozen(config.train, name) else param

    params = map_named(without_gradient, params)
    return objective.loss(model, config.diffusion, config.train, params, *batch, archive)
