"""The keys of what is read: training episodes, their tokenizer, evaluation episodes."""

import dataclasses
import re
import shlex
from typing import Literal

from rad_jax.config.keys import COUNTED, NamedPlaces, Place, Section, key
from rad_jax.config.messages import require

PREVIEWED = ("sd_vae", "taesd")  # tokenizers whose latents TAESD decodes
SET_NAME = re.compile(r"[A-Za-z0-9][\w-]*")  # of an evaluation set; files and columns are named after it


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
