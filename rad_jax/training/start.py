"""The state that a training starts from: its newest checkpoint, another model's parameters, or random ones."""

from functools import partial

import jax
from jax.sharding import Mesh

from rad_jax.config import ConfigError
from rad_jax.runs.checkpoints import Checkpoints
from rad_jax.runs.initial import initial_params
from rad_jax.runs.training_run import TrainingRun
from rad_jax.training.optimizer import ema_init
from rad_jax.training.step import TrainState, abstract_state, init_state


def start_state(run: TrainingRun, mesh: Mesh, checkpoints: Checkpoints) -> TrainState:
    """Restores the newest checkpoint, or makes a new state (from ``train.init_from`` if given).

    Raises:
      ConfigError, CheckpointError, CheckpointMismatch, WeightsError: in one or two lines, what is missing or does not fit.
    """
    config = run.config
    abstract = abstract_state(run.model, config, mesh)
    if restored := checkpoints.restore(abstract):
        return restored[0]
    if config.train.freeze == "base" and not config.train.init_from:
        raise ConfigError(
            "train.freeze=base: the base of a new run is random and would stay so; name a trained one with train.init_from"
        )
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    state = jax.jit(partial(init_state, run.model, config), out_shardings=shardings)()
    if config.train.init_from:
        fingerprint = run.tokenizer.fingerprint
        params = initial_params(config.train.init_from, state.params, config.model, fingerprint)
        state = state._replace(params=params, ema=state.ema and ema_init(params))
    return state
