"""Weights of other programs: loaded as a whole or not at all, and never executed.

import_oasis_dit(path) -> (ModelConfig, params)       the DiT of Open-Oasis as a model without memory

`rad_jax.tokenizer.load` reads VAEs, `rad_jax.metrics.load_lpips` LPIPS, and `rad_jax.runs` our own exports.
"""

from rad_jax.weights.oasis_dit import OASIS_DIFFUSION, import_oasis_dit
from rad_jax.weights.tensors import WeightsError

__all__ = ["OASIS_DIFFUSION", "WeightsError", "import_oasis_dit"]
