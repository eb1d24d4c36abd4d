"""Images to latents and back, frame by frame. `load` reads a tokenizer; `rad_jax.tokenizer.base` defines its interface."""

import os
from typing import Any

from rad_jax.tokenizer import oasis_vae, patch_pca, sd_vae, taesd
from rad_jax.tokenizer.base import Tokenizer, TokenizerError
from rad_jax.weights.tensors import WeightsError

__all__ = ["Tokenizer", "TokenizerError", "load"]


def load(name: str, path: str | os.PathLike | None = None, fingerprint: str | None = None) -> Tokenizer:
    """Reads a tokenizer.

    Args:
      name: "patch_pca", "sd_vae", "oasis_vae" or "taesd".
      path: its file.
      fingerprint: sha256 (hex) that a data set or checkpoint has recorded; None accepts any.

    Raises:
      TokenizerError: there is no tokenizer of this name, its file is missing or damaged, or its fingerprint is another one.
    """
    loaders: dict[str, Any] = {module.NAME: module.load for module in (patch_pca, sd_vae, oasis_vae, taesd)}
    if name not in loaders:
        raise TokenizerError(f"no tokenizer is named {name!r}; there are: {', '.join(loaders)}")
    if path is None:
        raise TokenizerError(f"tokenizer {name} needs the path of its file (tokenizer.path)")
    try:
        tokenizer = loaders[name](path)
    except WeightsError as error:
        raise TokenizerError(f"tokenizer {name}: {error}") from None
    if fingerprint is not None and tokenizer.fingerprint != fingerprint:
        raise TokenizerError(
            f"{path} is another tokenizer {name} than the one that the data set or the checkpoint was made with; use that one"
        )
    return tokenizer
