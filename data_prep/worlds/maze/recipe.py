"""The recipe of a data set of maze episodes: everything its frames depend on, checked."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from data_prep.worlds.maze.layout import LARGEST_SIZE, rules_for
from data_prep.worlds.maze.motion import TURN_DEGREES
from data_prep.worlds.maze.world import ROOM_SIZE
from data_prep.worlds.recipe import CONTEXT_SHARE, SPLITS, EpisodeRecipe, RecipeError, expect_between, option

LAPS = ("return", "loop")  # protocols whose walks vary in length
_DEFAULT_FRAMES = 1001
_ROOM_TURN_DEGREES = 30.0


@dataclass(frozen=True)
class Recipe(EpisodeRecipe):
    """What to make. Rotate has training walks in the split "train", return and loop are evaluations only.

    Raises:
      RecipeError: a value, or a combination, that is not possible.
    """

    size: int = option(f"cells of the inner maze along a side, odd, 3 to {LARGEST_SIZE}", 9)
    room: bool = option(
        "turn in the middle of a random room of 3 x 3 cells, no maze", False, protocols=("rotate",)
    )
    pixels: int = option("height and width of the frames, a multiple of 8", 64, between=(8, 1024))
    supersample: int = option("rays per pixel and direction", 1, between=(1, 8))
    border: bool | None = option(
        "colour of the current target around the frame; default: not in the room", None
    )
    frames: int | None = option(
        f"frames of an episode ({_DEFAULT_FRAMES}; rotate: two whole turns; its evaluations: the context, and a whole "
        "turn less one step)",
        None,
        protocols=("train", "rotate"),
    )
    context: int | None = option(
        "frames that are given (a whole turn and two)", None, protocols=("rotate",), evaluations_only=True
    )
    turn_degrees: float | None = option(
        "exact turns of so much, a divisor of 360; 0: the real kinematics, at any angle; default: 0, in the room 30",
        None,
        protocols=("rotate",),
    )
    look_around: bool = option("turn on the spot before the way back", False, protocols=LAPS)
    min_frames: int = option(
        f"shortest episode, {CONTEXT_SHARE:.0%} of it context", 100, between=(20, 10**5), protocols=LAPS
    )
    max_frames: int = option("longest episode", 300, protocols=LAPS)
    laps: int | None = option(
        "whole laps that are predicted; default: what is left of an episode of which the first lap is "
        f"{CONTEXT_SHARE:.0%}, two thirds of one",
        None,
        between=(1, 100),
        protocols=("loop",),
    )

    tested: ClassVar = LAPS
    source: ClassVar = "ray-cast Memory Maze"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pixels % 8:
            raise RecipeError(f"pixels: {self.pixels} is not divisible by 8, which tokenizers need")
        expect_between("max_frames", self.max_frames, self.min_frames, 10**5)
        rules_for(self.size)
        if self.room and self.size != ROOM_SIZE:
            raise RecipeError(f"size: the room has size {ROOM_SIZE}, not {self.size}")
        if self.protocol in LAPS and self.split == "train":
            raise RecipeError(f"split: {self.protocol} is an evaluation, expected split test or validation")
        if self.protocol in LAPS and self.size < 5:
            raise RecipeError(f"size: {self.protocol} needs a maze of at least 5, not {self.size}")
        if self.protocol == "loop" and self.max_frames < 100:
            raise RecipeError(f"max_frames: {self.max_frames} is too short for a lap, expected at least 100")
        if self.turn_degrees:
            steps = 360 / self.turn_degrees if self.turn_degrees > 0 else 0
            if steps < 3 or abs(steps - round(steps)) > 1e-9:
                raise RecipeError(
                    f"turn_degrees: {self.turn_degrees:g} does not divide 360 into 3 or more views"
                )
        expect_between("frames", self.num_frames, 2, 10**6)
        if self.has_context and self.protocol == "rotate":
            expect_between("context", self.num_context, 1, self.num_frames - 1)

    def generator(self, index: int) -> np.random.Generator:
        """What an episode of this seed and split is drawn from, whatever the protocol; a split has at most 10**6."""
        return np.random.default_rng((self.seed, SPLITS.index(self.split) * 10**6, index))

    @property
    def place(self) -> str:
        """Kind and size of the world, for the name of the data set."""
        return "room" if self.room else f"maze_{self.size}x{self.size}"

    @property
    def exact_turn(self) -> float | None:
        """Degrees of an exact turn step, None for the real kinematics."""
        return _ROOM_TURN_DEGREES if self.room and self.turn_degrees is None else self.turn_degrees or None

    @property
    def period(self) -> int:
        """Steps after which a whole turn is complete."""
        return -int(-360 // (self.exact_turn or TURN_DEGREES))

    @property
    def num_context(self) -> int:
        """Context frames of a rotate evaluation."""
        return self.period + 2 if self.context is None else self.context

    @property
    def num_frames(self) -> int:
        """Frames of an episode; for return and loop the most it can have."""
        if self.protocol in LAPS:
            return self.max_frames * (1 + (self.laps or 0))
        if self.frames is not None:
            return self.frames
        if self.protocol == "train":
            return _DEFAULT_FRAMES
        return self.num_context + self.period - 1 if self.has_context else 2 * self.period

    @property
    def has_border(self) -> bool:
        return not self.room if self.border is None else self.border

    @property
    def episode_bytes(self) -> int:
        """Of the images of an episode, at most."""
        return 3 * self.pixels**2 * self.num_frames * (2 if self.has_context else 1)

    def as_info(self) -> dict[str, Any]:
        """The options in full, JSON: what a data set says about how it was made."""
        names = ("protocol", "seed", "size", "room", "pixels", "supersample")
        info = {name: getattr(self, name) for name in names} | {"border": self.has_border}
        if self.protocol in LAPS:
            info |= {name: getattr(self, name) for name in ("min_frames", "max_frames", "look_around")}
            return info | ({"laps": self.laps} if self.laps else {})
        info["frames"] = self.num_frames
        if self.protocol == "rotate":
            info |= {"turn_degrees": self.exact_turn, "period": self.period}
        if self.has_context:
            info["context"] = self.num_context
        return info
