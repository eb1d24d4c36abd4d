"""The VAE of Stable Diffusion (Rombach et al. 2022; the ft-EMA and ft-MSE decoders too), the paper's tokenizer for mazes.

A square of 8 x 8 pixels becomes one latent of four channels: 64 x 64 -> 8 x 8 x 4, 83.7 M parameters. Sizes are read from the
shapes of the weights. What shapes do not determine (groups of the norms, scale) is read from the published ``config.json``
beside them, or is as in Stable Diffusion.
"""

import itertools
import math
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from rad_jax.axes import Array, Float
from rad_jax.tokenizer.network import NetworkTokenizer, published_config
from rad_jax.tokenizer.sd_vae_names import current_names
from rad_jax.weights.tensors import WeightsError, read_tensors

NAME = "sd_vae"
CHANNELS, LAYERS, LATENT_CHANNELS, GROUPS, SCALE = (128, 256, 512, 512), 2, 4, 32, 0.18215
MOST = 8  # levels, and layers of a level, that are looked for: a file may hold any number of names
PIXELS_AT_ONCE = 2**20  # of 128 features each in the widest layers: half a GiB a tensor

Features = Float[Array, "m _ _ _"]


class Resnet(nn.Module):
    """Norm, SiLU and convolution, twice; the result is added to the input."""

    channels: int
    groups: int

    @nn.compact
    def __call__(self, x: Features) -> Features:
        h = nn.Conv(self.channels, (3, 3), name="conv1")(nn.silu(_norm(self.groups, "norm1")(x)))
        h = nn.Conv(self.channels, (3, 3), name="conv2")(nn.silu(_norm(self.groups, "norm2")(h)))
        if x.shape[-1] != self.channels:
            x = nn.Conv(self.channels, (1, 1), name="conv_shortcut")(x)
        return x + h


class Attention(nn.Module):
    """Attention of one head over all positions of an image; the result is added to the input."""

    groups: int

    @nn.compact
    def __call__(self, x: Features) -> Features:
        m, rows, cols, width = x.shape
        h = _norm(self.groups, "group_norm")(x).reshape(m, rows * cols, width)
        q, k, v = (nn.Dense(width, name=name)(h) for name in ("to_q", "to_k", "to_v"))
        weights = jax.nn.softmax(jnp.einsum("mqc,mkc->mqk", q, k) / math.sqrt(width))
        h = nn.Dense(width, name="to_out_0")(jnp.einsum("mqk,mkc->mqc", weights, v))
        return x + h.reshape(x.shape)


class Middle(nn.Module):
    """The blocks at the lowest resolution."""

    groups: int

    @nn.compact
    def __call__(self, x: Features) -> Features:
        x = Resnet(x.shape[-1], self.groups, name="resnets_0")(x)
        x = Attention(self.groups, name="attentions_0")(x)
        return Resnet(x.shape[-1], self.groups, name="resnets_1")(x)


class Level(nn.Module):
    """Resnets at one resolution and the step to the next one: "down", "up", or "" for none."""

    channels: int
    layers: int
    groups: int
    step: str

    @nn.compact
    def __call__(self, x: Features) -> Features:
        for layer in range(self.layers):
            x = Resnet(self.channels, self.groups, name=f"resnets_{layer}")(x)
        return Resample(self.step, name=f"{self.step}samplers_0")(x) if self.step else x


class Resample(nn.Module):
    """Twice the resolution ("up"), or half of it ("down"), for which zeros are added below and to the right alone."""

    step: str

    @nn.compact
    def __call__(self, x: Features) -> Features:
        if self.step == "up":
            return nn.Conv(x.shape[-1], (3, 3), name="conv")(x.repeat(2, axis=1).repeat(2, axis=2))
        return nn.Conv(x.shape[-1], (3, 3), (2, 2), padding=((0, 1), (0, 1)), name="conv")(x)


class Half(nn.Module):
    """The encoder, whose levels go down to the middle, or the decoder, whose levels come up from it."""

    channels: tuple[int, ...]  # of the levels, in order
    layers: int
    groups: int
    outputs: int
    step: str

    @nn.compact
    def __call__(self, x: Features) -> Features:
        x = nn.Conv(self.channels[0], (3, 3), name="conv_in")(x)
        if self.step == "up":
            x = Middle(self.groups, name="mid_block")(x)
        for level, channels in enumerate(self.channels):
            step = self.step if level < len(self.channels) - 1 else ""
            x = Level(channels, self.layers, self.groups, step, name=f"{self.step}_blocks_{level}")(x)
        if self.step == "down":
            x = Middle(self.groups, name="mid_block")(x)
        x = nn.silu(_norm(self.groups, "conv_norm_out")(x))
        return nn.Conv(self.outputs, (3, 3), name="conv_out")(x)


