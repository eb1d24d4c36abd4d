"""How one configuration key is declared, checked and read from text; what the keys are is in `rad_jax.config.sections`.

    @dataclass(frozen=True)
    class SampleConfig(Section):
        section = "sample"
        steps: int = key(50, "steps of the DDIM sampler", low=1)

Every `Section` checks itself when it is made, also by ``dataclasses.replace``: type, range and choices of each key from its
declaration, then whatever the section's own `Section.check` says about combinations.
"""

import ast
import dataclasses
import difflib
import functools
import math
import numbers
import types
import typing
from typing import Any, ClassVar

from rad_jax.errors import UserError

LARGEST_INTEGER = 2**31 - 1
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four"}


class ConfigError(UserError, ValueError):
    """A configuration that cannot be used. The message has one or two lines and names the key and what is allowed."""

    status = 2


def key(default: Any, help: str, **rule) -> Any:
    """Declares a configuration key as a dataclass field.

    Args:
      default: its value unless an experiment says otherwise.
      help: one line that says what it is, with its unit.
      **rule: ``low`` and ``high`` (inclusive), ``above`` and ``below`` (exclusive) bound a number or every number of a
        tuple; ``choices`` lists the values allowed; ``filled=True`` forbids empty text.
    """
    return dataclasses.field(default=default, metadata={"help": help, **rule})


@dataclasses.dataclass(frozen=True)
class Key:
    """One declared key: where it is, what it may be.

    ``kind`` is bool, int, float or str; ``length`` is None for a single value and the number of entries for a tuple.
    """

    path: str
    kind: type
    length: int | None
    optional: bool
    help: str
    low: int | float | None = None
    high: int | float | None = None
    above: int | float | None = None
    below: int | float | None = None
    choices: tuple | None = None
    filled: bool = False

    @property
    def allowed(self) -> str:
        """What the key may be, in words."""
        if self.choices is not None:
            words = "one of " + ", ".join(map(str, self.choices))
        elif self.kind is bool:
            words = "true or false"
        elif self.kind is str:
            words = "text that is not empty" if self.filled else "text"
        elif self.length is not None:
            example = ",".join(str(2 ** (3 - i // 2)) for i in range(self.length))
            words = f"{NUMBERS.get(self.length, self.length)} integers{self._range()} such as ({example})"
        else:
            words = ("an integer" if self.kind is int else "a number") + self._range()
        return words + " or none" if self.optional else words

    def _range(self) -> str:
        bounds = ((">=", self.low), (">", self.above), ("<=", self.high), ("<", self.below))
        text = " and ".join(f"{sign} {bound}" for sign, bound in bounds if bound is not None)
        return f" {text}" if text else ""

    def check(self, value: Any) -> Any:
        """Returns ``value`` as the declared type (an int becomes a float, a list a tuple) or raises `ConfigError`."""
        if value is None and self.optional:
            return None
        if isinstance(value, str) and self.kind is not str:
            raise self.error(repr(value))
        if self.length is None:
            return self._check_one(value, value)
        if not isinstance(value, list | tuple) or len(value) != self.length:
            raise self.error(value)
        return tuple(self._check_one(entry, value) for entry in value)

    def _check_one(self, entry: Any, value: Any) -> Any:
        if self.kind in (int, float):
            wanted = numbers.Integral if self.kind is int else numbers.Real
            if isinstance(entry, bool) or not isinstance(entry, wanted):
                raise self.error(value)
            try:
                entry = self.kind(entry)
            except OverflowError:  # an integer too large for a float
                raise self.error(value) from None
            if not self._in_range(entry):
                raise self.error(value)
            if self.kind is int and abs(entry) > LARGEST_INTEGER:
                raise ConfigError(
                    f"{self.path}={shorten(entry)}: expected an integer of 32 bits, <= {LARGEST_INTEGER}"
                )
        elif not isinstance(entry, self.kind):
            raise self.error(value)
        if self.choices is not None and entry not in self.choices:
            raise self.error(value)
        if self.filled and not entry.strip():
            raise self.error(value)
        return entry

    def _in_range(self, number: int | float) -> bool:
        return (
            (self.kind is int or math.isfinite(number))
            and (self.low is None or number >= self.low)
            and (self.high is None or number <= self.high)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )

    def parse(self, text: str) -> Any:
        """Reads a value from a command line: literals only, strings without quotes, ``none`` where it is allowed."""
        word = text.strip()
        if self.optional and word.lower() in ("none", "null"):
            return None
        if self.kind is str:
            return self.check(unquote(word))
        if self.kind is bool:
            if word.lower() not in ("true", "false"):
                raise self.error(text)
            return word.lower() == "true"
        try:
            value = ast.literal_eval(word)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            raise self.error(text) from None
        return self.check(value)

    def error(self, value: Any) -> ConfigError:
        """The error for ``value`` (or the text it was typed as), with the nearest choice if there are choices."""
        close = nearest(value, self.choices) if isinstance(value, str) and self.choices else None
        return ConfigError(
            f"{self.path}={shorten(show_value(value))}: expected {self.allowed}" + did_you_mean(close)
        )


class Section:
    """Base of the frozen dataclasses of `rad_jax.config.sections`: checks itself when it is made."""

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
    found = {}
    for field in dataclasses.fields(section):
        if "help" in field.metadata:  # the others hold sections
            path = f"{section.section}.{field.name}" if section.section else field.name
            found[field.name] = Key(path, *_kind_of(hints[field.name]), **field.metadata)
    return found


def _kind_of(hint: Any) -> tuple[type, int | None, bool]:
    """``int`` -> (int, None, False); ``tuple[int, int] | None`` -> (int, 2, True)."""
    optional = isinstance(hint, types.UnionType)
    if optional:
        (hint,) = (member for member in typing.get_args(hint) if member is not type(None))
    if typing.get_origin(hint) is tuple:
        entries = typing.get_args(hint)
        return entries[0], len(entries), optional
    return hint, None, optional


def unquote(text: str) -> str:
    """Drops one pair of quotes around the whole text, which a careful shell user may have typed."""
    quoted = len(text) >= 2 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def nearest(name: str, names) -> str | None:
    """The entry of ``names`` that ``name`` was probably meant to be, or None."""
    by_lower = {str(n).lower(): str(n) for n in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def did_you_mean(name: str | None) -> str:
    """The end of an error message; empty without a suggestion."""
    return f"; did you mean {name}?" if name else ""


def shorten(value: Any, limit: int = 60) -> str:
    """``value`` as one short line."""
    text = " ".join(str(value).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def show_value(value: Any) -> str:
    """A value as the command line takes it: ``none``, ``true``, ``(4,4,16)``."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "(" + ",".join(map(str, value)) + ")"
    return str(value)


def multiple(name: str, value: int, of: str, unit: int) -> None:
    """Raises `ConfigError` unless ``value`` is a multiple of ``unit``; names the nearest multiple."""
    if value % unit:
        close = max(1, round(value / unit)) * unit
        raise ConfigError(f"{name}={value}: expected a multiple of {of} ({unit}); the nearest is {close}")
