"""Opens what a run works with: data, tokenizer, model; made first where the configuration says so."""

import dataclasses
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from rad_jax import tokenizer as tokenizers
from rad_jax.axes import PyTree
from rad_jax.config import Config, ConfigError
from rad_jax.config.sections import DataConfig, EvaluateConfig, TokenizerConfig
from rad_jax.data import DataError, Episodes
from rad_jax.data.condition import condition_dim
from rad_jax.data.reader import check_latents
from rad_jax.metrics.image import ImageError
from rad_jax.metrics.lpips import Lpips, load_lpips
from rad_jax.model import RAD
from rad_jax.runs.restore import restore_run
from rad_jax.tokenizer import Tokenizer, taesd
from rad_jax.tokenizer.preview import PreviewTokenizer
from rad_jax.weights import WeightsError


class TrainingRun(NamedTuple):
    """A run's configuration with nothing left open, its training data, tokenizer and (unbound) model."""

    config: Config
    episodes: Episodes
    tokenizer: Tokenizer
    model: RAD


def open_training_run(config: Config) -> TrainingRun:
    """Opens the training data, making them if the configuration says so, and what belongs to them.

    ``model.latent`` and ``model.action_dim``, where left open, are taken from the data and the tokenizer.

    Raises:
      DataError, TokenizerError, ConfigError: in one or two lines, what is missing or does not fit.
    """
    episodes = open_episodes(config.data, config.tokenizer.path)
    tokenizer = open_tokenizer(config, episodes)
    check_latents(episodes, tokenizer.name, tokenizer.fingerprint)
    shapes = episodes.spec.arrays
    latent = shapes["latents"][0] if "latents" in shapes else tokenizer.latent_shape(*shapes["frames"][0][:2])
    dim = condition_dim(episodes.spec, config.data.condition, config.data.heading_harmonics)
    for name, given, found in (
        ("latent", config.model.latent, latent),
        ("action_dim", config.model.action_dim, dim),
    ):
        if given is not None and given != found:
            raise ConfigError(
                f"model.{name}={given}: {config.data.path} has {found}; leave it open with model.{name}=none"
            )
    model_config = dataclasses.replace(config.model, latent=tuple(latent), action_dim=dim)
    config = dataclasses.replace(config, model=model_config)
    return TrainingRun(config, episodes, tokenizer, RAD(config.model))


def open_tokenizer(config: Config, episodes: Episodes) -> Tokenizer:
    """The tokenizer that the configuration names, or that was fitted to the data; its fingerprint is the data's."""
    recorded = episodes.tokenizer or {}
    name = recorded.get("name", config.tokenizer.name)
    if name != config.tokenizer.name:
        raise ConfigError(
            f"tokenizer.name={config.tokenizer.name}: {config.data.path} belongs to {name} "
            f"{recorded['fingerprint'][:12]}; a model works with the tokenizer of its data"
        )
    path = config.tokenizer.path or Path(config.data.path) / recorded.get("path", "tokenizer.npz")
    return tokenizers.load(config.tokenizer.name, path, recorded.get("fingerprint"))


def open_preview(config: TokenizerConfig, tokenizer: Tokenizer) -> Tokenizer:
    """``tokenizer``, the one that the configuration names, as videos to look at are decoded: by TAESD if it says so.

    Raises:
      ConfigError: the file of TAESD cannot be used, or it decodes latents of another shape.
    """
    if not config.preview:
        return tokenizer
    try:
        decoder = taesd.load(config.preview)
    except WeightsError as error:
        raise ConfigError(f"tokenizer.preview={config.preview}: {error}") from None
    theirs, ours = ((one.channels, one.cell) for one in (decoder, tokenizer))
    if theirs != ours:
        raise ConfigError(
            f"tokenizer.preview={config.preview}: decodes latents of {theirs[0]} channels, {theirs[1]} pixels a side; "
            f"those of {config.name} have {ours[0]} and {ours[1]}"
        )
    return PreviewTokenizer(tokenizer, decoder)


