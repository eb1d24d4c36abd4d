"""From an experiment file and the command line to one checked, frozen `Config`, and back.

    config = load_config("experiments/maze.py:lstm-f", ["train.steps=200", "mesh.fsdp=4"])
    config.model.width, config.memory.stride

An experiment is a Python file whose ``get_config(variant)`` returns an ``ml_collections.ConfigDict``; what stands behind
the colon is the variant. `rad_jax.config.sections` declares the keys; keys an experiment leaves out keep their defaults.
"""

import dataclasses
import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from rad_jax.config.experiment import read_experiment
from rad_jax.config.keys import (
    ConfigError,
    Key,
    Section,
    did_you_mean,
    key,
    keys,
    multiple,
    nearest,
    shorten,
    show_value,
)
from rad_jax.config.sections import (
    CheckpointConfig,
    DataConfig,
    DiffusionConfig,
    EvaluateConfig,
    MemoryConfig,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    SampleConfig,
    TokenizerConfig,
    TrainConfig,
)


@dataclasses.dataclass(frozen=True)
class Config(Section):
    """Everything that decides a run. Hashable; equal configs give equal runs."""

    section = ""
    name: str = key("base:lstm-f", "name of the run, shown in reports", filled=True)
    seed: int = key(0, "seed of parameters, noise and data order", low=0, high=2**31 - 1)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = dataclasses.field(default_factory=TokenizerConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    diffusion: DiffusionConfig = dataclasses.field(default_factory=DiffusionConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    sample: SampleConfig = dataclasses.field(default_factory=SampleConfig)
    evaluate: EvaluateConfig = dataclasses.field(default_factory=EvaluateConfig)

    @property
    def memory(self) -> MemoryConfig:
        return self.model.memory

    def check(self):
        check_windows(self)
        if self.sample.steps > self.diffusion.levels:
            raise ConfigError(
                f"sample.steps={self.sample.steps}: expected 1 .. {self.diffusion.levels} (diffusion.levels)"
            )
        if self.model.context_level >= self.diffusion.levels:
            raise ConfigError(
                f"model.context_level={self.model.context_level}: "
                f"expected 0 .. {self.diffusion.levels - 1} (diffusion.levels - 1)"
            )
        if self.memory.frames == "noised" and self.memory.noised_levels > self.diffusion.levels:
            raise ConfigError(
                f"memory.noised_levels={self.memory.noised_levels}: expected 1 .. {self.diffusion.levels} (diffusion.levels)"
            )
        if self.memory.kind == "none" and self.train.freeze == "base":
            raise ConfigError(
                "train.freeze=base: with memory.kind=none nothing is left to train; use train.freeze=none"
            )
        devices = max(self.mesh.data, 1) * self.mesh.fsdp
        multiple(
            "train.batch",
            self.train.batch,
            "train.accumulate * mesh devices",
            self.train.accumulate * devices,
        )

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values with one entry per section, ``memory`` beside ``model``, as experiments write them."""
        nested: dict[str, Any] = {}
        for path, value in flatten(self).items():
            section, _, name = path.rpartition(".")
            (nested.setdefault(section, {}) if section else nested)[name] = value
        return nested

    def to_json(self) -> str:
        """Text that `config_from_json` reads back to an equal config."""
        return json.dumps(self.to_dict(), indent=2) + "\n"


def check_windows(config: Config) -> None:
    """Raises `ConfigError` unless the windows that training asks for fit into a clip."""
    clip, window, first = config.data.clip, config.model.window, config.train.first_start
    if clip < first + window:
        raise ConfigError(
            f"data.clip={clip}: expected at least {first + window}, train.first_start ({first}) + model.window ({window})"
        )
    starts = window_starts(clip, window, config.memory.stride, first)
    if len(starts) < config.train.windows:
        raise ConfigError(
            f"train.windows={config.train.windows}: expected at most {len(starts)}, the multiples of memory.stride "
            f"({config.memory.stride}) from train.first_start ({first}) to data.clip - model.window ({clip - window})"
        )


def window_starts(clip: int, window: int, stride: int, first: int) -> range:
    """The frames of a clip at which a window may start: multiples of ``stride`` from ``first`` on."""
    return range(-(-first // stride) * stride, clip - window + 1, stride)


def load_config(path: str, overrides: Iterable[str] | Mapping[str, Any] = ()) -> Config:
    """Reads an experiment file and applies overrides.

    Args:
      path: a Python file, with ``:variant`` behind it if wanted.
      overrides: texts ``"section.key=value"``, or a mapping from ``"section.key"`` to values.

    Raises:
      ConfigError: in one or two lines, whatever is wrong.
    """
    where = f"config file {path}: "
    values = flatten_dict(read_experiment(path), where)
    try:
        values = {path: find_key(path).check(value) for path, value in values.items()}
    except ConfigError as error:
        raise ConfigError(f"{where}{error}") from None
    values = flatten(DEFAULTS) | values | read_overrides(overrides)
    for section in ("data", "evaluate"):  # a command follows the path that was chosen
        directory = shlex.quote(values[f"{section}.path"])
        values[f"{section}.make"] = values[f"{section}.make"].replace("{path}", directory)
    return build(values)


def override(config: Config, overrides: Iterable[str] | Mapping[str, Any]) -> Config:
    """``config`` with other values for some keys; ``overrides`` as for `load_config`."""
    return build(flatten(config) | read_overrides(overrides))


def config_from_dict(values: Mapping[str, Any]) -> Config:
    """The inverse of `Config.to_dict`; keys left out keep their defaults."""
    return build(read_overrides(values))


def config_from_json(text: str) -> Config:
    """The inverse of `Config.to_json`."""
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"not a JSON configuration: {shorten(error)}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"not a JSON configuration: expected an object of sections, found {shorten(text)}")
    return config_from_dict(values)


def flatten(config: Config) -> dict[str, Any]:
    """All values by their dotted key, in the order of `format_config`."""
    return {
        declared.path: getattr(section, name)
        for section in sections(config).values()
        for name, declared in keys(type(section)).items()
    }


def diff_configs(a: Config, b: Config) -> dict[str, tuple[Any, Any]]:
    """The keys in which two configs differ, with the value of each."""
    before, after = flatten(a), flatten(b)
    return {path: (before[path], after[path]) for path in before if before[path] != after[path]}


def format_config(config: Config) -> str:
    """All keys with their values and meanings, section by section, for reading."""
    lines = []
    for name, section in sections(config).items():
        title = type(section).__doc__.splitlines()[0]
        lines += ["", f"{name}: {title}" if name else title]
        rows = [
            (k.path, show_value(getattr(section, field)), k.help) for field, k in keys(type(section)).items()
        ]
        path_width = max(len(path) for path, _, _ in rows)
        value_width = min(24, max(len(value) for _, value, _ in rows))
        lines += [f"  {path:<{path_width}} = {value:<{value_width}}  # {help}" for path, value, help in rows]
    return "\n".join(lines[1:]) + "\n"


def sections(config: Config) -> dict[str, Section]:
    """The sections by name; the empty name is the config itself, and memory follows the model that holds it."""
    found: dict[str, Section] = {"": config}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, Section):
            found[field.name] = value
            if field.name == "model":
                found["memory"] = value.memory
    return found


DEFAULTS = Config()
KEYS = {
    declared.path: declared
    for section in sections(DEFAULTS).values()
    for declared in keys(type(section)).values()
}
SECTIONS = tuple(name for name in sections(DEFAULTS) if name)


def build(values: Mapping[str, Any]) -> Config:
    """Makes a `Config` from checked values by dotted key; keys left out keep their defaults."""

    def make(section: type[Section], **inner: Section) -> Section:
        own = {name: values[k.path] for name, k in keys(section).items() if k.path in values}
        return section(**own, **inner)

    parts = {
        name: type(part) for name, part in sections(DEFAULTS).items() if name not in ("", "memory", "model")
    }
    made = {name: make(part) for name, part in parts.items()}
    return make(Config, **made, model=make(ModelConfig, memory=make(MemoryConfig)))


def read_overrides(overrides: Iterable[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Checked values by dotted key, from texts ``key=value`` or from a mapping."""
    if isinstance(overrides, Mapping):
        return {path: find_key(path).check(value) for path, value in flatten_dict(overrides).items()}
    if isinstance(overrides, str):
        overrides = [overrides]
    found: dict[str, Any] = {}
    for text in overrides:
        path, equals, value = text.partition("=")
        path = path.strip()
        if not equals or not path:
            raise ConfigError(
                f"override {shorten(text)!r}: expected section.key=value, such as train.steps=100"
            )
        declared = find_key(path)
        if path in found:
            raise ConfigError(
                f"{path}={shorten(value)}: given twice, before as {show_value(found[path])}; keep one"
            )
        found[path] = declared.parse(value)
    return found


def flatten_dict(nested: Mapping[str, Any], where: str = "", above: str = "") -> dict[str, Any]:
    """``{"train": {"steps": 3}}`` -> ``{"train.steps": 3}``, keys only checked for existence; they may be dotted already."""
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        path = f"{above}{name}"
        if isinstance(value, Mapping) and path not in KEYS and (value or path in SECTIONS):
            flat |= flatten_dict(value, where, f"{path}.")
        else:
            find_key(path, where)
            flat[path] = value
    return flat


def find_key(path: str, where: str = "") -> Key:
    """The declaration of a key, or a `ConfigError` that names the nearest one."""
    if path in KEYS:
        return KEYS[path]
    if path in SECTIONS:
        names = ", ".join(k for k in KEYS if k.startswith(f"{path}."))
        raise ConfigError(f"{where}{path} is a section, not a key; its keys are\n{names}")
    last = path.rpartition(".")[2]
    same_name = [k for k in KEYS if k.rpartition(".")[2] == last]
    close = (
        (nearest(path, same_name) if "." in path else None) or " or ".join(same_name) or nearest(path, KEYS)
    )
    hint = did_you_mean(close) or f"; sections are {', '.join(SECTIONS)}"
    raise ConfigError(f"{where}{shorten(path)}: unknown key{hint}")
