"""TAESD (Bohan 2023): a small decoder, for previews, and encoder of the latents of Stable Diffusion's VAE.

Its latents are the scaled latents of ``sd_vae``, so its own scale is 1, and it decodes what ``sd_vae`` encoded. Encoder and
decoder have 1.22 M parameters each, in convolutions with ReLU.
"""

import os
import re

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from rad_jax.arrays import fingerprint
from rad_jax.axes import Array, Float
from rad_jax.tokenizer.base import TokenizerError
from rad_jax.tokenizer.network import NetworkTokenizer
from rad_jax.weights import torch_layout
from rad_jax.weights.tensors import read_tensors

NAME = "taesd"
WIDTH, LATENT_CHANNELS, CELL = 64, 4, 8
ENCODER_BLOCKS, DECODER_BLOCKS = (1, 3, 3, 3), (3, 3, 3, 1)
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


class Encoder(nn.Module):
    width: int
    outputs: int

    @nn.compact
    def __call__(self, x: Features) -> Features:
        layer = 0
        for level, blocks in enumerate(ENCODER_BLOCKS):
            conv = {"strides": 2, "padding": 1, "use_bias": False} if level else {}
            x = nn.Conv(self.width, (3, 3), **conv, name=f"layers_{layer}")(x)
            for block in range(blocks):
                x = Block(self.width, name=f"layers_{layer + 1 + block}")(x)
            layer += 1 + blocks
        return nn.Conv(self.outputs, (3, 3), name=f"layers_{layer}")(x)


class Decoder(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x: Features) -> Features:
        x = nn.relu(nn.Conv(self.width, (3, 3), name="layers_0")(3 * jnp.tanh(x / 3)))
        layer = 2  # published names count the activation
        for blocks in DECODER_BLOCKS[:-1]:
            for block in range(blocks):
                x = Block(self.width, name=f"layers_{layer + block}")(x)
            layer += blocks + 2  # and the upsampling
            x = x.repeat(2, axis=1).repeat(2, axis=2)
            x = nn.Conv(self.width, (3, 3), use_bias=False, name=f"layers_{layer - 1}")(x)
        for block in range(DECODER_BLOCKS[-1]):
            x = Block(self.width, name=f"layers_{layer + block}")(x)
        return nn.Conv(3, (3, 3), name=f"layers_{layer + DECODER_BLOCKS[-1]}")(x)


class TAESD(nn.Module):
    """Images in [0, 1] to latents, and back; without ``encodes`` only back."""

    width: int
    latent_channels: int
    encodes: bool

    def setup(self) -> None:
        self.decoder = Decoder(self.width)
        if self.encodes:
            self.encoder = Encoder(self.width, self.latent_channels)

    def __call__(self, images: Features, latents: Features) -> tuple[Features, Features]:
        """Encodes (if it can) and decodes, which touches all parameters."""
        return self.encode(images) if self.encodes else latents, self.decode(latents)

    def encode(self, images: Features) -> Features:
        if not self.encodes:
            raise TokenizerError("these weights of TAESD are those of its decoder alone: it cannot encode")
        return self.encoder(images)

    def decode(self, latents: Features) -> Features:
        return self.decoder(latents)


def load(path: str | os.PathLike) -> NetworkTokenizer:
    """Reads weights (.safetensors): encoder and decoder as diffusers publishes them, or only the decoder of the original.

    Raises:
      WeightsError: the file cannot be read, or its tensors are not exactly those of this network.
    """
    tensors = _current_names(read_tensors(path))
    first = tensors.get("decoder.layers.0.weight", np.zeros((WIDTH, LATENT_CHANNELS, 3, 3)))
    width, channels = first.shape[:2] if first.ndim == 4 else (WIDTH, LATENT_CHANNELS)
    encodes = any(name.startswith("encoder.") for name in tensors)
    module = TAESD(width, channels, encodes)
    inputs = (1, CELL, CELL, 3), (1, 1, 1, channels)
    params, used = torch_layout.fill(module, inputs, tensors, f"{path} against TAESD")
    return NetworkTokenizer(
        name=NAME,
        module=module,
        params=params,
        scale=1.0,
        fingerprint=fingerprint(used),
        cell=CELL,
        channels=channels,
        image=None,
        pixels_at_once=PIXELS_AT_ONCE,
    )


def _current_names(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Renames the original's decoder, a bare list whose first entry is a clamp without weights."""
    if not all(re.match(r"\d{1,3}\.", name) for name in tensors):
        return tensors
    split = {name: name.partition(".") for name in tensors}
    return {f"decoder.layers.{int(n) - 1}.{rest}": tensors[name] for name, (n, _, rest) in split.items()}
