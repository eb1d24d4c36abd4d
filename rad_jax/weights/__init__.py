"""Weights of other programs, and our own where other programs can read them.

import_oasis_dit(path) -> (ModelConfig, params)       the DiT of Open-Oasis as a model without memory
load_pretrained(directory) -> (model, params, config) a model that ``--mode export`` wrote
load_tokenizer(directory)                             and the tokenizer it was trained with
"""

from rad_jax.weights.oasis_dit import OASIS_DIFFUSION, import_oasis_dit
from rad_jax.weights.pretrained import Pretrained, load_pretrained, load_tokenizer
from rad_jax.weights.tensors import WeightsError

__all__ = [
    "OASIS_DIFFUSION",
    "Pretrained",
    "WeightsError",
    "import_oasis_dit",
    "load_pretrained",
    "load_tokenizer",
]
