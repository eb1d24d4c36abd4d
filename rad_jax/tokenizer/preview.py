"""A tokenizer for preview videos: TAESD decodes instead of a decoder that needs 17 times as many operations.

XLA counts 4.9e12 operations for the decoder of Stable Diffusion's VAE and 2.8e11 for TAESD's, on 8 frames of 256 x 256. Times
on a CPU of two cores had the same ratio.
"""

import dataclasses
import functools
import operator

import jax

from rad_jax.axes import Array, Float
from rad_jax.config import ConfigError
from rad_jax.config.sections import TokenizerConfig
from rad_jax.tokenizer import taesd
from rad_jax.tokenizer.base import Tokenizer, Unchecked
from rad_jax.tokenizer.network import NetworkTokenizer
from rad_jax.weights.tensors import WeightsError


@functools.partial(jax.tree_util.register_dataclass, data_fields=["tokenizer", "decoder"], meta_fields=[])
@dataclasses.dataclass(frozen=True, eq=False)
class PreviewTokenizer(Tokenizer):
    """See `Tokenizer`. Equal to ``tokenizer``, except that ``decoder`` decodes. Not for evaluations.

    Attributes:
      tokenizer: encodes; name, scale, fingerprint and shape of the latents are its own.
      decoder: decodes the latents of ``tokenizer``, scale included, to approximately what ``tokenizer`` would.
    """

    tokenizer: NetworkTokenizer
    decoder: NetworkTokenizer

    name, scale, fingerprint, cell, channels, image = (
        property(operator.attrgetter(f"tokenizer.{name}"))
        for name in ("name", "scale", "fingerprint", "cell", "channels", "image")
    )

    def _encode(self, images: Unchecked) -> Float[Array, "... rows cols ch"]:
        return self.tokenizer._encode(images)

    def _decode(self, latents: Unchecked) -> Float[Array, "... H W 3"]:
        return self.decoder._decode(latents)


def open_preview(config: TokenizerConfig, tokenizer: Tokenizer) -> Tokenizer:
    """``tokenizer``, decoding with TAESD if ``config.preview`` names its weights: for videos to look at.

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