class AutoencoderKL(nn.Module):
    """Images in [0, 1] to the mean of the posterior, and back.

    Attributes:
      channels: of each level of resolution, beginning at the image.
      layers: resnets per level of the encoder; the decoder has one more.
      latent_channels: of a latent.
      groups: of every group norm.
    """

    channels: tuple[int, ...] = CHANNELS
    layers: int = LAYERS
    latent_channels: int = LATENT_CHANNELS
    groups: int = GROUPS

    def setup(self) -> None:
        self.encoder = Half(self.channels, self.layers, self.groups, 2 * self.latent_channels, "down")
        self.decoder = Half(self.channels[::-1], self.layers + 1, self.groups, 3, "up")
        self.quant_conv = nn.Conv(2 * self.latent_channels, (1, 1))
        self.post_quant_conv = nn.Conv(self.latent_channels, (1, 1))

    def __call__(self, images: Features) -> Features:
        """Encodes and decodes, which touches all parameters."""
        return self.decode(self.encode(images))

    def encode(self, images: Features) -> Features:
        """Returns the mean, unscaled. The other half of the moments is the log-variance."""
        mean, _ = jnp.split(self.quant_conv(self.encoder(2 * images - 1)), 2, axis=-1)
        return mean

    def decode(self, latents: Features) -> Features:
        return (self.decoder(self.post_quant_conv(latents)) + 1) / 2


def load(path: str | os.PathLike) -> NetworkTokenizer:
    """Reads weights (.safetensors) in any of the three layouts in which they are published.

    Raises:
      WeightsError: the file cannot be read, or its tensors are not exactly those of this network.
    """
    path = pathlib.Path(path)
    tensors = current_names(read_tensors(path), path)
    config = _checked_config(path)
    groups, scale = config.get("norm_num_groups", GROUPS), float(config.get("scaling_factor", SCALE))
    module = _sized(tensors, groups)
    if (not config and module.channels != CHANNELS) or any(c % groups for c in module.channels):
        raise WeightsError(
            f"{path}: levels of {module.channels} channels, {groups} groups: not the published network; "
            "put the config.json of its diffusers AutoencoderKL, with norm_num_groups and scaling_factor, beside it"
        )
    return NetworkTokenizer.of_weights(
        tensors,
        f"{path} against Stable Diffusion's VAE",
        settings={"groups": groups, "scale": scale},
        name=NAME,
        module=module,
        scale=scale,
        cell=2 ** (len(module.channels) - 1),
        channels=module.latent_channels,
        pixels_at_once=PIXELS_AT_ONCE,
    )


def _norm(groups: int, name: str) -> nn.GroupNorm:
    return nn.GroupNorm(groups, epsilon=1e-6, use_fast_variance=False, name=name)


def _sized(tensors: dict[str, np.ndarray], groups: int) -> AutoencoderKL:
    """Returns the network with the sizes of the weights, or the published one if they are not weights of such a network."""

    def listed(name: str) -> list[np.ndarray]:
        numbers = itertools.takewhile(lambda number: name.format(number) in tensors, range(MOST))
        return [tensors[name.format(number)] for number in numbers]

    levels = listed("encoder.down_blocks.{}.resnets.0.conv1.weight")
    layers = len(listed("encoder.down_blocks.0.resnets.{}.conv1.weight"))
    latent = tensors.get("post_quant_conv.bias")
    if not levels or any(first.ndim != 4 or not first.size for first in levels):
        return AutoencoderKL()
    if latent is None or latent.ndim != 1:
        return AutoencoderKL()
    return AutoencoderKL(tuple(len(first) for first in levels), layers, len(latent), groups)


def _checked_config(weights: pathlib.Path) -> dict[str, Any]:
    """Returns the published configuration beside the weights; nothing if there is none of this network."""
    config, path = published_config(weights), weights.with_name("config.json")
    if config.get("_class_name") != "AutoencoderKL":
        return {}
    for name, expected in (("act_fn", "silu"), ("shift_factor", None)):
        if config.get(name, expected) != expected:
            raise WeightsError(f"{path}: {name}={config[name]!r}, expected {expected!r}, Stable Diffusion's")
    groups, scale = config.get("norm_num_groups", GROUPS), config.get("scaling_factor", SCALE)
    if type(groups) is not int or groups < 1 or type(scale) not in (int, float) or not 0 < scale < math.inf:
        found = f"norm_num_groups={groups!r}, scaling_factor={scale!r}"
        raise WeightsError(f"{path}: {found}: expected two positive numbers")
    return config
