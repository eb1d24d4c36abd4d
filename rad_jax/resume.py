"""How a run begins: from its newest checkpoint, from another run's parameters, or from nothing."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from rad_jax import sharding
from rad_jax.checkpoints import Checkpoints
from rad_jax.config import Config, ConfigError, config_from_json, diff_configs
from rad_jax.parts import Parts
from rad_jax.schema import show_value
from rad_jax.train_step import MEMORY_NAME, TrainState, init_state

# Keys that may change when a run goes on: no number depends on them, or only in its last bits (speed against memory).
FREE_KEYS = (
    "evaluate.",
    "sample.",
    "checkpoint.",
    "mesh.",
    "data.threads",
    "data.buffer",
    "data.make",
    "data.auto_make",
    "train.sample_every",
    "train.accumulate",
    "train.window_batch",
    "model.remat",
    "memory.prefetch_segment",
    "memory.mixer_segment",
)


def check_same_run(config: Config, workdir: Path) -> None:
    """Raises `ConfigError` if ``workdir`` holds a run whose numbers another configuration made."""
    path = workdir / "config.json"
    if path.exists():
        refuse_changes(config, config_from_json(path.read_text()), workdir)


def refuse_changes(config: Config, run: Config, workdir: Path, among: tuple[str, ...] = ("",)) -> None:
    """Raises `ConfigError` if a key that begins with one of ``among``, and is not free, is not what it was in the run."""
    differing = diff_configs(run, config).items()
    changed = {k: values for k, values in differing if k.startswith(among) and not k.startswith(FREE_KEYS)}
    if changed:
        key, (old, new) = next(iter(changed.items()))
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise ConfigError(
            f"{key}={show_value(new)}: {workdir} holds a run with {show_value(old)}{more}; choose another --workdir"
        )


def start_state(parts: Parts, mesh: Mesh, checkpoints: Checkpoints) -> tuple[TrainState, TrainState]:
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
        with Checkpoints(Path(config.train.init_from) / "checkpoints") as source:
            found = source.restore_part("params", state.params, optional=lambda name: MEMORY_NAME in name)
        if found is None:
            raise ConfigError(f"train.init_from={config.train.init_from}: there is no checkpoint")
        params = found[0]
        ema = state.ema and jax.tree.map(jnp.copy, params)
        state = state._replace(params=params, ema=ema)
    return state, shardings
