"""Every configuration key: its type, range and meaning, and which combinations of keys cannot be.

The defaults are those of `experiments.base`, where each stands with its source. `rad_jax.config` reads experiments into
these dataclasses. An error is raised when an object is made, so whatever exists is valid.
"""

import dataclasses
import re

import ml_dtypes  # noqa: F401 (teaches NumPy the name bfloat16)
import numpy as np

from rad_jax.config.keys import ConfigError, Section, key, multiple
from rad_jax.config.memories import MEMORIES, NAMES

PREVIEWED = ("sd_vae", "taesd")  # tokenizers whose latents TAESD decodes
SET_NAME = re.compile(r"[A-Za-z0-9][\w-]*")  # of an evaluation set; files and columns are named after it


@dataclasses.dataclass(frozen=True)
class DataConfig(Section):
    """The training episodes and how clips are cut from them."""

    section = "data"
    path: str = key("datasets/maze_15x15", "directory of the training episodes", filled=True)
    make: str = key("", "shell command that makes it and its tokenizer; {path}: data.path")
    auto_make: bool = key(False, "run that command when the data set is missing")
    split: str = key("train", "name of the split to train on", filled=True)
    condition: str = key("action", "what each frame is conditioned on", choices=("action", "action+pose"))
    heading_harmonics: int = key(1, "with pose: cos and sin of 1..n times the heading", low=1, high=8)
    clip: int = key(100, "frames of a training clip (T)", low=1)
    threads: int = key(2, "threads that read and decode episodes", low=1)
    buffer: int = key(8, "batches read ahead", low=1)

    def check(self):
        needs_command(self)


@dataclasses.dataclass(frozen=True)
class TokenizerConfig(Section):
    """What turns images into latents."""

    section = "tokenizer"
    name: str = key("patch_pca", "kind of tokenizer", choices=("patch_pca", "sd_vae", "oasis_vae", "taesd"))
    path: str = key("", "its file; empty: tokenizer.npz in data.path")
    preview: str = key(
        "",
        "weights of TAESD, which then decodes sample and rollout videos, never an evaluation; empty: no TAESD",
    )

    def check(self):
        if self.preview and self.name not in PREVIEWED:
            raise ConfigError(
                f"tokenizer.preview={self.preview}: TAESD decodes latents of {' or '.join(PREVIEWED)}, "
                f"not those of {self.name} (tokenizer.name)"
            )


@dataclasses.dataclass(frozen=True)
class MemoryConfig(Section):
    """The recurrent branch of every block: everything older than the window."""

    section = "memory"
    kind: str = key("lstm", "recurrent network of the branch; none: Diffusion Forcing", choices=NAMES)
    stride: int = key(1, "frames by which the window slides and that enter the memory at once (s)", low=1)
    window: str = key(
        "shared", "frames of a window read one state, or the memory runs on", choices=("shared", "rollout")
    )
    action: bool | None = key(
        None, "concatenate an action feature to the input of the memory; none: for the LSTM alone"
    )
    action_width: int = key(128, "width of that action feature", low=1)
    gate_init: float = key(0.0, "start of the branch's output gate; 0: a fresh memory changes nothing")
    bptt: str = key("full", "gradient through prefetch", choices=("full", "truncated", "none"))
    bptt_frames: int = key(100, "with truncated: frames between two cuts of the gradient", low=1)
    frames: str = key("clean", "what prefetch sees of earlier frames", choices=("clean", "noised"))
    noised_levels: int = key(100, "with noised: their level is drawn from 0 .. this - 1", low=1)
    prefetch_segment: int = key(20, "frames of one prefetch step: speed against memory, same numbers", low=1)
    mixer_segment: int = key(
        16, "mamba2, ttt: frames a scan takes at once: speed against memory, same numbers", low=1
    )
    hidden: int = key(0, "lstm: units; 0: the width of the model", low=0)
    gates: str = key(
        "standard", "lstm: start of the gates; slots: functions of the action", choices=("standard", "slots")
    )
    heads: int = key(0, "ttt, arl2: heads; 0: those of the model", low=0)
    state: int = key(64, "mamba2: size of B and C, columns of a head's state", low=1)
    expand: int = key(2, "mamba2: inner width over the width of the model", low=1)
    head_width: int = key(64, "mamba2: features of a head, rows of its state", low=1)
    conv: int = key(4, "mamba2: frames the causal convolution sees", low=1)
    mini_batch: int = key(1, "ttt: frames whose gradients are taken at the same weights", low=1)
    inner_rate: float = key(1.0, "ttt: learning rate of the inner steps, before its learned factor", above=0)

    def check(self):
        if self.window == "shared" and self.stride != 1:
            raise ConfigError(
                f"memory.window=shared: needs memory.stride=1, not {self.stride}; "
                "frames that enter the memory together take memory.window=rollout"
            )
        multiple("memory.prefetch_segment", self.prefetch_segment, "memory.stride", self.stride)
        if self.bptt == "truncated":
            multiple("memory.bptt_frames", self.bptt_frames, "memory.prefetch_segment", self.prefetch_segment)

    @property
    def shared(self) -> bool:
        """Whether all frames of a window read the one state from before it."""
        return self.window == "shared"

    @property
    def features(self) -> int:
        """Width of the action feature that the memory is given; 0: none."""
        wanted = self.kind == "lstm" if self.action is None else self.action
        return self.action_width if wanted else 0


