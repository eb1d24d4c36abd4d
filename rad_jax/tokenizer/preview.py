"""A tokenizer for preview videos: TAESD decodes instead of a decoder that needs 17 times as many operations.

XLA counts 4.9e12 operations for the decoder of Stable Diffusion's VAE and 2.8e11 for TAESD's, on 8 frames of 256 x 256. Times
on a CPU of two cores had the same ratio.
"""

import dataclasses
import functools

import jax

from rad_jax.axes import Array, Float
from rad_jax.tokenizer.base import Unchecked
from rad_jax.tokenizer.network import NetworkTokenizer


@functools.partial(jax.tree_util.register_dataclass, data_fields=["tokenizer", "decoder"], meta_fields=[])
@dataclasses.dataclass(frozen=True, eq=False)
class PreviewTokenizer:
    """See `Tokenizer`. Equal to ``tokenizer``, except that ``decoder`` decodes. Not for evaluations.

    Attributes:
      tokenizer: encodes; name, scale, fingerprint and shape of the latents are its own.
      decoder: decodes the latents of ``tokenizer``, scale included.
    """

    tokenizer: NetworkTokenizer
    decoder: NetworkTokenizer

    @property
    def name(self) -> str:
        """See `Tokenizer`."""
        return self.tokenizer.name

    @property
    def scale(self) -> float:
        """See `Tokenizer`."""
        return self.tokenizer.scale

    @property
    def fingerprint(self) -> str:
        """See `Tokenizer`."""
        return self.tokenizer.fingerprint

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """See `Tokenizer`."""
        return self.tokenizer.latent_shape(height, width)

    def encode(self, images: Unchecked) -> Float[Array, "... rows cols ch"]:
        """See `Tokenizer`."""
        return self.tokenizer.encode(images)

    def decode(self, latents: Unchecked) -> Float[Array, "... H W 3"]:
        """See `Tokenizer`; approximately what ``tokenizer`` would decode."""
        return self.decoder.decode(latents)
