"""A run on disk: its checkpoints, how it is opened for training or read afterwards, and its export.

load_trained(workdir) -> TrainedModel        the newest checkpoint of a run
load_pretrained(directory) -> TrainedModel   what ``--mode export`` wrote
"""

from rad_jax.runs.export import load_pretrained
from rad_jax.runs.restore import TrainedModel, load_trained

__all__ = ["TrainedModel", "load_pretrained", "load_trained"]