@dataclasses.dataclass(frozen=True)
class ModelConfig(Section):
    """The latent video transformer."""

    section = "model"
    latent: tuple[int, int, int] | None = key(
        None, "rows, columns and channels of a latent frame; none: from data and tokenizer", low=1
    )
    action_dim: int | None = key(None, "size of the condition of a frame; none: from the data", low=1)
    patch: int = key(2, "rows and columns of latents that make one token", low=1)
    width: int = key(1024, "features of a token (D)", low=4)
    depth: int = key(16, "blocks", low=1)
    heads: int = key(16, "attention heads", low=1)
    mlp_ratio: float = key(4.0, "width of an MLP's hidden layer over the model's width", above=0)
    window: int = key(20, "frames that attention sees (W)", low=1)
    context_level: int = key(14, "level given to clean frames, in prefetch and in generation", low=0)
    dtype: str = key(
        "bfloat16",
        "type of the matrix products; state is at least float32",
        choices=("bfloat16", "float32", "float64"),
    )
    remat: bool = key(True, "recompute activations in the backward pass instead of keeping them")
    memory: MemoryConfig = dataclasses.field(default_factory=MemoryConfig)

    def check(self):
        multiple("model.width", self.width, "model.heads", self.heads)
        if self.width // self.heads % 4:
            raise ConfigError(
                f"model.heads={self.heads}: width {self.width} gives heads of {self.width // self.heads} features; "
                "rotary positions in two dimensions need a multiple of 4"
            )
        if int(self.mlp_ratio * self.width) < 1:
            raise ConfigError(
                f"model.mlp_ratio={self.mlp_ratio}: leaves no hidden feature at model.width={self.width}"
            )
        if self.memory.stride > self.window:
            raise ConfigError(
                f"memory.stride={self.memory.stride}: expected 1 .. {self.window} (model.window)"
            )
        if self.memory.kind != "none":
            MEMORIES[self.memory.kind](self)
        if self.latent is not None:
            rows, columns, _ = self.latent
            if rows % self.patch or columns % self.patch:
                raise ConfigError(
                    f"model.patch={self.patch}: does not divide latents of {rows} x {columns} (model.latent)"
                )

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


@dataclasses.dataclass(frozen=True)
class DiffusionConfig(Section):
    """Noise, what is predicted, and how frames are weighted."""

    section = "diffusion"
    schedule: str = key("sigmoid", "how noise grows with the level", choices=("sigmoid", "cosine", "linear"))
    shift: float = key(1.0, "factor on the amplitude ratio of signal to noise; below 1: more noise", above=0)
    levels: int = key(1000, "noise levels", low=2)
    predict: str = key("v", "what the model predicts", choices=("v", "eps", "x0"))
    weighting: str = key(
        "fused_snr", "weight of a frame in the loss", choices=("uniform", "min_snr", "fused_snr")
    )
    snr_clip: float = key(5.0, "largest signal-to-noise ratio that counts in the weight", above=0)
    fused_decay: float = key(
        0.96, "with fused_snr: decay per frame of what earlier frames tell", low=0, below=1
    )


