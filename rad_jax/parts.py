"""From a configuration to what a run works with: data, tokenizer and model, checked against each other."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

from rad_jax import tokenizer as tokenizers
from rad_jax.config import Config, ConfigError
from rad_jax.data.condition import condition_dim
from rad_jax.data.episodes import Episodes
from rad_jax.metrics.image import ImageError
from rad_jax.metrics.lpips import Lpips, load_lpips
from rad_jax.model import RAD
from rad_jax.predict import check_latents
from rad_jax.prepare import open_episodes
from rad_jax.sections import EvaluateConfig, TokenizerConfig
from rad_jax.tokenizer import Tokenizer, taesd
from rad_jax.tokenizer.preview import PreviewTokenizer
from rad_jax.weights import WeightsError


class Parts(NamedTuple):
    """A run's configuration with nothing left open, its training data, tokenizer and (unbound) model."""

    config: Config
    episodes: Episodes
    tokenizer: Tokenizer
    model: RAD


def open_parts(config: Config) -> Parts:
    """Opens the training data, making them if the configuration says so, and what belongs to them.

    ``model.latent`` and ``model.action_dim``, where left open, are taken from the data and the tokenizer.

    Raises:
      DataError, TokenizerError, ConfigError: in one or two lines, what is missing or does not fit.
    """
    episodes = open_episodes(config.data, config.tokenizer.path)
    tokenizer = open_tokenizer(config, episodes)
    check_latents(episodes, tokenizer)
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
    return Parts(config, episodes, tokenizer, RAD(config.model))


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
