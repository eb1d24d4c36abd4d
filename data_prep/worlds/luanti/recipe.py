"""What the engine can record of a voxel recipe."""

from dataclasses import dataclass
from typing import ClassVar

from data_prep.worlds.recipe import RecipeError, option
from data_prep.worlds.voxel import recipe as voxel

_SMALLEST = 64  # pixels of a side


@dataclass(frozen=True)
class Recipe(voxel.Recipe):
    """A recipe for Luanti: the protocols of the voxel landscape in a landscape of the engine's.

    Raises:
      RecipeError: a value, or a combination, that is not possible.
    """

    supersample: int = option("the engine draws the pixels", 1, protocols=())
    map_seed: int = option(
        "of the landscape; every episode starts at another place in it", 1, between=(0, 2**63 - 1)
    )

    turns_back: ClassVar = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.width, self.height) < _SMALLEST:
            raise RecipeError(f"size: {self.size} is too small for the engine, expected at least {_SMALLEST}")
