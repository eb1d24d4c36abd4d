"""The interface of tokenizers, which turn images into latents and back, frame by frame.

A tokenizer is a value: a file that is read once and checked against its fingerprint, and two pure functions. Data sets and
checkpoints record its name and fingerprint, so that a model never reads latents of another tokenizer. It is also a pytree, so
that compiled functions can take it as an argument; the weights of a network are data then, not constants of the program.
"""

from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped

from rad_jax.axes import Array, Float
from rad_jax.errors import UserError

# The functions check shape and type themselves, because their messages say more than those of an annotation.
Unchecked = Shaped[Array | np.ndarray, "..."]


class TokenizerError(UserError, ValueError):
    """A tokenizer that is unknown, missing, damaged or not the expected one, or an image or latent that it cannot take."""


@runtime_checkable
class Tokenizer(Protocol):
    """A tokenizer.

    Attributes:
      name: as `rad_jax.tokenizer.load` takes it.
      scale: factor by which latents are multiplied to have about unit variance.
      fingerprint: sha256 (hex) of everything that its latents depend on.
    """

    name: str
    scale: float
    fingerprint: str

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Returns rows, columns and channels of one image's latent. Raises `TokenizerError` if the size does not fit."""

    def encode(self, images: Float[Array, "... H W 3"]) -> Float[Array, "... rows cols ch"]:
        """Returns float32 latents of about unit variance of images in [0, 1]."""

    def decode(self, latents: Float[Array, "... rows cols ch"]) -> Float[Array, "... H W 3"]:
        """Returns the images of latents, float32, not clipped to [0, 1]."""


def check_images(images: Unchecked) -> None:
    """Raises `TokenizerError` unless these are what `Tokenizer.encode` takes."""
    if images.ndim < 3 or images.shape[-1] != 3 or not jnp.issubdtype(images.dtype, jnp.floating):
        raise TokenizerError(
            f"encode takes floats in [0, 1] of shape (..., H, W, 3), not {images.dtype}{list(images.shape)}"
        )


def check_latents(latents: Unchecked, channels: int) -> None:
    """Raises `TokenizerError` unless these are what `Tokenizer.decode` takes."""
    if latents.ndim < 3 or latents.shape[-1] != channels:
        raise TokenizerError(f"decode takes latents of {channels} channels, not shape {list(latents.shape)}")
