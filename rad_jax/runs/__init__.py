"""A run on disk: its checkpoints, how it is opened and restored, and its export."""

from rad_jax.runs.open import TrainedModel, load_trained
from rad_jax.runs.pretrained import Pretrained, load_pretrained, load_tokenizer

__all__ = ["Pretrained", "TrainedModel", "load_pretrained", "load_tokenizer", "load_trained"]