def open_lpips(config: EvaluateConfig, size: tuple[int, int]) -> Lpips | None:
    """The weights of LPIPS that the configuration names, for images of ``size`` (H, W); None if it names none.

    Raises:
      ConfigError: the file cannot be used, or the images are too small for its network.
    """
    if not config.lpips:
        return None
    try:
        weights = load_lpips(config.lpips)
        weights.check(*size)
    except (WeightsError, ImageError) as error:
        raise ConfigError(f"evaluate.lpips={config.lpips}: {error}") from None
    return weights


def open_episodes(config: DataConfig | EvaluateConfig, tokenizer: str = "") -> Episodes:
    """Opens a data set; with ``auto_make`` and none there, runs its command first.

    Training data that have no tokenizer yet count as not there: their command fits it. Not so if ``tokenizer`` names a file.

    Raises:
      DataError: it is missing or damaged, in two lines with the command that makes it, or the command failed.
    """
    try:
        episodes = Episodes(config.path, config.split)
        if episodes.tokenizer is not None or tokenizer or not isinstance(config, DataConfig):
            return episodes
        problem = f"{config.path} has no tokenizer"
    except DataError as error:
        problem = str(error)
    if not config.command:
        raise DataError(problem)
    if not config.auto_make:
        raise DataError(f"{problem}\nmake it with: {config.command}")
    run_command(config.command)
    return Episodes(config.path, config.split)


def open_sets(config: EvaluateConfig) -> dict[str, Episodes]:
    """Opens all evaluation sets, the one at ``path`` first, named after its protocol, then those of ``more`` by their names.

    Raises:
      DataError: as `open_episodes`.
    """
    first = open_episodes(config)
    sets = {name: open_episodes(further) for name, further in further_sets(config).items()}
    protocol = first.spec.info.get("protocol")
    known = isinstance(protocol, str) and protocol not in sets
    return {protocol if known else first.directory.name: first} | sets


def further_sets(config: EvaluateConfig) -> dict[str, EvaluateConfig]:
    """The settings of every evaluation set of ``more``, by name, as if it were the only one."""
    sets = {}
    for name, path in config.others.items():
        make = config.more_make.replace("{name}", shlex.quote(name))
        sets[name] = dataclasses.replace(config, path=path, make=make, more="")
    return sets


def run_command(command: str) -> None:
    """Runs a shell command in which ``python`` is the Python that runs this.

    Raises:
      DataError: it ended with another status than 0.
    """
    print(f"$ {command}", flush=True)
    environment = dict(os.environ)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    status = subprocess.run(command, shell=True, env=environment).returncode
    if status:
        raise DataError(f"the command that makes the data ended with status {status}: {command}")


class TrainedModel(NamedTuple):
    """A model as its run left it: the averaged parameters if the run kept an average."""

    config: Config
    model: RAD
    params: PyTree
    tokenizer: Tokenizer
    step: int


def load_trained(workdir: Path, config: Config | None = None) -> TrainedModel:
    """Reads the newest checkpoint of a run.

    Args:
      config: its ``evaluate`` and ``sample`` sections are used in place of the run's; what makes the model must be the run's.

    Raises:
      ConfigError, CheckpointError, TokenizerError: in one or two lines, what is missing or does not fit.
    """
    run, params, _, manifest = restore_run(workdir, config)
    tokenizer = open_tokenizer(run, open_episodes(run.data, run.tokenizer.path))
    trained_with = manifest.metadata["tokenizer"]["fingerprint"]
    if tokenizer.fingerprint != trained_with:
        raise DataError(
            f"{workdir} was trained with tokenizer {trained_with[:12]}, {run.data.path} has "
            f"{tokenizer.fingerprint[:12]}; restore the data set it was trained on"
        )
    return TrainedModel(run, RAD(run.model), params, tokenizer, manifest.step)
