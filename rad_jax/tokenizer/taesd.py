"""TAESD (Bohan 2023): a small decoder, for previews, and encoder of the latents of Stable Diffusion's VAE.

Its latents are the scaled latents of ``sd_vae``, so its own scale is 1, and it decodes what ``sd_vae`` encoded. Encoder and
decoder have 1.22 M parameters each, in convolutions with ReLU.

On 8 frames of 256 x 256, XLA counts 2.8e11 operations for its decoder and 4.9e12, 17 times as many, for that of Stable
Diffusion's VAE. Times on a CPU of two cores had the same ratio.
"""

import dataclasses
import os
import re

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from rad_jax.axes import Array, Float
from rad_jax.config import ConfigError
from rad_jax.config.data import TokenizerConfig
from rad_jax.tokenizer.base import Tokenizer, TokenizerError
from rad_jax.tokenizer.network import NetworkTokenizer
from rad_jax.weights.tensors import WeightsError, read_tensors, without_wrappers

NAME = "taesd"
WIDTH, LATENT_CHANNELS, CELL = 64, 4, 8
ENCODER_BLOCKS, DECODER_BLOCKS = (1, 3, 3, 3), (3, 3, 3, 1)
ROOTS = {"encoder", "decoder", *map(str, range(100))}  # of the names of the weights
PIXELS_AT_ONCE = 2**21

Features = Float[Array, "m _ _ _"]


class Block(nn.Module):
    """Three convolutions, added to the input. Names count the activations between them, as published weights do."""

    width: int

    @nn.compact
    def __call__(self, x: Features) -> Features:
        h = nn.Conv(self.width, (3, 3), name="conv_0")(x)
        h = nn.Conv(self.width, (3, 3), name="conv_2")(nn.relu(h))
        h = nn.Conv(self.width, (3, 3), name="conv_4")(nn.relu(h))
        return nn.relu(h + x)


def _encoder(width: int, outputs: int) -> nn.Sequential:
    layers = []
    for level, blocks in enumerate(ENCODER_BLOCKS):
        halving = {"strides": 2, "padding": 1, "use_bias": False} if level else {}
        layers += [nn.Conv(width, (3, 3), **halving), *(Block(width) for _ in range(blocks))]
    return nn.Sequential([*layers, nn.Conv(outputs, (3, 3))])


def _decoder(width: int) -> nn.Sequential:
    layers = [nn.Conv(width, (3, 3)), nn.relu]
    for blocks in DECODER_BLOCKS[:-1]:
        layers += [*(Block(width) for _ in range(blocks)), _doubled]
        layers += [nn.Conv(width, (3, 3), use_bias=False)]
    return nn.Sequential([*layers, *(Block(width) for _ in range(DECODER_BLOCKS[-1])), nn.Conv(3, (3, 3))])


def _doubled(x: Features) -> Features:
    return x.repeat(2, axis=1).repeat(2, axis=2)


class TAESD(nn.Module):
    """Images in [0, 1] to latents, and back; without ``encodes`` only back."""

    width: int
    latent_channels: int
    encodes: bool

    def setup(self) -> None:
        self.decoder = _decoder(self.width)
        if self.encodes:
            self.encoder = _encoder(self.width, self.latent_channels)

    def __call__(self, images: Features) -> Features:
        """Encodes (if it can) and decodes, which touches all parameters."""
        nothing = jnp.zeros((1, 1, 1, self.latent_channels))
        return self.decode(self.encode(images) if self.encodes else nothing)

    def encode(self, images: Features) -> Features:
        if not self.encodes:
            raise TokenizerError("these weights of TAESD are those of its decoder alone: it cannot encode")
        return self.encoder(images)

    def decode(self, latents: Features) -> Features:
        return self.decoder(3 * jnp.tanh(latents / 3))


def load(path: str | os.PathLike) -> NetworkTokenizer:
    """Reads weights (.safetensors): encoder and decoder as diffusers publishes them, or only the decoder of the original.

    Raises:
      WeightsError: the file cannot be read, or its tensors are not exactly those of this network.
    """
    tensors = _current_names(without_wrappers(read_tensors(path), ROOTS))
    first = tensors.get("decoder.layers.0.weight", np.zeros(0))
    width, channels = first.shape[:2] if first.ndim == 4 and first.size else (WIDTH, LATENT_CHANNELS)
    encodes = any(name.startswith("encoder.") for name in tensors)
    return NetworkTokenizer.of_weights(
        tensors,
        f"{path} against TAESD",
        name=NAME,
        module=TAESD(width, channels, encodes),
        scale=1.0,
        cell=CELL,
        channels=channels,
        pixels_at_once=PIXELS_AT_ONCE,
    )


def load_preview(config: TokenizerConfig) -> NetworkTokenizer | None:
    """TAESD, if ``config.preview`` names its weights; raises `ConfigError` if the file cannot be used."""
    try:
        return load(config.preview) if config.preview else None
    except WeightsError as error:
        raise ConfigError(f"tokenizer.preview={config.preview}: {error}") from None


def open_preview(config: TokenizerConfig, tokenizer: Tokenizer) -> Tokenizer:
    """``tokenizer``, decoding with TAESD if ``config.preview`` names its weights: for videos to look at.

    Raises:
      ConfigError: the file of TAESD cannot be used, or it decodes latents of another shape.
    """
    decoder = load_preview(config)
    if decoder is None:
        return tokenizer
    theirs, ours = ((one.channels, one.cell) for one in (decoder, tokenizer))
    if theirs != ours:
        raise ConfigError(
            f"tokenizer.preview={config.preview}: decodes latents of {theirs[0]} channels, {theirs[1]} pixels a side; "
            f"those of {config.name} have {ours[0]} and {ours[1]}"
        )
    return dataclasses.replace(tokenizer, decoder=decoder)


def _current_names(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Renames the original's decoder, a bare list whose first entry is a clamp without weights."""
    if not all(re.match(r"\d{1,3}\.", name) for name in tensors):
        return tensors
    split = {name: name.partition(".") for name in tensors}
    return {f"decoder.layers.{int(n) - 1}.{rest}": tensors[name] for name, (n, _, rest) in split.items()}