@dataclasses.dataclass(frozen=True)
class TrainConfig(Section):
    """The training run."""

    section = "train"
    steps: int = key(5000, "optimizer steps", low=1)
    batch: int = key(24, "clips of one step, over all devices", low=1)
    windows: int = key(8, "windows drawn from each clip (n)", low=1)
    first_start: int = key(0, "earliest frame at which a window may start", low=0)
    window_batch: int = key(0, "windows of a clip that run together; 0: all", low=0)
    accumulate: int = key(1, "parts into which a batch is split to save memory", low=1)
    freeze: str = key(
        "none", "parameters that stay as they are; base: all but the memory", choices=("none", "base")
    )
    ema: float = key(0.999, "decay per step of the averaged parameters; 0: no average", low=0, below=1)
    log_every: int = key(50, "steps between two lines of metrics", low=1)
    sample_every: int = key(1000, "steps between two sample videos; 0: none", low=0)
    init_from: str = key(
        "", "start: a run's work directory, or weights in a .safetensors file; empty: random"
    )

    def check(self):
        multiple("train.batch", self.batch, "train.accumulate", self.accumulate)
        if self.window_batch:
            multiple("train.windows", self.windows, "train.window_batch", self.window_batch)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(Section):
    """AdamW and its learning rate."""

    section = "optimizer"
    learning_rate: float = key(8e-5, "highest learning rate", above=0)
    b1: float = key(0.9, "decay of the mean of gradients", low=0, below=1)
    b2: float = key(0.99, "decay of the mean of squared gradients", low=0, below=1)
    weight_decay: float = key(2e-3, "decoupled weight decay", low=0)
    clip: float = key(1.0, "largest global norm of a gradient", above=0)
    warmup: int = key(100, "steps over which the learning rate rises linearly", low=0)
    decay: str = key("constant", "learning rate after that", choices=("constant", "linear", "cosine"))
    decay_start: float = key(0.5, "with a decay: fraction of train.steps at which it begins", low=0, below=1)


@dataclasses.dataclass(frozen=True)
class CheckpointConfig(Section):
    """What is kept of a run."""

    section = "checkpoint"
    every: int = key(500, "steps between two checkpoints", low=1)
    keep: int = key(2, "newest checkpoints kept", low=1)
    keep_every: int = key(0, "steps whose multiples are kept for ever; 0: none", low=0)

    def check(self):
        if self.keep_every:
            multiple("checkpoint.keep_every", self.keep_every, "checkpoint.every", self.every)


@dataclasses.dataclass(frozen=True)
class MeshConfig(Section):
    """How devices are laid out."""

    section = "mesh"
    data: int = key(-1, "devices over which only the batch is split; -1: all that are left", low=-1)
    fsdp: int = key(1, "devices over which batch and parameters are split", low=1)

    def check(self):
        if self.data == 0:
            raise ConfigError("mesh.data=0: expected -1 (all devices that are left) or an integer >= 1")


@dataclasses.dataclass(frozen=True)
class SampleConfig(Section):
    """Generation."""

    section = "sample"
    steps: int = key(50, "steps of the DDIM sampler for each frame", low=1)


@dataclasses.dataclass(frozen=True)
class EvaluateConfig(Section):
    """The evaluation episodes and what the report shows of them."""

    section = "evaluate"
    path: str = key("datasets/maze_15x15_return", "directory of the evaluation episodes", filled=True)
    make: str = key("", "shell command that makes it; {path}: evaluate.path")
    auto_make: bool = key(False, "run that command when the data set is missing")
    split: str = key("test", "name of the split to evaluate", filled=True)
    more: str = key("", "further evaluation sets for --mode compare: NAME=DIRECTORY,NAME=DIRECTORY")
    more_make: str = key("", "shell command that makes one of them; {path}: its directory, {name}: its name")
    variants: str = key("all", "what --mode compare compares; all: df and every memory, -c and -f")
    videos: int = key(0, "episodes to evaluate; 0: all", low=0)
    batch: int = key(8, "episodes generated together", low=1)
    lpips: str = key("", "weights of LPIPS, a file that data_prep.convert_lpips wrote; empty: no LPIPS")
    side_by_side: int = key(8, "episodes shown in the report", low=0)
    figure3: bool = key(True, "--mode score measures what predicted frames see, for Figure 3")
    fps: int = key(4, "frames per second of the videos", low=1, high=120)

    def check(self):
        needs_command(self)
        if self.others and self.auto_make and not self.more_make.strip():
            raise ConfigError("evaluate.auto_make=true: evaluate.more_make has no command to run")

    @property
    def others(self) -> dict[str, str]:
        """Directories of the further evaluation sets by name."""
        entries = [entry.strip().partition("=") for entry in self.more.split(",") if entry.strip()]
        found = {name: path for name, _, path in entries if path and SET_NAME.fullmatch(name)}
        if len(found) < len(entries):
            raise ConfigError(
                f"evaluate.more={self.more}: expected NAME=DIRECTORY,NAME=DIRECTORY, each name once, of letters, digits, -, _"
            )
        return found


def needs_command(data: DataConfig | EvaluateConfig) -> None:
    """Raises `ConfigError` if a data set is to be made without a command."""
    if data.auto_make and not data.make.strip():
        raise ConfigError(f"{data.section}.auto_make=true: {data.section}.make has no command to run")
