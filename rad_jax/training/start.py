"""How a training begins: from the newest checkpoint of its run, from parameters of another model, or from nothing."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from rad_jax.config import ConfigError
from rad_jax.runs.checkpoints import Checkpoints
from rad_jax.runs.initial import initial_params
from rad_jax.runs.open import TrainingRun
from rad_jax.training import sharding
from rad_jax.training.step import TrainState, init_state


def start_state(parts: TrainingRun, mesh: Mesh, checkpoints: Checkpoints) -> tuple[TrainState, TrainState]:
    """The newest checkpoint, or a new state (from ``train.init_from`` if given), and how it lies on the devices."""
    config = parts.config
    make = partial(init_state, parts.model, config)
    abstract = jax.eval_shape(make)
    shardings = sharding.state_shardings(abstract, mesh)
    restored = checkpoints.restore(sharding.with_shardings(abstract, shardings))
    if restored is not None:
        return restored[0], shardings
    if config.train.freeze == "base" and not config.train.init_from:
        raise ConfigError(
            "train.freeze=base: the base of a new run is random and would stay so; name a trained one with train.init_from"
        )
    state = jax.jit(make, out_shardings=shardings)()
    if config.train.init_from:
        fingerprint = parts.tokenizer.fingerprint
        params = initial_params(config.train.init_from, state.params, config.model, fingerprint)
        ema = state.ema and jax.tree.map(jnp.copy, params)
        state = state._replace(params=params, ema=ema)
    return state, shardings
