"""The keys of everything but the model (type, range, default, meaning, source), the whole configuration, and what cannot be."""

import dataclasses
import json
import re
import shlex
from typing import Annotated, Any, Literal

from rad_jax.config.keys import LARGEST, Section, key, keys
from rad_jax.config.memory import MemoryConfig
from rad_jax.config.messages import multiple, require
from rad_jax.config.model import ModelConfig
from rad_jax.files import local_path

PREVIEWED = ("sd_vae", "taesd")  # tokenizers whose latents TAESD decodes
COUNTED = LARGEST[int]  # of steps and the like, for which nothing is allocated
SET_NAME = re.compile(r"[A-Za-z0-9][\w-]*")  # of an evaluation set; files and columns are named after it


def place(text: str) -> str:
    """Writes out a path; empty text stays empty."""
    return text and str(local_path(text))


def named_places(text: str) -> str:
    """Writes out the paths of NAME=DIRECTORY,NAME=DIRECTORY; any other text stays as it is."""
    entries = (entry.strip().partition("=") for entry in text.split(","))
    return ",".join(name + equals + place(path) for name, equals, path in entries)


# Keys that say where something lies are declared with these types, and with no other.
Place = Annotated[str, place]
NamedPlaces = Annotated[str, named_places]


class DataSet(Section):
    """Base of the sections that name a data set on disk."""

    path: str
    make: str
    auto_make: bool

    @property
    def command(self) -> str:
        """The shell command that makes the data set, for the ``path`` that this configuration has; empty: none."""
        return self.make.replace("{path}", shlex.quote(self.path))

    def check(self):
        require(
            bool(self.make.strip()) or not self.auto_make,
            f"{self.section}.auto_make=true: {self.section}.make has no command to run",
        )


@dataclasses.dataclass(frozen=True)
class DataConfig(DataSet):
    """The training episodes and how clips are cut from them."""

    path: Place = key("datasets/maze_15x15", "directory of the training episodes", filled=True)
    make: str = key(
        "", "shell command that makes them and a tokenizer, shown when they are missing; {path}: data.path"
    )
    auto_make: bool = key(False, "run that command when they are missing")
    split: str = key("train", "name of the split to train on", filled=True)
    condition: Literal["action", "action+pose", "action+odometry"] = key(
        "action",
        "what each frame is conditioned on. action+odometry: a pose that is added up from the actions since the first frame "
        "of the clip, so that evaluations and rollouts need none; what actions do is fitted to the training data's poses",
        source="paper; code gives the maze model the pose too",
    )
    heading_harmonics: int = key(
        1, "with pose or odometry: cos and sin of 1..n times the heading", low=1, high=8, source="code"
    )
    clip: int = key(100, "frames of a clip (T)", low=1, source="paper: 100 for Minecraft, 1001 for Maze")
    threads: int = key(2, "threads that read and decode episodes", low=1, high=1024)
    buffer: int = key(8, "batches read ahead", low=1, high=1024)
    max_damaged: int = key(
        0, "damaged episodes, each named, that training goes on without, before the next one ends it", low=0
    )


@dataclasses.dataclass(frozen=True)
class TokenizerConfig(Section):
    """What turns images into latents."""

    name: Literal["patch_pca", "sd_vae", "oasis_vae", "taesd"] = key(
        "patch_pca", "its kind", source="ours; paper: Stable Diffusion's for Maze, Oasis's for Minecraft"
    )
    path: Place = key("", "its file; empty: tokenizer.npz in data.path")
    preview: Place = key(
        "",
        f"weights of TAESD, which then decodes sample and rollout videos of {' or '.join(PREVIEWED)} latents, "
        "never an evaluation; empty: no TAESD",
    )

    def check(self):
        require(
            not self.preview or self.name in PREVIEWED,
            f"tokenizer.preview={self.preview}: TAESD decodes latents of {' or '.join(PREVIEWED)}, "
            f"not those of {self.name} (tokenizer.name)",
        )


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
        "model.window frames before the window; needs data.condition=action+pose",
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
    """AdamW and its learning rate."""

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


@dataclasses.dataclass(frozen=True)
class EvaluateConfig(DataSet):
    """The evaluation episodes and what the report shows of them."""

    path: Place = key("datasets/maze_15x15_return", "directory of the evaluation episodes", filled=True)
    make: str = key("", "shell command that makes them, shown when they are missing; {path}: evaluate.path")
    auto_make: bool = key(False, "run that command when they are missing")
    split: str = key("test", "name of the split to evaluate", filled=True)
    more: NamedPlaces = key("", "further evaluation sets for --mode compare: NAME=DIRECTORY,NAME=DIRECTORY")
    more_make: str = key("", "shell command that makes one of them; {path}: its directory, {name}: its name")
    variants: str = key("all", "what --mode compare compares; all: df and every memory, -c and -f")
    videos: int = key(0, "episodes to evaluate; 0: all", low=0, high=COUNTED)
    batch: int = key(8, "episodes generated together: trades speed for space", low=1)
    lpips: Place = key("", "weights of LPIPS, a file that data_prep.convert_lpips wrote; empty: no LPIPS")
    side_by_side: int = key(8, "episodes shown in the report", low=0)
    figure3: bool = key(True, "--mode compare measures which frames a predicted frame sees, for Figure 3")
    fps: int = key(4, "frames per second of the videos; the maze runs at 4", low=1, high=120)

    def check(self):
        super().check()
        require(
            not (self.others and self.auto_make) or bool(self.more_make.strip()),
            "evaluate.auto_make=true: evaluate.more_make has no command to run",
        )

    @property
    def others(self) -> dict[str, str]:
        """Directories of the further evaluation sets by name."""
        entries = [entry.strip().partition("=") for entry in self.more.split(",") if entry.strip()]
        found = {name: path for name, _, path in entries if path and SET_NAME.fullmatch(name)}
        require(
            len(found) == len(entries),
            f"evaluate.more={self.more}: expected NAME=DIRECTORY,NAME=DIRECTORY, each name once, of letters, digits, -, _",
        )
        return found


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
        levels, train, clip, window = self.diffusion.levels, self.train, self.data.clip, self.model.window
        first, stride, chain = train.first_start, self.memory.stride, train.chain
        require(
            chain == 1 or (stride == 1 and chain <= window),
            f"train.chain={chain}: windows of a chain start a frame apart; needs memory.stride=1, not {stride}, and at most "
            f"model.window ({window}) windows",
        )
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
            # Before the data are open the model has no pose yet, but what it will be given is known.
            pose, condition = self.model.pose, self.data.condition
            require(
                pose[1] > 0 if pose else condition == "action+pose",
                f"train.revisit={train.revisit}: the model is not given the pose; use data.condition=action+pose",
            )
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
        if self.memory.frames == "resampled":
            limits["memory.resample_levels"] = (self.memory.resample_levels[1], levels - 1)
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


def decay_begin(optimizer: OptimizerConfig, train: TrainConfig) -> int | float:
    """The optimizer step at which a learning rate that decays begins to, not before the warmup ends."""
    return max(optimizer.warmup, optimizer.decay_start * train.steps)


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
