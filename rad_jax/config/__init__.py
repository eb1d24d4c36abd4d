"""The configuration of a run: one checked, frozen `Config`, from an experiment file and the command line.

config = load_config("experiments/maze.py:lstm-f", ["train.steps=200", "mesh.fsdp=4"])
config.model.width, config.memory.stride
"""

from rad_jax.config.data import DataConfig, EvaluateConfig, TokenizerConfig
from rad_jax.config.keys import Section, key
from rad_jax.config.load import config_from_dict, config_from_json, load_config, override
from rad_jax.config.memories import NAMES, always_needs_pose, check_without_pose, modes
from rad_jax.config.memory import MemoryConfig
from rad_jax.config.messages import NO_POSE, ConfigError
from rad_jax.config.model import ModelConfig
from rad_jax.config.sections import Config, diff_configs, flatten
from rad_jax.config.show import format_config
from rad_jax.config.training import (
    CheckpointConfig,
    DiffusionConfig,
    MeshConfig,
    OptimizerConfig,
    SampleConfig,
    TrainConfig,
    decay_begin,
    window_starts,
)

__all__ = [
    "NAMES",
    "NO_POSE",
    "CheckpointConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "DiffusionConfig",
    "EvaluateConfig",
    "MemoryConfig",
    "MeshConfig",
    "ModelConfig",
    "OptimizerConfig",
    "SampleConfig",
    "Section",
    "TokenizerConfig",
    "TrainConfig",
    "always_needs_pose",
    "check_without_pose",
    "config_from_dict",
    "config_from_json",
    "decay_begin",
    "diff_configs",
    "flatten",
    "format_config",
    "key",
    "load_config",
    "modes",
    "override",
    "window_starts",
]
