"""The VAE of Stable Diffusion (Rombach et al. 2022; the ft-EMA and ft-MSE decoders too), the paper's tokenizer for mazes.

A square of 8 x 8 pixels becomes one latent of four channels: 64 x 64 -> 8 x 8 x 4, 83.7 M parameters. Sizes are read from the
shapes of the weights. What shapes do not determine (groups of the norms, scale) is read from the published ``config.json``
beside them, or is as in Stable Diffusion.
"""

import itertools
import math
import os
import pathlib
import re
import reprlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from rad_jax.axes import Array, Float
from rad_jax.files.json_files import has_form
from rad_jax.tokenizer.network import NetworkTokenizer, published_config
from rad_jax.weights.tensors import WeightsError, read_tensors, without_wrappers

NAME = "sd_vae"
CHANNELS, LAYERS, LATENT_CHANNELS, GROUPS, SCALE = (128, 256, 512, 512), 2, 4, 32, 0.18215
MOST = 8  # levels, and layers of a level, that are looked for: a file may hold any number of names
PIXELS_AT_ONCE = 2**20  # of 128 features each in the widest layers: half a GiB a tensor

CHECKPOINT_PREFIX = "first_stage_model."
ROOTS = {"encoder", "decoder", "quant_conv", "post_quant_conv", "loss", "model_ema", "first_stage_model"}
# Discriminator and perceptual loss; averages that were folded in before publishing.
NOT_THE_VAE = ("loss.", "model_ema.")
RENAMED = (
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
    (r"(\.attentions\.0)\.norm\.", r"\1.group_norm."),
    (r"(\.attentions\.0)\.(q|k|v|query|key|value)\.", lambda m: f"{m[1]}.to_{m[2][0]}."),
    (r"(\.attentions\.0)\.(?:proj_out|proj_attn)\.", r"\1.to_out.0."),
    (r"\.(down|up)\.(\d+)\.block\.", r".\1_blocks.\2.resnets."),
    (r"\.(down|up)\.(\d+)\.(down|up)sample\.", r".\1_blocks.\2.\3samplers.0."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"^(encoder|decoder)\.norm_out\.", r"\1.conv_norm_out."),
)

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
        h = nn.Dense(width, name="to_out.0")(jnp.einsum("mqk,mkc->mqc", weights, v))
        return x + h.reshape(x.shape)


class Half(nn.Module):
    """The encoder, whose levels go down to the middle, or the decoder, whose levels come up from it."""

    channels: tuple[int, ...]  # of the levels, in order
    layers: int
    groups: int
    outputs: int
    step: str  # "down" or "up", from each level to the next

    @nn.compact
    def __call__(self, x: Features) -> Features:
        x = nn.Conv(self.channels[0], (3, 3), name="conv_in")(x)
        if self.step == "up":
            x = self._middle(x)
        for level, channels in enumerate(self.channels):
            name = f"{self.step}_blocks.{level}"
            for layer in range(self.layers):
                x = Resnet(channels, self.groups, name=f"{name}.resnets.{layer}")(x)
            if level < len(self.channels) - 1:
                x = self._resampled(x, f"{name}.{self.step}samplers.0.conv")
        if self.step == "down":
            x = self._middle(x)
        x = nn.silu(_norm(self.groups, "conv_norm_out")(x))
        return nn.Conv(self.outputs, (3, 3), name="conv_out")(x)

    def _middle(self, x: Features) -> Features:
        x = Resnet(x.shape[-1], self.groups, name="mid_block.resnets.0")(x)
        x = Attention(self.groups, name="mid_block.attentions.0")(x)
        return Resnet(x.shape[-1], self.groups, name="mid_block.resnets.1")(x)

    def _resampled(self, x: Features, name: str) -> Features:
        if self.step == "up":
            return nn.Conv(x.shape[-1], (3, 3), name=name)(x.repeat(2, axis=1).repeat(2, axis=2))
        # Zeros are added below and to the right alone.
        return nn.Conv(x.shape[-1], (3, 3), (2, 2), padding=((0, 1), (0, 1)), name=name)(x)


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
    tensors = _current_names(without_wrappers(read_tensors(path), ROOTS), path)
    published = _groups_and_scale(path)
    groups, scale = published or (GROUPS, SCALE)
    module = _sized(tensors, groups)
    if (not published and module.channels != CHANNELS) or any(c % groups for c in module.channels):
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
    latent = tensors.get("post_quant_conv.bias", np.zeros(()))
    if not levels or latent.ndim != 1 or any(first.ndim != 4 or not first.size for first in levels):
        return AutoencoderKL()
    return AutoencoderKL(tuple(len(first) for first in levels), layers, len(latent), groups)


def _groups_and_scale(weights: pathlib.Path) -> tuple[int, float] | None:
    """Reads them from the published configuration beside the weights; None if there is none of this network."""
    config, path = published_config(weights), weights.with_name("config.json")
    if config.get("_class_name") != "AutoencoderKL":
        return None
    for name, expected in (("act_fn", "silu"), ("shift_factor", None)):
        if config.get(name, expected) != expected:
            raise WeightsError(
                f"{path}: {name}={reprlib.repr(config[name])}, expected {expected!r}, Stable Diffusion's"
            )
    groups, scale = config.get("norm_num_groups", GROUPS), config.get("scaling_factor", SCALE)
    if not (has_form(groups, int) and has_form(scale, float) and groups > 0 and scale > 0):
        found = f"norm_num_groups={reprlib.repr(groups)}, scaling_factor={reprlib.repr(scale)}"
        raise WeightsError(f"{path}: {found}: expected two positive numbers")
    return groups, float(scale)


def _current_names(tensors: dict[str, np.ndarray], path: pathlib.Path) -> dict[str, np.ndarray]:
    """Renames the VAE's tensors as in current diffusers. Names of no known layout stay as they are.

    current diffusers       encoder.down_blocks.0.resnets.1.conv1, mid_block.attentions.0.to_q (C, C)
    diffusers before 0.15   the same, but mid_block.attentions.0.query
    CompVis / LDM           encoder.down.0.block.1.conv1, mid.attn_1.q (C, C, 1, 1), levels of the decoder from the image
                            inwards; in a whole Stable Diffusion checkpoint below first_stage_model, beside other networks
    """
    inside = [name for name in tensors if name.startswith(CHECKPOINT_PREFIX)]
    if inside:
        tensors = without_wrappers(
            {name.removeprefix(CHECKPOINT_PREFIX): tensors[name] for name in inside}, ROOTS
        )
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(NOT_THE_VAE)}
    levels = [match[1] for name in tensors if (match := re.match(r"decoder\.up\.(\d{1,3})\.", name))]
    last = max(map(int, levels), default=0)
    found: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        current = re.sub(r"^decoder\.up\.(\d{1,3})\.", lambda m: f"decoder.up.{last - int(m[1])}.", name)
        for old, new in RENAMED:
            current = re.sub(old, new, current)
        if current in found:
            raise WeightsError(f"{path}: two tensors for {current}: it mixes layouts of the VAE")
        # The LDM layout writes the projections of attention as convolutions of one pixel.
        if ".attentions." in current and tensor.ndim == 4 and tensor.shape[2:] == (1, 1):
            tensor = tensor[:, :, 0, 0]
        found[current] = tensor
    return found
