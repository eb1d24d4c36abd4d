"""The keys of the model and of its memory: type, range, default, meaning and source; and which combinations cannot be."""

import dataclasses
from typing import Annotated, Literal

import ml_dtypes  # noqa: F401 (teaches NumPy the name bfloat16)
import numpy as np

from rad_jax.config.keys import Names, Section, key
from rad_jax.config.memories import MEMORIES, NAMES, check_rotary_heads, check_settings, is_own
from rad_jax.config.messages import ConfigError, multiple, require, shorten, show_value

KindOfMemory = Annotated[str, Names(NAMES, "package.module:Class", is_own)]


@dataclasses.dataclass(frozen=True)
class MemoryConfig(Section):
    """The recurrent branch of every block: everything older than the window."""

    kind: KindOfMemory = key(
        "lstm",
        "network of the branch; none: Diffusion Forcing; set by the variant; package.module:Class: a class of yours, see "
        "docs/memories.md",
    )
    own: str = key("", "settings that such a class declares: name=value,name=value")
    stride: int = key(
        1,
        "frames by which the window slides and that enter the memory at once (s); set by the variant",
        low=1,
        source="paper: 1 frame-wise, model.window chunk-wise; thesis: between the two",
    )
    window: Literal["shared", "rollout"] = key(
        "shared",
        "shared: the frames of a window read the one state from before it; rollout: the memory runs on through the window; "
        "set by the variant",
        source="code",
    )
    action: bool | None = key(
        None,
        "concatenate an action feature to the input of the memory; none: for the LSTM alone",
        source="code; Table 4 of the paper compares",
    )
    action_width: int = key(
        128, "width of that action feature", low=1, source="code; best fit to the paper's parameter counts"
    )
    gate_init: float = key(
        0.0, "start of the output gate; 0 leaves a pretrained model as it is", low=-10, high=10, source="code"
    )
    bptt: Literal["full", "truncated", "none"] = key("full", "gradient through prefetch", source="code")
    bptt_frames: int = key(100, "with truncated: frames between two cuts of the gradient", low=1)
    frames: Literal["clean", "noised", "resampled"] = key(
        "clean",
        "what prefetch sees of earlier frames; resampled: what the model predicts for them",
        source="paper, Table 5; code: noised, levels 0 to 99; resampled is ours",
    )
    noised_levels: int = key(100, "noised: their level is drawn from 0 .. this - 1", low=1, source="code")
    resample_levels: tuple[int, int] = key(
        (600, 850),
        "resampled: lowest and highest level that they are predicted from: where one step is about as wrong as it gets, .19 of "
        "the deviation of the latents beside .23 and more in a rollout (quickstart, 1,500 steps, the same shares of noise)",
        low=0,
    )
    resample_clean: float = key(
        0.5, "resampled: probability that the true frames of a clip are seen instead", low=0, high=1
    )
    resample_steps: int = key(
        1, "resampled: steps from that level down; more make frames that are less of a mean", low=1
    )
    resample: Literal["parallel", "chain"] = key(
        "parallel",
        "resampled: parallel: frames of a window together, after true ones; chain: one after another, each after those that "
        "were predicted before it, as in a rollout",
        source="ours; Resampling Forcing: chain, 1 step",
    )
    drop: float = key(
        0.0,
        "probability that a window reads the empty memory, so that the model does not come to lean on one; windows that "
        "train.revisit draws always read theirs",
        low=0,
        high=1,
        source="ours",
    )
    prefetch_segment: int = key(20, "frames of a step of prefetch: speed against space, same numbers", low=1)
    mixer_segment: int = key(
        16, "mamba2, ttt: frames of one step of their scans: trades speed for space, same numbers", low=1
    )
    hidden: int = key(0, "lstm: units; 0: model.width", low=0, source="paper: 1024")
    gates: Literal["standard", "slots"] = key(
        "standard",
        "lstm: how the gates start; slots: as functions of the action, which learn far sooner, see model/mixers/lstm.py",
        source="paper; slots are ours",
    )
    heads: int = key(
        0,
        "ttt, arl2, bank: heads; 0: model.heads; arl2: the state of a head, e x e numbers, tells at most e addresses apart, "
        "so few wide heads remember more",
        low=0,
        source="paper: 16",
    )
    rule: Literal["token", "frame", "sum"] = key(
        "token",
        "arl2: how a frame is written; token: token after token by the gated delta rule; frame: all tokens at once, as in "
        "SANA-WM; sum: added up and never forgotten, as in SANA-Video",
        source="authors",
    )
    block: tuple[int, int] | None = key(
        None,
        "arl2: rows and columns of the tokens that share a state; none: all of the frame; (1,1): every token has its own",
        low=1,
        source="authors",
    )
    rotate: Literal["frame", "pose", "ray"] = key(
        "frame",
        "arl2: what a key is rotated by. frame: its place in the frame; pose: also by where the frame was seen from; ray: by "
        "the direction in the world in which its column looks; the last two need data.condition=action+pose",
    )
    state: int = key(64, "mamba2: size of B and C, columns of a head's state", low=1, source="paper")
    expand: int = key(2, "mamba2: inner width over model.width", low=1, source="paper")
    head_width: int = key(64, "mamba2: features of a head, rows of its state", low=1, source="authors")
    conv: int = key(4, "mamba2: frames the causal convolution sees", low=2, source="paper")
    mini_batch: int = key(
        1, "ttt: frames of an inner step, their gradients taken at the same weights", low=1, source="paper"
    )
    inner_rate: float = key(
        1.0, "ttt: rate of the inner steps, before its learned factor", above=0, high=100, source="authors"
    )

    capacity: int = key(64, "bank: frames that it keeps", low=1)
    keep: Literal["newest", "all", "novel", "pose-bin", "pose-first"] = key(
        "newest",
        "bank: which frames. newest: the last ones; all: the first ones, until it is full; novel: those unlike all that are "
        "kept; pose-bin: one for each pose, the last; pose-first: one for each pose, the first",
        source="ours; Context Forcing: novel",
    )
    read: Literal["auto", "all", "pose", "embedding", "view-overlap"] = key(
        "auto",
        "bank: which frames a frame reads. pose: those seen from the nearest poses; embedding: those most like the newest "
        "one; view-overlap: those that see most of what it sees; auto: pose if the model is given it, else embedding",
        source="ours; VRAG: pose; LongLive-RAG: embedding; WorldMem: view-overlap",
    )
    retrieved: int = key(4, "bank: how many frames a frame reads, unless it reads all", low=1)
    radius: float = key(
        0.3,
        "bank, revisit: frames less than this apart have one pose. Distances are of headings as points on a circle of radius "
        "1, and of scaled positions times memory.position_weight",
        above=0,
        high=1000,
    )
    position_weight: float = key(
        4.0, "bank, arl2, revisit: weight of scaled positions in distances", low=0, high=1_000_000
    )
    novelty: float = key(
        0.95, "bank, novel: a frame is kept if its cosine to every kept one is below", low=-1, high=1.001
    )
    view_angle: float = key(
        60.0, "bank, view-overlap, and arl2, ray: horizontal angle of view in degrees", above=0, high=360
    )
    view_range: float = key(
        1.0, "bank, view-overlap: how far it sees, in weighted scaled positions", above=0, high=1_000_000
    )

    def check(self):
        require(
            self.window == "rollout" or self.stride == 1,
            f"memory.window=shared: needs memory.stride=1, not {self.stride}; "
            "frames that enter the memory together take memory.window=rollout",
        )
        require(
            not self.own or is_own(self.kind),
            f"memory.own={shorten(self.own)}: memory.kind={self.kind} has no settings of its own, it has keys such as "
            "memory.heads; leave memory.own out",
        )
        first, last = self.resample_levels
        require(
            first <= last,
            f"memory.resample_levels=({first},{last}): expected the lowest level, then the highest one",
        )
        require(
            self.frames != "resampled" or self.resample_steps <= first + 1,
            f"memory.resample_steps={self.resample_steps}: from level {first} (memory.resample_levels) there are at most "
            f"{first + 1}",
        )
        multiple("memory.prefetch_segment", self.prefetch_segment, "memory.stride", self.stride)
        if self.bptt == "truncated":
            multiple("memory.bptt_frames", self.bptt_frames, "memory.prefetch_segment", self.prefetch_segment)

    @property
    def shared(self) -> bool:
        """Whether all frames of a window read the one state from before it."""
        return self.window == "shared"

    @property
    def rotated(self) -> bool:
        """Whether the memory is given the poses of frames, by which it rotates keys."""
        return self.kind == "arl2" and self.rotate != "frame"

    @property
    def has_tape(self) -> bool:
        """Whether the memory keeps frames on a tape, beside or instead of a state."""
        return not is_own(self.kind) and MEMORIES[self.kind].tape

    @property
    def features(self) -> int:
        """Width of the action feature that the memory is given; 0: none."""
        wanted = self.kind == "lstm" if self.action is None else self.action
        return self.action_width if wanted else 0


