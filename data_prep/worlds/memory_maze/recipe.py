"""What Memory Maze on MuJoCo can make of a maze recipe."""

from dataclasses import dataclass
from typing import Any, ClassVar

from data_prep.worlds.maze.recipe import LAPS, Recipe
from data_prep.worlds.recipe import RecipeError, expect_between, expect_one_of, option

# Size of the maze -> frames of a whole episode: the one before the first action, and one after each.
EPISODE_FRAMES = {9: 1001, 11: 2001, 13: 3001, 15: 4001}
_LARGEST_FRAME = 480  # the height of MuJoCo's buffer


@dataclass(frozen=True)
class MemoryMazeRecipe(Recipe):
    """A recipe for the real Memory Maze: its four sizes, at most the length of its episodes, no rooms, no supersampling.

    Raises:
      RecipeError: a value, or a combination, that is not possible.
    """

    room: bool = option(
        "Memory Maze has no rooms to turn in; they are ray-cast, see make_maze", False, protocols=()
    )
    supersample: int = option("MuJoCo takes 4 samples anyway", 1, protocols=())

    source: ClassVar = "Memory Maze (MuJoCo)"

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_one_of("size", self.size, EPISODE_FRAMES)
        expect_between("pixels", self.pixels, 8, _LARGEST_FRAME)
        longest = EPISODE_FRAMES[self.size]
        if self.num_frames > longest:
            name = "max_frames" if self.protocol in LAPS else "frames"
            name = f"laps: {self.laps}, with max_frames" if self.laps else name
            raise RecipeError(
                f"{name}: {self.num_frames} is longer than an episode of size {self.size}, at most {longest}"
            )

    @property
    def place(self) -> str:
        return f"memory_{super().place}"

    def as_info(self) -> dict[str, Any]:
        return {k: v for k, v in super().as_info().items() if k not in ("room", "supersample")}
