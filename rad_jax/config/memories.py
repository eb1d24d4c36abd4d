"""The memories that there are, each with what it asks of the configuration.

A memory is one file of `rad_jax.model.mixers` and a line in `MEMORIES`, whose name is that of the file.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from rad_jax.config.keys import ConfigError, multiple

if TYPE_CHECKING:
    from rad_jax.config.sections import ModelConfig


def check_lstm(config: "ModelConfig") -> None:
    """Raises `ConfigError` for slots without what they are functions of."""
    if config.memory.gates == "slots" and not config.memory.features:
        raise ConfigError(
            "memory.gates=slots: the slots are functions of the action feature; set memory.action=true"
        )


def check_mamba2(config: "ModelConfig") -> None:
    """Raises `ConfigError` for heads that do not fill the inner width, or no convolution."""
    memory = config.memory
    inner = memory.expand * config.width
    multiple("memory.expand * model.width", inner, "memory.head_width", memory.head_width)
    if memory.conv < 2:
        raise ConfigError(f"memory.conv={memory.conv}: mamba2 expects an integer >= 2")


def check_ttt(config: "ModelConfig") -> None:
    """Raises `ConfigError` for heads that do not divide the width."""
    multiple("model.width", config.width, "memory.heads", config.memory.heads or config.heads)


def check_arl2(config: "ModelConfig") -> None:
    """Raises `ConfigError` if the heads do not share the width, or cannot be rotated in two dimensions."""
    heads = config.memory.heads or config.heads
    multiple("model.width", config.width, "memory.heads", heads)
    if config.width // heads % 4:
        raise ConfigError(
            f"memory.heads={heads}: width {config.width} gives heads of {config.width // heads} features; "
            "rotary positions in two dimensions need a multiple of 4"
        )


MEMORIES: dict[str, Callable[["ModelConfig"], None]] = {
    "lstm": check_lstm,
    "mamba2": check_mamba2,
    "ttt": check_ttt,
    "arl2": check_arl2,
}
"""Name of a memory -> raises `ConfigError` for settings that it cannot have."""

NAMES = ("none", *MEMORIES)
