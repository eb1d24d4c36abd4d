"""The state that a training begins with: its newest checkpoint, another model's parameters, or random ones."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from rad_jax.config import ConfigError
from rad_jax.runs.checkpoints import Checkpoints
from rad_jax.runs.initial import initial_params
from rad_jax.runs.training_run import TrainingRun
from rad_jax.training import sharding
from rad_jax.training.step import TrainState, init_state


def start_state(run: TrainingRun, mesh: Mesh, checkpoints: Checkpoints) -> tuple[TrainState, TrainState]:
    """Restores the newest checkpoint, or makes a new state (from ``train.init_from`` if given).

    Returns:
      The state, and a tree of the same structure with the sharding of each leaf.

    Raises:
      ConfigError, CheckpointError, CheckpointMismatch, WeightsError: in one or two lines, what is missing or does not fit.
    """
    config = run.config
    make = partial(init_state, run.model, config)
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
        fingerprint = run.tokenizer.fingerprint
        params = initial_params(config.train.init_from, state.params, config.model, fingerprint)
        ema = state.ema and jax.tree.map(jnp.copy, params)
        state = state._replace(params=params, ema=ema)
    return state, shardings
