"""The error of a configuration that cannot be used, and the words of its message."""

import difflib
from collections.abc import Iterable
from typing import Any

from rad_jax.errors import UserError, shown

NO_POSE = "the model is not given the pose; use data.condition=action+pose or action+odometry"


class ConfigError(UserError, ValueError):
    """A configuration that cannot be used. The message has one or two lines and names the key and what is allowed."""

    status = 2


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The entry of ``names`` that ``name`` was probably meant to be, or None."""
    by_lower = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def did_you_mean(name: str | None) -> str:
    """The end of an error message; empty without a suggestion."""
    return f"; did you mean {name}?" if name else ""


def shorten(value: Any, limit: int = 60) -> str:
    """``value`` as one line of at most ``limit`` characters."""
    return shown(" ".join(str(value).split()), limit)


def show_value(value: Any) -> str:
    """A value as the command line takes it: ``none``, ``true``, ``(4,4,16)``."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "(" + ",".join(map(str, value)) + ")"
    return str(value)


def require(condition: bool, message: str) -> None:
    """Raises `ConfigError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ConfigError(message)


def multiple(name: str, value: int, of: str, unit: int) -> None:
    """Raises `ConfigError` unless ``value`` is a multiple of ``unit``; names the nearest multiple."""
    close = max(1, round(value / unit)) * unit
    require(
        value % unit == 0, f"{name}={value}: expected a multiple of {of} ({unit}); the nearest is {close}"
    )
