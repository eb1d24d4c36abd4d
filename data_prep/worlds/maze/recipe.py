"""The recipe of a data set of maze episodes: everything its frames depend on, checked."""

from dataclasses import dataclass
from typing import Any

from data_prep.common.recipe_checks import RecipeError, expect_between, expect_one_of
from data_prep.worlds.maze.layout import rules_for
from data_prep.worlds.maze.motion import TURN_DEGREES
from data_prep.worlds.maze.world import ROOM_SIZE

PROTOCOLS = ("train", "return", "loop", "rotate")
CONTEXT_SHARE = 0.6  # of the frames of return and loop
# Episode i of a split draws its world and its walk from (seed, offset of the split, i): splits share no world.
SPLIT_OFFSETS = {"train": 0, "test": 10**6, "validation": 2 * 10**6}
_LARGEST_FRAME = 1024
_DEFAULT_FRAMES = 1001
_ROOM_TURN_DEGREES = 30.0


@dataclass(frozen=True)
class Recipe:
    """What to make. ``None`` stands for the protocol's default, which the properties below give.

    Attributes:
      protocol: one of PROTOCOLS. Rotate has training walks in the split "train" and evaluations in the others.
      split: one of SPLIT_OFFSETS.
      seed: not negative.
      size: cells of the inner maze along a side: odd, 3 to 31.
      room: turn in the middle of a random room of 3 x 3 cells instead of a maze (rotate only).
      pixels: height and width of a frame, a multiple of 8.
      supersample: rays per pixel and direction.
      border: draw the colour of the current target around the frame; default: except in the room.
      frames: length of an episode of train (default 1001) and rotate (default two whole turns; evaluation: the context and
        one step less than a whole turn).
      context: frames of the context of a rotate evaluation (default a whole turn and two frames).
      turn_degrees: exact turns for rotate, a divisor of 360; default: the real kinematics, in the room 30.
      look_around: a turn on the spot before the way back of return and loop.
      min_frames, max_frames: length of an episode of return and loop.

    Raises:
      RecipeError: a value, or a combination, that is not possible.
    """

    protocol: str
    split: str = "train"
    seed: int = 0
    size: int = 9
    room: bool = False
    pixels: int = 64
    supersample: int = 1
    border: bool | None = None
    frames: int | None = None
    context: int | None = None
    turn_degrees: float | None = None
    look_around: bool = False
    min_frames: int = 100
    max_frames: int = 300

    def __post_init__(self):
        expect_one_of("protocol", self.protocol, PROTOCOLS)
        expect_one_of("split", self.split, SPLIT_OFFSETS)
        expect_between("seed", self.seed, 0, 2**32 - 1)
        expect_between("pixels", self.pixels, 8, _LARGEST_FRAME)
        if self.pixels % 8:
            raise RecipeError(f"pixels: {self.pixels} is not divisible by 8, which tokenizers need")
        expect_between("supersample", self.supersample, 1, 8)
        expect_between("min_frames", self.min_frames, 20, 10**5)
        expect_between("max_frames", self.max_frames, self.min_frames, 10**5)
        try:
            rules_for(self.size)
        except ValueError as error:
            raise RecipeError(str(error)) from None
        self._refuse_foreign_options()
        if self.room and self.size != ROOM_SIZE:
            raise RecipeError(f"size: the room has size {ROOM_SIZE}, not {self.size}")
        if self.protocol in ("return", "loop"):
            if self.split == "train":
                raise RecipeError(
                    f"split: {self.protocol} is an evaluation, expected split test or validation"
                )
            if self.size < 5:
                raise RecipeError(f"size: {self.protocol} needs a maze of at least 5, not {self.size}")
            if self.protocol == "loop" and self.max_frames < 100:
                raise RecipeError(
                    f"max_frames: {self.max_frames} is too short for a lap, expected at least 100"
                )
        if self.turn_degrees is not None:
            steps = 360 / self.turn_degrees if self.turn_degrees > 0 else 0
            if steps < 3 or abs(steps - round(steps)) > 1e-9:
                raise RecipeError(
                    f"turn_degrees: {self.turn_degrees:g} does not divide 360 into 3 or more views"
                )
        expect_between("frames", self.num_frames, 2, 10**6)
        if self.has_context and self.protocol == "rotate":
            expect_between("context", self.num_context, 1, self.num_frames - 1)

    def _refuse_foreign_options(self) -> None:
        """An option that the protocol would ignore is an error."""
        rotates, laps = self.protocol == "rotate", self.protocol in ("return", "loop")
        foreign = {
            "room": self.room and not rotates,
            "turn_degrees": self.turn_degrees is not None and not rotates,
            "context": self.context is not None and not (rotates and self.has_context),
            "frames": self.frames is not None and laps,
            "look_around": self.look_around and not laps,
            "min_frames": self.min_frames != 100 and not laps,
            "max_frames": self.max_frames != 300 and not laps,
        }
        for name, is_foreign in foreign.items():
            if is_foreign:
                raise RecipeError(f"{name}: has no meaning for protocol {self.protocol}, split {self.split}")

    @property
    def source(self) -> str:
        """What makes the frames."""
        return "ray-cast Memory Maze"

    @property
    def place(self) -> str:
        """Kind and size of the world, for the name of the data set."""
        return "room" if self.room else f"maze_{self.size}x{self.size}"

    @property
    def has_context(self) -> bool:
        """Whether the episodes are evaluations: some frames are given, the others have an oracle."""
        return self.protocol in ("return", "loop") or (self.protocol == "rotate" and self.split != "train")

    @property
    def exact_turn(self) -> float | None:
        """Degrees of an exact turn step, None for the real kinematics."""
        return _ROOM_TURN_DEGREES if self.room and self.turn_degrees is None else self.turn_degrees

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
        if self.protocol in ("return", "loop"):
            return self.max_frames
        if self.frames is not None:
            return self.frames
        if self.protocol == "train":
            return _DEFAULT_FRAMES
        return self.num_context + self.period - 1 if self.has_context else 2 * self.period

    @property
    def has_border(self) -> bool:
        return not self.room if self.border is None else self.border

    @property
    def frame_bytes(self) -> int:
        """Of the images of one frame."""
        return 3 * self.pixels**2 * (2 if self.has_context else 1)

    def as_info(self) -> dict[str, Any]:
        """The options in full, JSON: what a data set says about how it was made."""
        options = {
            "protocol": self.protocol,
            "seed": self.seed,
            "size": self.size,
            "room": self.room,
            "pixels": self.pixels,
            "supersample": self.supersample,
            "border": self.has_border,
        }
        if self.protocol in ("return", "loop"):
            return options | {
                "min_frames": self.min_frames,
                "max_frames": self.max_frames,
                "look_around": self.look_around,
            }
        options["frames"] = self.num_frames
        if self.protocol == "rotate":
            options["turn_degrees"] = self.exact_turn
            options["period"] = self.period
        if self.has_context:
            options["context"] = self.num_context
        return options
