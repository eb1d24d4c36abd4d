"""The configuration of a run as one object: all sections, and the combinations of keys across them that cannot be."""

import dataclasses
import json
from typing import Any

from rad_jax.config import sections
from rad_jax.config.keys import Section, key, keys
from rad_jax.config.messages import multiple, require
from rad_jax.config.model import MemoryConfig, ModelConfig


@dataclasses.dataclass(frozen=True)
class Config(Section):
    """Everything that decides a run. Hashable; equal configs give equal runs."""

    name: str = key("base:lstm-f", "name of the run, shown in reports", filled=True)
    seed: int = key(0, "seed of parameters, noise and data order", low=0)
    data: sections.DataConfig = sections.DataConfig()
    tokenizer: sections.TokenizerConfig = sections.TokenizerConfig()
    model: ModelConfig = ModelConfig()
    diffusion: sections.DiffusionConfig = sections.DiffusionConfig()
    train: sections.TrainConfig = sections.TrainConfig()
    optimizer: sections.OptimizerConfig = sections.OptimizerConfig()
    checkpoint: sections.CheckpointConfig = sections.CheckpointConfig()
    mesh: sections.MeshConfig = sections.MeshConfig()
    sample: sections.SampleConfig = sections.SampleConfig()
    evaluate: sections.EvaluateConfig = sections.EvaluateConfig()

    @property
    def memory(self) -> MemoryConfig:
        """Settings of the memory, which the model holds."""
        return self.model.memory

    def check(self):
        check_windows(self)
        levels, train = self.diffusion.levels, self.train
        limits = {
            "sample.steps": (self.sample.steps, levels),
            "model.context_level": (self.model.context_level, levels - 1),
        }
        if self.memory.frames == "noised":
            limits["memory.noised_levels"] = (self.memory.noised_levels, levels)
        for path, (value, highest) in limits.items():
            require(
                value <= highest, f"{path}={value}: expected at most {highest} with diffusion.levels={levels}"
            )
        require(
            self.memory.kind != "none" or train.freeze != "base",
            "train.freeze=base: with memory.kind=none nothing is left to train; use train.freeze=none",
        )
        devices = max(self.mesh.data, 1) * self.mesh.fsdp
        multiple("train.batch", train.batch, "train.accumulate * mesh devices", train.accumulate * devices)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values with one entry per section, ``memory`` beside ``model``, as experiments write them."""
        nested: dict[str, Any] = {}
        for name, section in self.sections().items():
            values = {field: getattr(section, field) for field in keys(type(section))}
            nested |= {name: values} if name else values
        return nested

    def to_json(self) -> str:
        """Text that `config_from_json` reads back to an equal config."""
        return json.dumps(self.to_dict(), indent=2) + "\n"


def check_windows(config: Config) -> None:
    """Raises `ConfigError` unless the windows that training asks for fit into a clip."""
    clip, window, first = config.data.clip, config.model.window, config.train.first_start
    require(
        clip >= first + window,
        f"data.clip={clip}: expected at least {first + window}, train.first_start ({first}) + model.window ({window})",
    )
    starts = window_starts(clip, window, config.memory.stride, first)
    require(
        len(starts) >= config.train.windows,
        f"train.windows={config.train.windows}: expected at most {len(starts)}, the multiples of memory.stride "
        f"({config.memory.stride}) from train.first_start ({first}) to data.clip - model.window ({clip - window})",
    )


def window_starts(clip: int, window: int, stride: int, first: int) -> range:
    """The frames of a clip at which a window may start: multiples of ``stride`` from ``first`` on."""
    return range(-(-first // stride) * stride, clip - window + 1, stride)


def flatten(config: Config) -> dict[str, Any]:
    """All values by their dotted key, in the order of `format_config`."""
    return {
        declared.path: getattr(section, name)
        for section in config.sections().values()
        for name, declared in keys(type(section)).items()
    }


def diff_configs(a: Config, b: Config) -> dict[str, tuple[Any, Any]]:
    """The keys in which two configs differ, with the value of each."""
    before, after = flatten(a), flatten(b)
    return {path: (before[path], after[path]) for path in before if before[path] != after[path]}
