"""A run that trains: its configuration, training data, tokenizer and model, opened and checked against each other."""

from pathlib import Path
from typing import NamedTuple

from rad_jax import tokenizer as tokenizers
from rad_jax.config import Config, ConfigError, flatten, override
from rad_jax.data import Episodes
from rad_jax.data.condition import condition_dim, condition_plane, condition_pose
from rad_jax.data.reader import check_latents, frame_size
from rad_jax.model import RAD
from rad_jax.odometry import Odometry
from rad_jax.runs.datasets import open_episodes
from rad_jax.tokenizer import Tokenizer


class TrainingRun(NamedTuple):
    """What a training works with.

    Attributes:
      config: ``model.latent``, ``model.action_dim``, ``model.pose`` and ``model.plane`` are set.
      episodes: the training data.
      tokenizer: the one of the training data.
      model: without parameters.
      odometry: what actions do, where the condition needs it and it is fitted (`rad_jax.runs.odometry`).
    """

    config: Config
    episodes: Episodes
    tokenizer: Tokenizer
    model: RAD
    odometry: Odometry | None = None


def open_training_run(config: Config) -> TrainingRun:
    """Opens the training data (see `open_episodes`: they may be made first), their tokenizer and the model.

    ``model.latent``, ``model.action_dim``, ``model.pose`` and ``model.plane``, where left open, are taken from the data and the
    tokenizer.

    Raises:
      DataError, TokenizerError, ConfigError: in one or two lines, what is missing or does not fit.
    """
    if config.tokenizer.path:  # before data are made
        tokenizers.load(config.tokenizer.name, config.tokenizer.path)
    episodes = open_episodes(config.data, config.tokenizer.path)
    tokenizer = open_tokenizer(config, episodes)
    check_latents(episodes, tokenizer.name, tokenizer.fingerprint)
    shapes = episodes.spec.arrays
    latent = shapes["latents"][0] if "latents" in shapes else tokenizer.latent_shape(*frame_size(episodes))
    sizes = {
        "model.latent": tuple(latent),
        "model.action_dim": condition_dim(episodes.spec, config.data),
        "model.pose": condition_pose(episodes.spec, config.data),
        "model.plane": condition_plane(episodes.spec, config.data),
    }
    for key, found in sizes.items():
        if (given := flatten(config)[key]) not in (None, found):
            raise ConfigError(f"{key}={given}: {config.data.path} has {found}; leave it open with {key}=none")
    config = override(config, sizes)
    return TrainingRun(config, episodes, tokenizer, RAD(config.model))


def open_tokenizer(config: Config, episodes: Episodes) -> Tokenizer:
    """The tokenizer of the training data; its fingerprint must be the one that they record, if they record one.

    Raises:
      ConfigError: the configuration names a tokenizer of another kind. TokenizerError: its file is missing or another's.
    """
    name, recorded = config.tokenizer.name, episodes.tokenizer
    if recorded and recorded["name"] != name:
        raise ConfigError(
            f"tokenizer.name={name}: {config.data.path} belongs to {recorded['name']}; "
            "a model works with the tokenizer of its data"
        )
    return tokenizers.load(name, tokenizer_file(config, episodes), recorded and recorded["fingerprint"])


def tokenizer_file(config: Config, episodes: Episodes) -> Path:
    """The tokenizer's file: the one that the configuration names, or else the one that the data record."""
    recorded = episodes.tokenizer or {}
    return Path(config.tokenizer.path or episodes.directory / recorded.get("path", "tokenizer.npz"))
