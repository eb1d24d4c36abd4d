"""The kinds of memory by name: what each remembers, where it is from, and which settings it cannot have.

To add one, add a file to `rad_jax.model.mixers` and a line to `MEMORIES` with the name of that file. A kind may also be a class
in a package of the user's, ``package.module:Class``; then it says these things itself, see `rad_jax.model.mixers.Mixer`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rad_jax.config.messages import NO_POSE, multiple, require, show_value

if TYPE_CHECKING:
    from rad_jax.config.memory import MemoryConfig
    from rad_jax.config.model import ModelConfig


def check_lstm(config: "ModelConfig") -> None:
    """Slots are functions of the action feature."""
    require(
        config.memory.gates != "slots" or config.memory.features > 0,
        "memory.gates=slots: the slots are functions of the action feature; set memory.action=true",
    )


def check_mamba2(config: "ModelConfig") -> None:
    """Heads fill the inner width; blocks share the tokens of a frame."""
    inner = config.memory.expand * config.width
    multiple("memory.expand * model.width", inner, "memory.head_width", config.memory.head_width)
    check_block(config)


def check_ttt(config: "ModelConfig") -> None:
    """Heads share the width of the model; blocks share the tokens of a frame."""
    multiple("model.width", config.width, "memory.heads", config.memory.heads or config.heads)
    check_block(config)


def check_arl2(config: "ModelConfig") -> None:
    """Heads share the width of the model and can be rotated in two dimensions; blocks share the tokens of a frame."""
    check_rotary_heads("memory.heads", config.memory.heads or config.heads, config.width)
    check_block(config)


def check_queries(config: "ModelConfig") -> None:
    """Heads share the width of the queries and can be rotated in two dimensions."""
    memory = config.memory
    width = memory.query_width or config.width
    of = "memory.query_width" if memory.query_width else "model.width"
    check_rotary_heads("memory.heads", memory.heads or config.heads, width, of)


def check_bank(config: "ModelConfig") -> None:
    """Frame after frame enters it, clean, and it is addressed by what the model is given."""
    memory = config.memory
    check_rotary_heads("memory.heads", memory.heads or config.heads, config.width)
    require(
        memory.stride == 1 and memory.shared,
        f"memory.kind={memory.kind}: keeps clean frames, one at a time; needs memory.stride=1 and memory.window=shared, as in "
        f"{memory.kind}-f",
    )
    require(
        memory.retrieved <= memory.capacity,
        f"memory.retrieved={memory.retrieved}: expected at most memory.capacity ({memory.capacity})",
    )
    require(
        memory.bptt != "truncated",
        f"memory.bptt=truncated: memory.kind={memory.kind} has no recurrence that could be cut; use full or none",
    )


def check_convkv(config: "ModelConfig") -> None:
    """Heads can be rotated in two dimensions; the frames of one pose have no order."""
    memory = config.memory
    check_rotary_heads("memory.heads", memory.heads or config.heads, config.width)
    require(
        memory.align == "none" or memory.merge == "conv",
        f"memory.merge={memory.merge}: with memory.align={memory.align} a slot is the mean of its frames; leave it out",
    )


def check_block(config: "ModelConfig") -> None:
    """Blocks share the tokens of a frame."""
    block = config.memory.block
    if block and config.latent:  # without latents, checked once they are known
        rows, columns = config.grid
        require(
            rows % block[0] == columns % block[1] == 0,
            f"memory.block={show_value(block)}: does not divide frames of {rows} x {columns} tokens "
            "(model.latent, model.patch)",
        )


def check_rotary_heads(name: str, heads: int, width: int, of: str = "model.width") -> None:
    """Raises `ConfigError` unless ``heads`` divide ``width`` into multiples of 4, a pair of features for each direction."""
    multiple(of, width, name, heads)
    require(
        width // heads % 4 == 0,
        f"{name}={heads}: width {width} gives heads of {width // heads} features; "
        "rotary positions in two dimensions need a multiple of 4",
    )


@dataclass(frozen=True)
class Kind:
    """A kind of memory that is built in.

    Attributes:
      state: what it remembers, in a line of Markdown; so is ``source``.
      check: refuses settings that it cannot have; None: it can have any.
      modes: letters of the modes that it has: f frame-wise, c chunk-wise, s strided.
      tape: whether it keeps frames on a tape, beside or instead of a state.
      needs_pose: the values of its settings, by name, for which the model must be given the pose.
      fixed: settings that it has in one way alone, which are no keys of it, by name.
    """

    state: str
    source: str
    check: Callable[["ModelConfig"], None] | None = None
    modes: str = "fcs"
    tape: bool = False
    needs_pose: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)


def paper(authors: str, number: str) -> str:
    """A source in Markdown."""
    return f"{authors}, [{number}](https://arxiv.org/abs/{number})"


MEMORIES: dict[str, Kind] = {
    "none": Kind("nothing", "Diffusion Forcing"),
    "lstm": Kind("h and c of every token", "the paper's", check_lstm),
    "mamba2": Kind(
        "a matrix per head of every token or block of tokens, and three frames",
        paper("Dao and Gu 2024", "2405.21060"),
        check_mamba2,
    ),
    "ttt": Kind(
        "a linear model per head of every token or block of tokens, trained as it goes",
        paper("Sun et al. 2024", "2407.04620"),
        check_ttt,
    ),
    "arl2": Kind(
        "a matrix per head for the whole frame, or for every block of tokens",
        paper("Li et al. 2026", "2605.16579"),
        check_arl2,
        needs_pose={"rotate": ("pose", "ray")},
    ),
    # It keeps clean frames as they are, one by one, so there is no chunk-wise version of it.
    "bank": Kind(
        "keys and values of whole frames, of which a frame reads a few",
        "VRAG, WorldMem and others, see [memories](docs/memories.md#the-bank)",
        check_bank,
        modes="f",
        tape=True,
        needs_pose={
            "keep": ("pose-bin", "pose-first", "unseen"),
            "read": ("pose", "view-overlap"),
        },
    ),
    "convkv": Kind(
        "keys and values of a few whole frames, each merged from several",
        "LiveAct, MemRoPE and ours, see [memories](docs/memories.md#merged-frames)",
        check_convkv,
        needs_pose={"align": ("pose",)},
    ),
    "queries": Kind(
        "vectors for the whole frame, which start at learned queries",
        "Echo-Infinity 2026, [2606.04527](https://arxiv.org/abs/2606.04527)",
        check_queries,
        needs_pose={"rotate": ("pose", "ray")},
    ),
    "atlas": Kind(
        "keys and values of the frames that saw what none before them did",
        "ours, see [memories](docs/memories.md#the-atlas)",
        check_bank,
        modes="f",
        tape=True,
        needs_pose={"kind": ("atlas",)},
        fixed={"keep": "unseen", "read": "view-overlap"},
    ),
}

NAMES = tuple(MEMORIES)

OWN = re.compile(r"(?P<module>[a-z_]\w*(\.[a-z_]\w*)*):(?P<name>[a-z_]\w*)", re.ASCII | re.IGNORECASE)


def is_own(kind: str) -> bool:
    """Whether a kind is a class of the user's, ``package.module:Class``."""
    return OWN.fullmatch(kind) is not None


def modes(kind: str) -> str:
    """The letters of the modes that a memory has: f frame-wise, c chunk-wise, s strided.

    All of them for a kind of the user's, whose class may refuse some where it is built: it is not imported for this.
    """
    return "fcs" if is_own(kind) else MEMORIES[kind].modes


def always_needs_pose(kind: str) -> bool:
    """Whether a built-in memory is nothing without the pose, whatever its settings."""
    return "kind" in MEMORIES[kind].needs_pose


def check_settings(config: "ModelConfig") -> None:
    """Raises `ConfigError` for settings that a built-in kind cannot have, or not without the pose, if it is given none."""
    memory = config.memory
    kind = MEMORIES.get(memory.kind)
    if kind and kind.check:
        kind.check(config)
    if config.pose is not None and not config.pose[1]:
        check_without_pose(memory)


def check_without_pose(memory: "MemoryConfig") -> None:
    """Raises `ConfigError` for settings of a memory whose model is not given the pose, but that need it."""
    kind = MEMORIES.get(memory.kind)
    for name, values in kind.needs_pose.items() if kind else ():
        value = getattr(memory, name)
        require(value not in values, f"memory.{name}={value}: {NO_POSE}")
