"""The keys of diffusion, training and generation: type, range, default, meaning and source."""

import dataclasses
from typing import Literal

from rad_jax.config.keys import COUNTED, Place, Section, key
from rad_jax.config.messages import multiple, require


@dataclasses.dataclass(frozen=True)
class DiffusionConfig(Section):
    """Noise, what is predicted, and how frames are weighted."""

    schedule: Literal["sigmoid", "cosine", "linear"] = key(
        "sigmoid", "how noise grows with the level", source="code, oasis; the paper does not say"
    )
    shift: float = key(
        1.0, "factor on the ratio of signal to noise amplitudes; below 1: more noise", low=1e-3, high=1000
    )
    levels: int = key(1000, "noise levels", low=2, source="code, oasis")
    predict: Literal["v", "eps", "x0"] = key(
        "v", "what the model predicts", source="code, oasis; the paper writes the loss for eps"
    )
    weighting: Literal["uniform", "min_snr", "fused_snr"] = key(
        "fused_snr", "weight of a frame in the loss", source="code"
    )
    snr_clip: float = key(
        5.0, "largest signal-to-noise ratio that counts in the weight", above=0, high=1_000_000, source="code"
    )
    fused_decay: float = key(
        0.96, "with fused_snr: decay per frame of what earlier frames tell", low=0, below=1, source="code"
    )


@dataclasses.dataclass(frozen=True)
class TrainConfig(Section):
    """The training run."""

    steps: int = key(5000, "optimizer steps", low=1, high=COUNTED, source="paper: Minecraft, for each memory")
    batch: int = key(
        24, "clips of one step, over all devices", low=1, source="paper: 24 for Minecraft, 64 for Maze"
    )
    windows: int = key(8, "windows drawn from a clip (n)", low=1, source="code: 8 for Minecraft, 64 for Maze")
    first_start: int = key(0, "earliest frame at which a window may start", low=0)
    revisit: float = key(
        0.0,
        "probability that a window is drawn among those whose last frame sees again (memory.radius) what was seen at least "
        "model.window frames before the window; needs data.condition=action+pose or action+odometry",
        low=0,
        high=1,
        source="ours; after Memory Forcing",
    )
    chain: int = key(
        1,
        "windows from each start, a frame apart; the later ones hold predictions of the model (c); 1: single windows",
        low=1,
        source="ours; after Memory Forcing",
    )
    chain_steps: int = key(4, "with a chain: DDIM steps of such a prediction", low=1)
    window_batch: int = key(
        0, "windows of a clip that run together, which decides only the space needed; 0: all", low=0
    )
    accumulate: int = key(
        1, "parts of a batch that run one after another, which decides only the space needed", low=1
    )
    freeze: Literal["none", "base"] = key(
        "none",
        "parameters that stay as they are; base: only the memory learns, on a pretrained base",
        source="paper; code has base for Minecraft",
    )
    ema: float = key(0.999, "decay per step of the averaged parameters; 0: no average", low=0, below=1)
    log_every: int = key(50, "steps between two lines of metrics", low=1, high=COUNTED)
    sample_every: int = key(1000, "steps between two sample videos; 0: none", low=0, high=COUNTED)
    init_from: Place = key(
        "",
        "start: the work directory of a run, whose averaged parameters are taken, or weights of Open-Oasis or of this project "
        "in a .safetensors file; empty: random",
    )

    def check(self):
        multiple("train.batch", self.batch, "train.accumulate", self.accumulate)
        if self.window_batch:
            multiple("train.windows", self.windows, "train.window_batch", self.window_batch)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(Section):
    """The optimizer and its learning rate."""

    name: Literal["adamw", "muon"] = key(
        "adamw",
        "muon: the momentum of a matrix of the model, made orthogonal, moves it; everything else is moved by AdamW",
        source="paper; Jordan 2024, muon",
    )
    learning_rate: float = key(8e-5, "peak learning rate", above=0, high=10, source="code; not in the paper")
    b1: float = key(0.9, "decay of the mean of gradients", low=0, below=1, source="code")
    b2: float = key(0.99, "decay of the mean of squared gradients", low=0, below=1, source="code")
    weight_decay: float = key(2e-3, "decoupled weight decay", low=0, high=10, source="code")
    clip: float = key(1.0, "largest global norm of a gradient", above=0, high=1_000_000, source="code")
    warmup: int = key(
        100, "steps over which the learning rate rises linearly", low=0, high=COUNTED, source="code"
    )
    decay: Literal["constant", "linear", "cosine"] = key("constant", "rate after the warmup", source="code")
    decay_start: float = key(0.5, "with a decay: fraction of train.steps at which it begins", low=0, below=1)


@dataclasses.dataclass(frozen=True)
class CheckpointConfig(Section):
    """Which checkpoints are written, and which of them are kept."""

    every: int = key(500, "steps between two checkpoints", low=1, high=COUNTED)
    keep: int = key(2, "newest checkpoints kept", low=1, high=COUNTED)
    keep_every: int = key(0, "steps whose multiples are kept for ever; 0: none", low=0, high=COUNTED)

    def check(self):
        if self.keep_every:
            multiple("checkpoint.keep_every", self.keep_every, "checkpoint.every", self.every)


@dataclasses.dataclass(frozen=True)
class MeshConfig(Section):
    """How devices are laid out."""

    data: int = key(-1, "devices over which only the batch is split; -1: all that mesh.fsdp leaves", low=-1)
    fsdp: int = key(1, "devices over which batch and parameters are split", low=1)

    def check(self):
        require(self.data != 0, "mesh.data=0: expected -1 (all devices that are left) or an integer >= 1")


@dataclasses.dataclass(frozen=True)
class SampleConfig(Section):
    """Generation."""

    steps: int = key(50, "DDIM steps for each frame", low=1, source="paper")


def decay_begin(optimizer: OptimizerConfig, train: TrainConfig) -> int | float:
    """The optimizer step at which a learning rate that decays begins to, not before the warmup ends."""
    return max(optimizer.warmup, optimizer.decay_start * train.steps)


def window_starts(clip: int, window: int, stride: int, first: int) -> range:
    """The frames of a clip at which a window may start: multiples of ``stride`` from ``first`` on."""
    return range(-(-first // stride) * stride, clip - window + 1, stride)
