"""Images to latents and back, frame by frame.

A tokenizer is a value: a file that is read once, checked against its fingerprint, and two pure functions. Data sets and
checkpoints record name and fingerprint, so that latents of one tokenizer never meet a model of another. It is also a pytree,
so that compiled functions can take it as an argument: then the weights of a network are data and not part of the program.
"""

from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped

from rad_jax.axes import Array, Float
from rad_jax.errors import UserError

# Shape and type are checked by the functions, whose messages say more than an annotation can.
Unchecked = Shaped[Array | np.ndarray, "..."]


class TokenizerError(UserError, ValueError):
    """A tokenizer that is unknown, missing, damaged or not the expected one; or an image or latent it cannot take."""


@runtime_checkable
class Tokenizer(Protocol):
    """What every tokenizer offers. `scale` multiplies the latents so that they have about unit variance."""

    name: str
    scale: float
    fingerprint: str

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Rows, columns and channels of the latent of one image; `TokenizerError` if the size does not fit."""

    def encode(self, images: Float[Array, "... H W 3"]) -> Float[Array, "... rows cols ch"]:
        """Images in [0, 1] to float32 latents of about unit variance."""

    def decode(self, latents: Float[Array, "... rows cols ch"]) -> Float[Array, "... H W 3"]:
        """Latents to images, float32, not clipped to [0, 1]."""


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
