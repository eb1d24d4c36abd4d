"""The whole configuration, all sections together, and which combinations cannot be."""

import dataclasses
import json
from typing import Any

from rad_jax.config.data import DataConfig, EvaluateConfig, TokenizerConfig
from rad_jax.config.keys import COUNTED, Section, key, keys
from rad_jax.config.memories import check_without_pose
from rad_jax.config.memory import MemoryConfig
from rad_jax.config.messages import NO_POSE, multiple, require
from rad_jax.config.model import ModelConfig
from rad_jax.config.training import (
    CheckpointConfig,
    DiffusionConfig,
    MeshConfig,
    OptimizerConfig,
    SampleConfig,
    TrainConfig,
    window_starts,
)


@dataclasses.dataclass(frozen=True)
class Config(Section):
    """Everything that decides a run. Hashable; equal configs give equal runs."""

    name: str = key("base:lstm-f", "name of the run, shown in reports", filled=True)
    seed: int = key(0, "seed of parameters, noise and data order", low=0, high=COUNTED)
    data: DataConfig = DataConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = ModelConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    train: TrainConfig = TrainConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    mesh: MeshConfig = MeshConfig()
    sample: SampleConfig = SampleConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @property
    def memory(self) -> MemoryConfig:
        """Settings of the memory, which the model holds."""
        return self.model.memory

    def check(self):
        if self.data.condition == "action":
            check_without_pose(self.memory)
        levels, train, clip, window = self.diffusion.levels, self.train, self.data.clip, self.model.window
        first, stride, chain = train.first_start, self.memory.stride, train.chain
        require(
            chain == 1 or stride == 1,
            f"train.chain={chain}: windows of a chain start a frame apart; needs memory.stride=1, not {stride}",
        )
        require(chain <= window, f"train.chain={chain}: expected at most model.window ({window})")
        length = window + chain - 1  # of the windows from one start
        least = window_starts(clip, length, stride, first).start + length
        require(
            clip >= least,
            f"data.clip={clip}: expected at least {least}, model.window + train.chain - 1 ({length}) from the first multiple "
            f"of memory.stride ({stride}) at or after train.first_start ({first})",
        )
        starts = len(window_starts(clip, length, stride, first))
        require(
            train.windows <= starts,
            f"train.windows={train.windows}: expected at most {starts}, the multiples of memory.stride ({stride}) "
            f"from train.first_start ({first}) to data.clip - model.window - train.chain + 1 ({clip - length})",
        )
        if train.revisit:
            require(self.data.condition != "action", f"train.revisit={train.revisit}: {NO_POSE}")
            last = window_starts(clip, length, stride, first)[-1]
            require(
                last >= window,
                f"train.revisit={train.revisit}: a clip has no frame at least model.window ({window}) frames before its last "
                f"window, which starts at {last}; expected data.clip={window + length} or more",
            )
        limits = {
            "sample.steps": (self.sample.steps, levels),
            "model.context_level": (self.model.context_level, levels - 1),
        }
        if chain > 1:
            limits["train.chain_steps"] = (train.chain_steps, levels)
        if self.memory.frames == "noised":
            limits["memory.noised_levels"] = (self.memory.noised_levels, levels)
        if self.memory.frames in ("resampled", "archive"):
            limits["memory.resample_levels"] = (self.memory.resample_levels[1], levels - 1)
            seen = window_starts(clip, length, stride, first)[-1]
            require(
                self.memory.resample_after < seen,
                f"memory.resample_after={self.memory.resample_after}: expected less than {seen}, the frames of a clip that "
                f"come before a window (data.clip={clip}), or all of those are true; use memory.frames=clean for that",
            )
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
