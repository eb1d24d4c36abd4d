"""A trained model, read from the work directory of its run; neither the training data nor their place are needed."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from rad_jax import tokenizer as tokenizers
from rad_jax.axes import PyTree
from rad_jax.config import Config, ConfigError, override
from rad_jax.files.folders import check_folder
from rad_jax.files.json_files import check_form
from rad_jax.model import RAD
from rad_jax.model.mixers import check_kind
from rad_jax.model.names import nested, parameter_shapes
from rad_jax.odometry import Odometry
from rad_jax.runs.checkpoints import read_part
from rad_jax.runs.manifest import Manifest
from rad_jax.runs.odometry import check_odometry, recorded_odometry
from rad_jax.runs.stored_config import read_config, refuse_changes, with_sizes
from rad_jax.runs.trained_on import FILE, TrainedOn
from rad_jax.tokenizer import Tokenizer, TokenizerError
from rad_jax.weights.tensors import match

# Keys that make a model what it is.
MODEL_KEYS = ("model.", "memory.", "diffusion.", "data.condition", "data.heading_harmonics")


class TrainedModel(NamedTuple):
    """A model that can be rolled out: ``rollout.start(model, params, ..., diffusion=config.diffusion, ...)``.

    Attributes:
      config: the run's, with nothing left open and without shell commands; ``tokenizer.path`` is the file that was read.
      model: without parameters.
      params: averaged over training if the run kept an average, unless the others were asked for.
      tokenizer: the one that the model was trained with.
      step: optimiser steps that the parameters were trained for.
      trained_on: the facts of the training data.
    """

    config: Config
    model: RAD
    params: PyTree
    tokenizer: Tokenizer
    step: int
    trained_on: TrainedOn

    @property
    def odometry(self) -> Odometry | None:
        """What actions do, where the condition of the model is made of it."""
        return self.trained_on.odometry


def load_trained(workdir: str | os.PathLike, config: Config | None = None, part: str = "ema") -> TrainedModel:
    """Reads the newest intact checkpoint of a run.

    Args:
      config: the user's configuration. Its ``evaluate`` and ``sample`` sections replace the run's, and its
        ``tokenizer.path`` is used if the tokenizer's file is not where it was; what makes the model must be the run's.
      part: "ema" for the averaged parameters (those of the last step if the run keeps no average), or "params".

    Raises:
      ConfigError, CheckpointError, WeightsError, TokenizerError: in one or two lines, what is missing or does not fit.
      UnsafeFolder: a link leads out of the work directory, to which most callers write.
    """
    workdir = Path(workdir)
    check_folder(workdir)
    run = read_config(workdir)
    if config is not None:
        refuse_changes(with_sizes(config, run), run, workdir, MODEL_KEYS)
        run = dataclasses.replace(run, evaluate=config.evaluate, sample=config.sample)
    found = read_part(workdir / "checkpoints", stored_part(run, part))
    if found is None:
        raise ConfigError(f"{workdir} holds no checkpoint yet: train first")
    arrays, manifest = found
    trained_on = TrainedOn.read(workdir)
    fingerprint = recorded_tokenizer(manifest, workdir)
    if trained_on.fingerprint != fingerprint:
        raise ConfigError(
            f"{workdir} was trained with another tokenizer than it keeps; one of its files is another run's"
        )
    if recorded_odometry(manifest, workdir) not in (None, trained_on.odometry):
        raise ConfigError(
            f"{workdir} was trained with another odometry than it keeps; one of its files is another run's"
        )
    check_odometry(run, trained_on.odometry, str(workdir / FILE))
    if not os.path.exists(trained_on.file):  # False for names that no file can have, too
        if config is None or not config.tokenizer.path:
            raise TokenizerError(
                f"{workdir} was trained with tokenizer {trained_on.tokenizer}, whose file {trained_on.file} is gone; "
                "name it with --config.tokenizer.path"
            )
        trained_on = dataclasses.replace(trained_on, file=Path(config.tokenizer.path).absolute())
    where = f"checkpoint {manifest.step} of {workdir}, as {run.name}"
    return open_model(run, arrays, where, manifest.step, trained_on)


def recorded_tokenizer(content: Manifest, workdir: Path) -> str:
    """The fingerprint of the tokenizer that a checkpoint was trained with; raises `ConfigError` if it is not recorded."""
    try:
        check_form(content.metadata, {"tokenizer": {"fingerprint": str}}, "metadata")
    except ValueError as error:
        raise ConfigError(
            f"{workdir}: the manifest of checkpoint {content.step} cannot be used ({error}); "
            "move the checkpoint away to use the one before"
        ) from None
    return content.metadata["tokenizer"]["fingerprint"]


def open_model(
    config: Config, arrays: Mapping[str, np.ndarray], where: str, step: int, trained_on: TrainedOn
) -> TrainedModel:
    """The model that parameters belong to, with its tokenizer.

    Raises `WeightsError`, which begins with ``where``, if the parameters are not those of the configuration,
    `TokenizerError` if the tokenizer's file is missing or another tokenizer's, or `ConfigError` if a memory of the user's
    cannot be used.
    """
    check_kind(config.model)
    arrays = match(arrays, parameter_shapes(config.model), where)
    params = nested({name: jnp.asarray(array) for name, array in arrays.items()})
    tokenizer = tokenizers.load(trained_on.tokenizer, trained_on.file, trained_on.fingerprint)
    config = override(config, {"tokenizer.path": str(trained_on.file)})
    return TrainedModel(config, RAD(config.model), params, tokenizer, step, trained_on)


def stored_part(config: Config, part: str) -> str:
    """The top-level entry of a checkpoint that stands for ``part``: "ema" only where the run keeps an average."""
    return part if config.train.ema else "params"
