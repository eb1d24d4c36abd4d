"""How a configuration key is declared, checked and read from text.

Keys are declared in `rad_jax.config.model`, `rad_jax.config.sections` and `rad_jax.config.config`:

    @dataclass(frozen=True)
    class SampleConfig(Section):
        section = "sample"
        steps: int = key(50, "DDIM steps for each frame", low=1, source="paper")

A `Section` checks itself whenever it is made, also by ``dataclasses.replace``: first the type, range and choices of each key,
then the combinations that its own `Section.check` refuses.
"""

import ast
import dataclasses
import functools
import numbers
import operator
import sys
import types
import typing
from typing import Any, ClassVar

from rad_jax.config.messages import ConfigError, did_you_mean, nearest, shorten, show_value

LARGEST = {int: 2**31 - 1, float: sys.float_info.max}  # also refuses infinity and NaN
BOUNDS = {
    "low": (">=", operator.ge),
    "above": (">", operator.gt),
    "high": ("<=", operator.le),
    "below": ("<", operator.lt),
}


def key(default: Any, help: str, *, source: str = "ours", **rule: Any) -> Any:
    """Declares a configuration key as a dataclass field.

    Args:
      default: its value unless an experiment says otherwise.
      help: what it means, with its unit.
      source: where the default comes from: one of `rad_jax.config.show.SOURCES`, with further words behind it if needed.
      **rule: ``low`` and ``high`` (inclusive), ``above`` and ``below`` (exclusive) bound a number or every number of a
        tuple; ``choices`` lists the values allowed; ``filled=True`` forbids empty text.
    """
    return dataclasses.field(default=default, metadata={"help": help, "source": source, **rule})


@dataclasses.dataclass(frozen=True)
class Key:
    """A declared key.

    Attributes:
      path: its dotted name, such as "train.steps".
      kind: bool, int, float or str, of the value or of the entries of a tuple.
      length: number of entries of a tuple; None for a single value.
      optional: whether None is allowed.
    """

    path: str
    default: Any
    kind: type
    length: int | None
    optional: bool
    help: str
    source: str
    low: int | float | None = None
    high: int | float | None = None
    above: int | float | None = None
    below: int | float | None = None
    choices: tuple[str, ...] | None = None
    filled: bool = False

    @property
    def allowed(self) -> str:
        """What the key may be, in words."""
        if self.choices is not None:
            words = "one of " + ", ".join(self.choices)
        elif self.kind is bool:
            words = "true or false"
        elif self.kind is str:
            words = "text that is not empty" if self.filled else "text"
        else:
            one, many = ("an integer", "integers") if self.kind is int else ("a number", "numbers")
            words = one if self.length is None else f"{self.length} {many}"
            bounds = [f"{sign} {limit}" for sign, _, limit in self._bounds()]
            words += " " + " and ".join(bounds) if bounds else ""
            words += " (32 bits)" if self.kind is int else ""
            words += "" if self.length is None else f" such as ({','.join('8' * self.length)})"
        return words + " or none" if self.optional else words

    def _bounds(self) -> list[tuple[str, Any, int | float]]:
        limits = ((sign, holds, getattr(self, name)) for name, (sign, holds) in BOUNDS.items())
        return [bound for bound in limits if bound[2] is not None]

    def check(self, value: Any) -> Any:
        """Returns ``value`` as the declared type (an int becomes a float, a list a tuple) or raises `ConfigError`."""
        if value is None and self.optional:
            return None
        entries = [value] if self.length is None else value
        fits = isinstance(entries, list | tuple) and len(entries) == (self.length or 1)
        if not fits or not all(map(self._accepts, entries)):
            # Quoted, because steps="7" would otherwise read as the number that was asked for.
            text = isinstance(value, str) and self.kind is not str
            raise self.error(repr(value) if text else value)
        entries = tuple(map(self.kind, entries))
        return entries[0] if self.length is None else entries

    def _accepts(self, entry: Any) -> bool:
        if self.kind in (bool, str):
            if not isinstance(entry, self.kind) or (self.filled and not entry.strip()):
                return False
            return self.choices is None or entry in self.choices
        wanted = numbers.Integral if self.kind is int else numbers.Real
        return (
            isinstance(entry, wanted)
            and not isinstance(entry, bool)
            and abs(entry) <= LARGEST[self.kind]
            and all(holds(entry, limit) for _, holds, limit in self._bounds())
        )

    def parse(self, text: str) -> Any:
        """Reads a value from a command line: literals only, strings without quotes, ``none`` where it is allowed."""
        word = text.strip()
        if self.optional and word.lower() in ("none", "null"):
            return None
        if self.kind is str:
            # A pair of quotes around the whole text survives a shell that was given two.
            quoted = len(word) >= 2 and word[0] == word[-1] and word[0] in "'\""
            return self.check(word[1:-1] if quoted else word)
        if self.kind is bool and word.lower() in ("true", "false"):
            return word.lower() == "true"
        try:
            value = ast.literal_eval(word)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            raise self.error(text) from None
        return self.check(value)

    def error(self, value: Any) -> ConfigError:
        """The error for ``value`` (or the text it was typed as), with the nearest choice if there are choices."""
        close = nearest(value, self.choices) if isinstance(value, str) and self.choices else None
        found = shorten(show_value(value))
        return ConfigError(f"{self.path}={found}: expected {self.allowed}{did_you_mean(close)}")


class Section:
    """Base of the frozen dataclasses of `rad_jax.config`, whose fields are keys or further sections."""

    section: ClassVar[str]

    def __post_init__(self):
        for name, declared in keys(type(self)).items():
            object.__setattr__(self, name, declared.check(getattr(self, name)))
        self.check()

    def check(self) -> None:
        """Raises `ConfigError` for an impossible combination of keys that are fine one by one."""


@functools.cache
def keys(section: type[Section]) -> dict[str, Key]:
    """The declared keys of a section by name, in the order of their declaration."""
    hints = typing.get_type_hints(section)
    prefix = f"{section.section}." if section.section else ""
    return {
        field.name: Key(
            f"{prefix}{field.name}", field.default, *_kind_of(hints[field.name]), **field.metadata
        )
        for field in dataclasses.fields(section)
        if field.metadata  # other fields hold sections
    }


def _kind_of(hint: Any) -> tuple[type, int | None, bool]:
    """``int`` -> (int, None, False); ``tuple[int, int] | None`` -> (int, 2, True)."""
    optional = isinstance(hint, types.UnionType)
    if optional:
        (hint,) = (member for member in typing.get_args(hint) if member is not type(None))
    if typing.get_origin(hint) is tuple:
        entries = typing.get_args(hint)
        return entries[0], len(entries), optional
    return hint, None, optional
