"""What a training starts from: everything is checked first, then its newest checkpoint, another model or random parameters."""

import math
import os
from functools import partial
from pathlib import Path

import jax
from jax.sharding import Mesh

from rad_jax.config import Config, ConfigError
from rad_jax.data.windows import check_clips
from rad_jax.files import check_writable
from rad_jax.files.folders import check_folder
from rad_jax.model.mixers import check_kind
from rad_jax.runs.checkpoints import Checkpoints
from rad_jax.runs.initial import Source, check_source, initial_params, read_source
from rad_jax.runs.manifest import saved_steps
from rad_jax.runs.odometry import with_odometry
from rad_jax.runs.stored_config import check_same_run
from rad_jax.runs.trained_on import TrainedOn
from rad_jax.runs.training_run import TrainingRun, open_training_run
from rad_jax.tokenizer import Tokenizer
from rad_jax.tokenizer.taesd import load_preview, open_preview
from rad_jax.training import sharding
from rad_jax.training.optimizer import ema_init
from rad_jax.training.step import TrainState, abstract_state, init_state

GIB = 2**30


def open_start(
    config: Config, workdir: Path, profile: int | None = None
) -> tuple[TrainingRun, Tokenizer, Source | None]:
    """Opens what a training needs and checks that it can begin, what costs least first; writes nothing but missing data.

    Returns:
      The run, the tokenizer that decodes its samples, and what ``train.init_from`` names if the run starts from it.

    Raises:
      UserError: in one or two lines, what is missing or does not fit.
    """
    sharding.check_devices(config, jax.device_count())
    path = check_start(config, workdir, profile)
    source = read_source(path) if path else None
    if source:
        check_source(source, config.model)
    run = open_training_run(config)
    check_clips(run.episodes, config.data)
    preview = open_preview(config.tokenizer, run.tokenizer)
    check_same_run(run.config, workdir, TrainedOn.of(run))
    if source:
        check_source(source, run.config.model, run.tokenizer.fingerprint)
    check_space(run)
    return with_odometry(run, workdir), preview, source


def check_start(config: Config, workdir: Path, profile: int | None = None) -> str:
    """Checks what the configuration and the work directory tell; returns ``train.init_from`` if the run starts from it, or "".

    Raises:
      ConfigError, OSError: in one or two lines, what does not fit.
    """
    check_folder(workdir)
    check_writable(workdir)
    check_kind(config.model)
    check_same_run(config, workdir)
    saved, steps = max(saved_steps(workdir / "checkpoints"), default=0), config.train.steps
    if profile is not None and not saved < profile <= steps:
        left = f"expected a step from {saved + 1} to {steps}"
        finished = (
            f"the run in {workdir} is finished at step {saved}; extend it with train.steps to trace one"
        )
        raise ConfigError(f"--profile {profile}: {left if saved < steps else finished}")
    load_preview(config.tokenizer)
    if saved:
        return ""
    if config.train.freeze == "base" and not config.train.init_from:
        raise ConfigError(
            "train.freeze=base: the base of a new run is random and would stay so; name a trained one with train.init_from"
        )
    return config.train.init_from


def check_space(run: TrainingRun) -> None:
    """Raises `ConfigError` if the state or a batch alone is larger than the memory there is; nothing is allocated."""
    config, model = run.config, run.config.model
    mesh = sharding.make_mesh(config.mesh)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    device = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", machine)
    leaves = jax.tree.leaves(abstract_state(run.model, config, mesh))
    state = sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)
    frame = run.episodes.spec.sizes[run.episodes.pictures]
    batch = config.train.batch // jax.process_count() * config.data.clip * frame
    for key, what, needed, there in (
        (f"model.width={model.width} with model.depth={model.depth}", "the state on a device", state, device),
        (f"train.batch={config.train.batch} with data.clip={config.data.clip}", "a batch", batch, machine),
    ):
        if needed > there:
            raise ConfigError(
                f"{key}: {what} takes {needed / GIB:,.0f} GiB, expected at most {there / GIB:,.0f} GiB, all the memory there is"
            )


def start_state(
    run: TrainingRun, mesh: Mesh, checkpoints: Checkpoints, source: Source | None = None
) -> TrainState:
    """Restores the newest checkpoint, or makes a new state, with the parameters of ``source`` if given.

    Raises:
      CheckpointError, CheckpointMismatch: in one or two lines, what is damaged or does not fit.
    """
    abstract = abstract_state(run.model, run.config, mesh)
    if restored := checkpoints.restore(abstract):
        return restored[0]
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    state = jax.jit(partial(init_state, run.model, run.config), out_shardings=shardings)()
    if source:
        params = initial_params(source, state.params)
        state = state._replace(params=params, ema=state.ema and ema_init(params))
    return state
