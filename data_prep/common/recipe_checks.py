"""The error of recipes of episodes, and checks of single fields."""

from collections.abc import Iterable

from rad_jax.errors import UserError


class RecipeError(UserError, ValueError):
    """A recipe that cannot be followed; the message names the field, its value and what is expected."""


def expect_one_of(name: str, value: object, allowed: Iterable[object]) -> None:
    """Raises `RecipeError` unless the value is one of those allowed."""
    if value not in allowed:
        raise RecipeError(f"{name}: {value!r} is unknown, expected one of {', '.join(map(str, allowed))}")


def expect_between(name: str, value: float, low: float, high: float) -> None:
    """Raises `RecipeError` unless ``low`` <= ``value`` <= ``high``."""
    if not low <= value <= high:
        raise RecipeError(f"{name}: {value} is out of range, expected {low} to {high}")
