"""The recipe of a set of voxel episodes: everything its frames depend on, checked."""

import re
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from data_prep.worlds.recipe import CONTEXT_SHARE, EpisodeRecipe, RecipeError, expect_between, option
from data_prep.worlds.voxel.policy import HALF_TURN, SHORTEST_LOOP

SHORTEST_CONTEXT = {"rotate": 1, "loop": SHORTEST_LOOP + 1, "return": HALF_TURN + 2}
_SIZE = re.compile(r"(\d+)x(\d+)")
_SMALLEST, _LARGEST = 8, 1024
_TRAIN_FRAMES, _PATTERN_FRAMES, _EVALUATION_FRAMES = 1201, 151, 100  # VRAG, VRAG, the paper


@dataclass(frozen=True)
class Recipe(EpisodeRecipe):
    """What to make. Every protocol but train has training walks in the split "train" and evaluations in the others.

    The codec halves the resolution of colour: to train on frames of 64x64, record 128x128 and let the conversion scale (42 dB;
    recorded at 64x64 33 dB).

    Raises:
      RecipeError: a value, or a combination, that is not possible.
    """

    size: str = option("WIDTHxHEIGHT of the videos in pixels, both even", "128x128")
    supersample: int = option("rays per pixel and direction", 1, between=(1, 8))
    frames: int | None = option(
        f"frames of an episode (train {_TRAIN_FRAMES}, training walks of the other protocols {_PATTERN_FRAMES}, "
        f"evaluations {_EVALUATION_FRAMES})",
        None,
    )
    context: int | None = option("frames that are given (60 % of them)", None, evaluations_only=True)
    turn_probability: float = option(
        "of a turn to each side, drawn every fifth step; VRAG's mem_collect.py has 0.25, its collect.py 0.05",
        0.25,
        between=(0, 0.5),
        protocols=("train",),
    )
    quality: int = option("quantiser of the video codec mpeg4, 1 (best) to 31", 1, between=(1, 31))

    tested: ClassVar = ("rotate", "loop", "return")
    turns_back: ClassVar = True
    """Whether training rotations turn either way."""

    def __post_init__(self) -> None:
        super().__post_init__()
        size = _SIZE.fullmatch(self.size)
        if not size:
            raise RecipeError(f"size: {self.size!r} is not WIDTHxHEIGHT, such as 128x128 or 640x360")
        for name, pixels in zip(("width", "height"), map(int, size.groups()), strict=True):
            expect_between(f"size, {name}", pixels, _SMALLEST, _LARGEST)
            if pixels % 2:
                raise RecipeError(f"size, {name}: {pixels} is odd, which the video codec cannot store")
        expect_between("frames", self.num_frames, 2, 10**6)
        if self.has_context:
            expect_between("context", self.num_context, SHORTEST_CONTEXT[self.protocol], self.num_frames - 1)
        longest = 2 * self.way_out + HALF_TURN + 1
        if self.protocol == "return" and (self.way_out < 1 or self.num_frames > longest):
            raise RecipeError(
                f"frames: {self.num_frames} do not fit a way out of {max(self.way_out, 0)} steps, half a turn and the way back"
            )

    @property
    def width(self) -> int:
        return int(self.size.partition("x")[0])

    @property
    def height(self) -> int:
        return int(self.size.partition("x")[2])

    @property
    def num_frames(self) -> int:
        if self.frames is not None:
            return self.frames
        if self.protocol == "train":
            return _TRAIN_FRAMES
        return _EVALUATION_FRAMES if self.has_context else _PATTERN_FRAMES

    @property
    def num_context(self) -> int:
        """Context frames of an evaluation."""
        return round(CONTEXT_SHARE * self.num_frames) if self.context is None else self.context

    @property
    def way_out(self) -> int:
        """Return: steps of the way out, which with the turn are the context; a training walk ends where it began."""
        if self.has_context:
            return self.num_context - 1 - HALF_TURN
        return (self.num_frames - HALF_TURN) // 2

    def as_info(self) -> dict[str, Any]:
        """The options in full, JSON: what a directory says about how it was made."""
        info = asdict(self) | {"frames": self.num_frames}
        info["context"] = self.num_context if self.has_context else None
        if self.protocol != "train":
            del info["turn_probability"]
        return {name: value for name, value in info.items() if value is not None}
