"""The interface of tokenizers, which turn images into latents and back, frame by frame.

A tokenizer is a value: a file that is read once and checked against its fingerprint, and two pure functions. Data sets and
checkpoints record its name and fingerprint, so that a model never reads latents of another tokenizer. It is also a pytree, so
that compiled functions can take it as an argument; the weights of a network are data then, not constants of the program.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped

from rad_jax.axes import Array, Float
from rad_jax.errors import UserError

# The functions check shape and type themselves, because their messages say more than those of an annotation.
Unchecked = Shaped[Array | np.ndarray, "..."]


class TokenizerError(UserError, ValueError):
    """A tokenizer that is unknown, missing, damaged or not the expected one, or an image or latent that it cannot take."""


class Tokenizer:
    """A tokenizer.

    Attributes:
      name: as `rad_jax.tokenizer.load` takes it.
      scale: factor by which latents are multiplied to have about unit variance.
      fingerprint: sha256 (hex) of everything that its latents depend on.
      cell: pixels along each side of the square that one latent stands for.
      channels: of a latent.
      image: the only image size (height, width) that it takes; None takes any multiple of ``cell``.
    """

    name: str
    scale: float
    fingerprint: str
    cell: int
    channels: int
    image: tuple[int, int] | None

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Returns rows, columns and channels of one image's latent. Raises `TokenizerError` if the size does not fit."""
        if self.image not in (None, (height, width)):
            sizes = f"{self.image[0]} x {self.image[1]} and no other size"
            raise TokenizerError(f"images of {height} x {width}: {self.name} takes {sizes}")
        if height % self.cell or width % self.cell:
            patches = f"patches of {self.cell} pixels a side, which {self.name} needs"
            raise TokenizerError(f"images of {height} x {width} cannot be cut into {patches}")
        return height // self.cell, width // self.cell, self.channels

    def encode(self, images: Unchecked) -> Float[Array, "... rows cols ch"]:
        """Returns float32 latents of about unit variance of images (..., H, W, 3) in [0, 1].

        A variational encoder gives the mean, never a sample. Raises `TokenizerError` for another shape or type.
        """
        if images.ndim < 3 or images.shape[-1] != 3 or not jnp.issubdtype(images.dtype, jnp.floating):
            found = f"{images.dtype}{list(images.shape)}"
            raise TokenizerError(f"encode takes floats in [0, 1] of shape (..., H, W, 3), not {found}")
        self.latent_shape(*images.shape[-3:-1])
        return self._encode(images)

    def decode(self, latents: Unchecked) -> Float[Array, "... H W 3"]:
        """Returns the images of latents (..., rows, cols, ch), float32, not clipped to [0, 1].

        Raises `TokenizerError` for another shape.
        """
        if latents.ndim < 3 or latents.shape[-1] != self.channels:
            found = f"shape {list(latents.shape)}"
            raise TokenizerError(f"decode takes latents of {self.channels} channels, not {found}")
        self.latent_shape(*(size * self.cell for size in latents.shape[-3:-1]))
        return self._decode(latents)

    def _encode(self, images: Unchecked) -> Float[Array, "... rows cols ch"]:
        raise NotImplementedError

    def _decode(self, latents: Unchecked) -> Float[Array, "... H W 3"]:
        raise NotImplementedError