@dataclasses.dataclass(frozen=True)
class ModelConfig(Section):
    """The latent video transformer."""

    latent: tuple[int, int, int] | None = key(
        None, "rows, columns and channels of a latent frame; none: from the data and the tokenizer", low=1
    )
    action_dim: int | None = key(None, "size of the condition of a frame; none: from the data", low=1)
    pose: tuple[int, int] | None = key(
        None,
        "the pose at the end of that condition: position columns, and multiples of the heading, each a cosine and a sine; "
        "(0,0): there is none; none: from the data",
        low=0,
    )
    patch: int = key(2, "rows and columns of latents that make one token", low=1, source="code, oasis")
    width: int = key(
        1024, "features of a token (D)", low=4, source="code, oasis; alone fits the paper's parameter counts"
    )
    depth: int = key(16, "blocks", low=1, source="oasis: 16, for Minecraft; code: 12 for Maze")
    heads: int = key(16, "attention heads", low=1, source="code, oasis")
    mlp_ratio: float = key(
        4.0, "hidden width of an MLP over the width of the model", above=0, high=100, source="code, oasis"
    )
    window: int = key(20, "frames that attention sees (W)", low=1, source="paper")
    context_level: int = key(
        14, "level given to clean frames, in prefetch and in generation", low=0, source="code, oasis"
    )
    dtype: Literal["bfloat16", "float32", "float64"] = key(
        "bfloat16", "type of the matrix products; parameters and state are at least float32", source="code"
    )
    remat: bool = key(True, "recompute activations in the backward pass to save memory", source="code")
    memory: MemoryConfig = MemoryConfig()

    def check(self):
        check_rotary_heads("model.heads", self.heads, self.width)
        require(
            int(self.mlp_ratio * self.width) >= 1,
            f"model.mlp_ratio={self.mlp_ratio}: leaves no hidden feature at model.width={self.width}",
        )
        stride = self.memory.stride
        require(stride <= self.window, f"memory.stride={stride}: expected 1 .. {self.window} (model.window)")
        if self.pose is not None and self.action_dim is not None:
            columns = self.pose[0] + 2 * self.pose[1]
            require(
                columns <= self.action_dim,
                f"model.pose={show_value(self.pose)}: has {columns} columns, model.action_dim={self.action_dim} has fewer",
            )
        if self.latent is not None:
            rows, columns, _ = self.latent
            require(
                rows % self.patch == columns % self.patch == 0,
                f"model.patch={self.patch}: does not divide latents of {rows} x {columns} (model.latent)",
            )
        check_settings(self)

    @property
    def heading_at(self) -> tuple[int, int] | None:
        """First column of the position and of the heading (cosine, then sine) in a frame's condition; None without a pose."""
        positions, harmonics = self.pose or (0, 0)
        if not harmonics:
            return None
        return self.action_dim - positions - 2 * harmonics, self.action_dim - 2 * harmonics

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the tokens of a frame."""
        if self.latent is None:
            raise ConfigError(
                "model.latent=none: a model needs its rows, columns and channels, such as (8,8,16)"
            )
        return self.latent[0] // self.patch, self.latent[1] // self.patch

    @property
    def tokens(self) -> int:
        """Tokens of a frame (N)."""
        return self.grid[0] * self.grid[1]

    @property
    def compute_dtype(self) -> np.dtype:
        """Type of the operands of matrix products."""
        return np.dtype(self.dtype)

    @property
    def state_dtype(self) -> np.dtype:
        """Type of parameters, statistics, gates and memory states: at least float32."""
        return np.promote_types(self.compute_dtype, np.float32)

    @property
    def types(self) -> dict[str, np.dtype]:
        """Both, as layers of Flax are given them."""
        return {"dtype": self.compute_dtype, "param_dtype": self.state_dtype}
