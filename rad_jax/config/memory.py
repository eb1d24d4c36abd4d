"""The keys of the memory: type, range, default, meaning and source; and which combinations cannot be."""

import dataclasses
from typing import Annotated, Literal

from rad_jax.config.keys import Names, Section, key
from rad_jax.config.memories import MEMORIES, NAMES, is_own
from rad_jax.config.messages import multiple, require, shorten

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
    frames: Literal["clean", "noised", "resampled", "archive"] = key(
        "clean",
        "what prefetch sees of earlier frames; resampled: what the model predicts for them; archive: true ones with errors "
        "that it made in earlier steps",
        source="paper, Table 5; code: noised, levels 0 to 99; the others are ours",
    )
    noised_levels: int = key(
        100, "their level is drawn from 0 .. this - 1", low=1, source="code", of=("noised",)
    )
    resample_levels: tuple[int, int] = key(
        (600, 850),
        "lowest and highest level that they are predicted from, or errors of the archive: where one step is about as "
        "wrong as it gets, .19 of the deviation of the latents beside .23 and more in a rollout (quickstart, 1,500 steps, "
        "the same shares of noise)",
        low=0,
        of=("resampled", "archive"),
    )
    resample_clean: float = key(
        0.5,
        "probability that the true frames of a clip are seen instead",
        low=0,
        high=1,
        of=("resampled", "archive"),
    )
    resample_after: int = key(
        0,
        "frames at the start of a clip that stay true, as the context of a rollout is",
        low=0,
        of=("resampled", "archive"),
    )
    resample_steps: int = key(
        1, "steps from that level down; more make frames that are less of a mean", low=1, of=("resampled",)
    )
    resample: Literal["parallel", "chain"] = key(
        "parallel",
        "parallel: frames of a window together, after true ones; chain: one after another, each after those that "
        "were predicted before it, as in a rollout",
        source="ours; Resampling Forcing: chain, 1 step",
        of=("resampled",),
    )
    archive: int = key(512, "errors that are kept, the newest", low=1, high=1_000_000, of=("archive",))
    archive_scale: float = key(
        1.0, "largest factor of the error that a frame is given", low=0, high=10, of=("archive",)
    )
    drop: float = key(
        0.0,
        "probability that a window reads the empty memory, so that the model does not come to lean on one; windows that "
        "train.revisit draws always read theirs",
        low=0,
        high=1,
        source="ours",
    )
    prefetch_segment: int = key(
        20,
        "frames of a step of prefetch, which is one step with a tape (bank, atlas): speed against space, same numbers",
        low=1,
    )
    mixer_segment: int = key(
        16,
        "frames (with blocks: tokens) of one step of their scans: speed against space, same numbers",
        low=1,
        of=("mamba2", "ttt"),
    )
    hidden: int = key(0, "units; 0: model.width", low=0, source="paper: 1024", of=("lstm",))
    gates: Literal["standard", "slots"] = key(
        "standard",
        "how the gates start; slots: as functions of the action, which learn far sooner, see model/mixers/lstm.py",
        source="paper; slots are ours",
        of=("lstm",),
    )
    heads: int = key(
        0,
        "heads; 0: model.heads; arl2: the state of a head, e x e numbers, tells at most e "
        "addresses apart, so few wide heads remember more",
        low=0,
        source="paper: 16",
        of=("ttt", "arl2", "bank", "atlas", "convkv", "queries"),
    )
    rule: Literal["token", "frame", "sum"] = key(
        "token",
        "how a frame is written; token: token after token by the gated delta rule; frame: all tokens at once, as in "
        "SANA-WM; sum: added up and never forgotten, as in SANA-Video",
        source="authors",
        of=("arl2",),
    )
    block: tuple[int, int] | None = key(
        None,
        "rows and columns of the tokens that share a state; (1,1): every token has its own; none: so it is, "
        "but for arl2, where all of the frame share one. Tokens of a block follow each other in mamba2 and ttt",
        low=1,
        source="authors",
        of=("arl2", "mamba2", "ttt"),
    )
    rotate: Literal["frame", "pose", "ray"] = key(
        "frame",
        "what a key is rotated by. frame: its place in the frame; pose: also by where the frame was seen from; "
        "ray: by the direction in the world in which its column looks; the last two need data.condition=action+pose or "
        "action+odometry",
        of=("arl2", "queries"),
    )
    queries: int = key(
        64, "how many", low=1, source="ours; authors: the tokens of three frames", of=("queries",)
    )
    query_width: int = key(0, "their features; 0: model.width", low=0, source="authors", of=("queries",))
    write: Literal["attention", "competition"] = key(
        "attention",
        "how a frame is written. attention: every query takes the mean of what it finds; competition: queries compete "
        "for the tokens, and one that wins none stays as it is",
        source="authors; competition is ours",
        of=("queries",),
    )
    state: int = key(64, "size of B and C, columns of a head's state", low=1, source="paper", of=("mamba2",))
    expand: int = key(2, "inner width over model.width", low=1, source="paper", of=("mamba2",))
    head_width: int = key(
        64, "features of a head, rows of its state", low=1, source="authors", of=("mamba2",)
    )
    conv: int = key(
        4, "frames (with blocks: tokens) the causal convolution sees", low=2, source="paper", of=("mamba2",)
    )
    mini_batch: int = key(
        1,
        "frames (with blocks: tokens) of an inner step, their gradients taken at the same weights",
        low=1,
        source="paper",
        of=("ttt",),
    )
    inner_rate: float = key(
        1.0,
        "rate of the inner steps, before its learned factor",
        above=0,
        high=100,
        source="authors",
        of=("ttt",),
    )

    capacity: int = key(64, "frames that it keeps", low=1, of=("bank", "atlas"))
    keep: Literal["newest", "all", "novel", "pose-bin", "pose-first", "unseen"] = key(
        "newest",
        "which frames. newest: the last ones; all: the first ones, until it is full; novel: those unlike all that are "
        "kept; pose-bin: one for each pose, the last; pose-first: one for each pose, the first; "
        "unseen: those that see something no kept one sees",
        source="ours; Context Forcing: novel",
        of=("bank",),
    )
    read: Literal["auto", "all", "pose", "embedding", "view-overlap"] = key(
        "auto",
        "which frames a frame reads. pose: those seen from the nearest poses; embedding: those most like the newest "
        "one; view-overlap: those that see most of what it sees; auto: pose if the model is given it, else embedding",
        source="ours; VRAG: pose; LongLive-RAG: embedding; WorldMem: view-overlap",
        of=("bank",),
    )
    retrieved: int = key(4, "how many frames a frame reads, unless it reads all", low=1, of=("bank", "atlas"))
    radius: float = key(
        0.3,
        "frames less than this apart have one pose. Distances are of headings as points on a circle of "
        "radius 1, and of scaled positions times memory.position_weight",
        above=0,
        high=1000,
        of=("bank", "convkv", "revisit"),
    )
    position_weight: float = key(
        4.0,
        "weight of scaled positions in distances",
        low=0,
        high=1_000_000,
        of=("arl2", "bank", "atlas", "convkv", "revisit"),
    )
    novelty: float = key(
        0.95,
        "novel: a frame is kept if its cosine to every kept one is below",
        low=-1,
        high=1.001,
        of=("bank",),
    )
    unseen: float = key(
        0.05,
        "unseen: share of what a frame sees that no kept one may see, for it to be kept",
        low=0,
        high=0.999,
        of=("bank", "atlas"),
    )
    view_angle: float = key(
        60.0,
        "view-overlap, ray: horizontal angle of view in degrees",
        above=0,
        high=360,
        of=("arl2", "bank", "atlas", "queries"),
    )
    view_range: float = key(
        1.0,
        "view-overlap: how far it sees, in weighted scaled positions",
        above=0,
        high=1_000_000,
        of=("bank", "atlas"),
    )

    slots: int = key(
        5,
        "whole frames of keys and values that it holds, each merged from several, in every layer",
        low=1,
        of=("convkv",),
    )
    merge: Literal["conv", "ema"] = key(
        "conv",
        "what a slot is merged from. conv: consecutive frames, weighted by their place among them; ema: all frames, "
        "as an exponential mean, with a rate for each slot",
        source="ours; LiveAct: conv; MemRoPE: ema",
        of=("convkv",),
    )
    align: Literal["none", "pose"] = key(
        "none",
        "pose: a slot is the mean of frames of one pose (memory.radius), which makes it a map of so many places; "
        "needs data.condition=action+pose or action+odometry",
        source="ours",
        of=("convkv",),
    )
    slot_frames: int = key(
        5,
        "conv: frames that are merged into a slot (r); ema: how many frames old what the fastest mean holds is at "
        "first, on average; twice as old in each further one",
        low=1,
        source="ours; LiveAct: 5",
        of=("convkv",),
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
    def posed(self) -> bool:
        """Whether the mixer is given the poses of frames."""
        match self.kind:
            case "arl2" | "queries":
                return self.rotate != "frame"
            case "convkv":
                return self.align == "pose"
        return False

    @property
    def keeps(self) -> str:
        """Which frames a memory with a tape keeps: ``keep``, unless that is fixed for its kind."""
        return MEMORIES[self.kind].fixed.get("keep", self.keep)

    @property
    def reads(self) -> str:
        """Which of them a frame reads: ``read``, unless that is fixed."""
        return MEMORIES[self.kind].fixed.get("read", self.read)

    @property
    def has_tape(self) -> bool:
        """Whether the memory keeps frames on a tape, beside or instead of a state."""
        return not is_own(self.kind) and MEMORIES[self.kind].tape

    @property
    def features(self) -> int:
        """Width of the action feature that the memory is given; 0: none."""
        wanted = self.kind == "lstm" if self.action is None else self.action
        return self.action_width if wanted else 0
