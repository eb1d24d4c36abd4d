"""Weights of other programs: read whole or not at all, and never executed.

import_oasis_dit(path) -> (ModelConfig, params)       the DiT of Open-Oasis as a model without memory

The VAEs are read by `rad_jax.tokenizer.load`, LPIPS by `rad_jax.metrics.load_lpips`, our own exports by `rad_jax.runs`.
"""

from rad_jax.weights.oasis_dit import OASIS_DIFFUSION, import_oasis_dit
from rad_jax.weights.tensors import WeightsError

__all__ = ["OASIS_DIFFUSION", "WeightsError", "import_oasis_dit"]
