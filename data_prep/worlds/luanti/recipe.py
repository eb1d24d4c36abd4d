"""What the engine can record of a voxel recipe."""

from dataclasses import dataclass

from data_prep.common.recipe_checks import RecipeError
from data_prep.worlds.recipe import PROTOCOLS, SPLITS
from data_prep.worlds.voxel import recipe as voxel

_SMALLEST = 64  # pixels of a side


@dataclass(frozen=True)
class Recipe(voxel.Recipe):
    """A recipe for Luanti: the protocols of the voxel landscape in a landscape of the engine's.

    Attributes:
      map_seed: seed of the landscape. All episodes walk in the same one, each from a place of its own.

    Raises:
      RecipeError: a value, or a combination, that is not possible.
    """

    map_seed: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.supersample != 1:
            raise RecipeError(f"supersample: {self.supersample} has no meaning, the engine draws the pixels")
        if min(self.width, self.height) < _SMALLEST:
            raise RecipeError(f"size: {self.size} is too small for the engine, expected at least {_SMALLEST}")
        if not 0 <= self.map_seed < 2**63:
            raise RecipeError(f"map_seed: {self.map_seed} is out of range, expected 0 to 2**63 - 1")

    @property
    def stream(self) -> tuple[int, int, int]:
        """Seed, split and protocol: what the random generators of all episodes share."""
        return self.seed, SPLITS.index(self.split), PROTOCOLS.index(self.protocol)
