"""The recipe of a set of voxel episodes: everything its frames depend on, checked."""

import re
from dataclasses import asdict, dataclass
from typing import Any

from data_prep.common.recipe_checks import RecipeError, expect_between, expect_one_of
from data_prep.worlds.voxel.policy import HALF_TURN
from data_prep.worlds.voxel.protocols import CONTEXT_SHARE, SHORTEST_CONTEXT, way_out

PROTOCOLS = ("train", "rotate", "loop", "return")
# Episode i draws its world and its walk from (seed, split, protocol, i): splits share no world.
SPLITS = ("train", "test", "validation")
_SIZE = re.compile(r"(\d+)x(\d+)")
_SMALLEST, _LARGEST = 8, 1024
_TRAIN_FRAMES, _PATTERN_FRAMES, _EVALUATION_FRAMES = 1201, 151, 100  # VRAG, VRAG, the paper


@dataclass(frozen=True)
class Recipe:
    """What to make. ``None`` stands for a default that depends on the protocol, which the properties below give.

    Attributes:
      protocol: one of PROTOCOLS.
      split: one of SPLITS; outside of "train", rotate, loop and return are evaluations, which have a context.
      seed: not negative.
      size: "WIDTHxHEIGHT" of the videos in pixels, both even. The codec halves the resolution of colour: to train on frames of
        64x64, record 128x128 and let the conversion scale (42 dB; recorded at 64x64 33 dB).
      supersample: rays per pixel and direction.
      frames: length of an episode. Default: 1201 for train; 151 for training walks of the other protocols, 100 for their
        evaluations.
      context: frames of the context of an evaluation (60 % of the frames).
      turn_probability: train: of a turn to each side, drawn anew every fifth step (0.25, as in VRAG's `mem_collect.py`; its
        `collect.py` has 0.05).
      quality: quantiser of the mpeg4 encoder, 1 (best) to 31.

    Raises:
      RecipeError: a value, or a combination, that is not possible.
    """

    protocol: str
    split: str = "train"
    seed: int = 0
    size: str = "128x128"
    supersample: int = 1
    frames: int | None = None
    context: int | None = None
    turn_probability: float | None = None
    quality: int = 1

    def __post_init__(self) -> None:
        expect_one_of("protocol", self.protocol, PROTOCOLS)
        expect_one_of("split", self.split, SPLITS)
        expect_between("seed", self.seed, 0, 2**32 - 1)
        size = _SIZE.fullmatch(self.size)
        if not size:
            raise RecipeError(f"size: {self.size!r} is not WIDTHxHEIGHT, such as 128x128 or 640x360")
        for name, pixels in zip(("width", "height"), map(int, size.groups()), strict=True):
            expect_between(f"size, {name}", pixels, _SMALLEST, _LARGEST)
            if pixels % 2:
                raise RecipeError(f"size, {name}: {pixels} is odd, which the video codec cannot store")
        expect_between("supersample", self.supersample, 1, 8)
        expect_between("quality", self.quality, 1, 31)
        if self.turn_probability is not None:
            if self.protocol != "train":
                raise RecipeError(f"turn_probability: has no meaning for protocol {self.protocol}")
            expect_between("turn_probability", self.turn_probability, 0, 0.5)
        if self.context is not None and not self.has_context:
            raise RecipeError(f"context: has no meaning for protocol {self.protocol}, split {self.split}")
        expect_between("frames", self.num_frames, 2, 10**6)
        if self.has_context:
            expect_between("context", self.num_context, SHORTEST_CONTEXT[self.protocol], self.num_frames - 1)
        if self.protocol == "return":
            self._check_way_back()

    def _check_way_back(self) -> None:
        out = way_out(self.num_frames, self.num_context if self.has_context else None)
        if out < 1 or self.num_frames > 2 * out + HALF_TURN + 1:
            raise RecipeError(
                f"frames: {self.num_frames} do not fit a way out of {max(out, 0)} steps, half a turn and the way back"
            )

    @property
    def has_context(self) -> bool:
        """Whether the episodes are evaluations: some frames are given."""
        return self.protocol != "train" and self.split != "train"

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
    def turns(self) -> float:
        """Probability of a turn to each side under the random policy."""
        return 0.25 if self.turn_probability is None else self.turn_probability

    def as_info(self) -> dict[str, Any]:
        """The options in full, JSON: what a directory says about how it was made."""
        resolved = {"frames": self.num_frames}
        if self.has_context:
            resolved["context"] = self.num_context
        if self.protocol == "train":
            resolved["turn_probability"] = self.turns
        return {name: value for name, value in (asdict(self) | resolved).items() if value is not None}
