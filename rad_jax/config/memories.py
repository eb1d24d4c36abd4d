"""The memories by name, each with the check of the settings that it cannot have.

To add a memory, add a file to `rad_jax.model.mixers` and a line to `MEMORIES` with the name of that file.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from rad_jax.config.messages import multiple, require, show_value

if TYPE_CHECKING:
    from rad_jax.config.model import ModelConfig


def check_lstm(config: "ModelConfig") -> None:
    """Slots are functions of the action feature."""
    require(
        config.memory.gates != "slots" or config.memory.features > 0,
        "memory.gates=slots: the slots are functions of the action feature; set memory.action=true",
    )


def check_mamba2(config: "ModelConfig") -> None:
    """Heads fill the inner width."""
    inner = config.memory.expand * config.width
    multiple("memory.expand * model.width", inner, "memory.head_width", config.memory.head_width)


def check_ttt(config: "ModelConfig") -> None:
    """Heads share the width of the model."""
    multiple("model.width", config.width, "memory.heads", config.memory.heads or config.heads)


def check_arl2(config: "ModelConfig") -> None:
    """Heads share the width of the model and can be rotated in two dimensions; blocks share the tokens of a frame."""
    check_rotary_heads("memory.heads", config.memory.heads or config.heads, config.width)
    block = config.memory.block
    if block and config.latent:  # without latents, checked once they are known
        rows, columns = config.grid
        require(
            rows % block[0] == columns % block[1] == 0,
            f"memory.block={show_value(block)}: does not divide frames of {rows} x {columns} tokens "
            "(model.latent, model.patch)",
        )
    check_pose(config, rotate=config.memory.rotate)


def check_bank(config: "ModelConfig") -> None:
    """Frame after frame enters it, clean, and it is addressed by what the model is given."""
    memory = config.memory
    check_rotary_heads("memory.heads", memory.heads or config.heads, config.width)
    require(
        memory.stride == 1 and memory.shared,
        "memory.kind=bank: keeps clean frames, one at a time; needs memory.stride=1 and memory.window=shared, as in bank-f",
    )
    require(
        memory.retrieved <= memory.capacity,
        f"memory.retrieved={memory.retrieved}: expected at most memory.capacity ({memory.capacity})",
    )
    require(
        memory.bptt != "truncated",
        "memory.bptt=truncated: a bank has no recurrence that could be cut; use full or none",
    )
    check_pose(config, keep=memory.keep, read=memory.read)


def check_pose(config: "ModelConfig", **settings: str) -> None:
    """Refuses settings of a memory that need the pose if the model is known to be given none."""
    for name, value in settings.items():
        require(
            value not in NEED_POSE or config.pose is None or config.pose[1] > 0,
            f"memory.{name}={value}: the model is not given the pose; use data.condition=action+pose",
        )


def check_rotary_heads(name: str, heads: int, width: int) -> None:
    """Raises `ConfigError` unless ``heads`` divide ``width`` into multiples of 4, a pair of features for each direction."""
    multiple("model.width", width, name, heads)
    require(
        width // heads % 4 == 0,
        f"{name}={heads}: width {width} gives heads of {width // heads} features; "
        "rotary positions in two dimensions need a multiple of 4",
    )


# None: the memory can have any settings.
MEMORIES: dict[str, Callable[["ModelConfig"], None] | None] = {
    "none": None,
    "lstm": check_lstm,
    "mamba2": check_mamba2,
    "ttt": check_ttt,
    "arl2": check_arl2,
    "bank": check_bank,
}

NAMES = tuple(MEMORIES)

# They keep clean frames as they are, one by one, so there is no chunk-wise version of them.
FRAME_WISE = ("bank",)

# Settings of memories for which the model must be given the pose.
NEED_POSE = ("pose", "pose-bin", "pose-first", "view-overlap", "ray")


def modes(name: str) -> str:
    """The letters of the modes that a memory has: f frame-wise, c chunk-wise, s strided."""
    return "f" if name in FRAME_WISE else "fcs"
