"""How a configuration key is declared, checked and read from text.

Keys are declared in the modules `data`, `model`, `memory` and `training` of this package:

    @dataclass(frozen=True)
    class SampleConfig(Section):
        steps: int = key(50, "DDIM steps for each frame", low=1, source="paper")

A `Section` checks itself whenever it is made, also by ``dataclasses.replace``: first the type, range and choices of each key,
then the combinations that its own `Section.check` refuses.
"""

import ast
import dataclasses
import functools
import numbers
import operator
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

import numpy as np

from rad_jax.config.messages import ConfigError, did_you_mean, nearest, shorten, show_value
from rad_jax.files import RemotePath, local_path

LARGEST = {int: 2**31 - 1, float: float(np.finfo(np.float32).max)}  # also refuses infinity and NaN
COUNTED = LARGEST[int]  # of steps and the like, for which nothing is allocated
MANY = 2**20  # of most integers, which are sizes: something is allocated for them
BOUNDS = {
    "low": (">=", operator.ge),
    "above": (">", operator.gt),
    "high": ("<=", operator.le),
    "below": ("<", operator.lt),
}


def key(
    default: Any,
    help: str,
    *,
    source: str = "ours",
    of: tuple[str, ...] = (),
    filled: bool = False,
    **bounds: int | float,
) -> Any:
    """Declares a configuration key as a dataclass field.

    Args:
      default: its value unless an experiment says otherwise.
      help: what it means, with its unit.
      source: where the default comes from: one of `rad_jax.config.show.SOURCES`, with further words behind it if needed.
      of: kinds of memory, or ways to train one, for which it counts at all; none: for all. The help begins with them.
      filled: whether empty text is refused.
      **bounds: ``low`` and ``high`` (inclusive), ``above`` and ``below`` (exclusive), of a number or every number of a tuple;
        an integer without ``high`` is at most `MANY`.

    The annotation says more: the values of a ``Literal`` are the only ones allowed, those of a text ``Annotated`` with
    `Names` are allowed beside others of one form; the function of an ``Annotated`` text that says where something lies writes
    it out, or raises `RemotePath`.
    """
    help = f"{', '.join(of)}: {help}" if of else help
    rules = {"help": help, "source": source, "of": of, "filled": filled, "bounds": bounds}
    return dataclasses.field(default=default, metadata=rules)


@dataclasses.dataclass(frozen=True)
class Names:
    """What a text may be: one of ``names``, or of another ``form``, in words, which ``fits`` tells."""

    names: tuple[str, ...]
    form: str
    fits: Callable[[str], bool]


@dataclasses.dataclass(frozen=True)
class Key:
    """A declared key.

    Attributes:
      path: its dotted name, such as "train.steps".
      kind: bool, int, float or str, of the value or of the entries of a tuple.
      help, source, of, filled, bounds, choices, place, others: see `key`.
      length: number of entries of a tuple; None for a single value.
      optional: whether None is allowed.
    """

    path: str
    default: Any
    help: str
    source: str
    of: tuple[str, ...]
    filled: bool
    bounds: Mapping[str, int | float]
    kind: type
    length: int | None = None
    optional: bool = False
    choices: tuple[str, ...] | None = None
    place: Callable[[str], str] | None = None
    others: Names | None = None

    def __post_init__(self):
        if self.kind is int and "high" not in self.bounds:
            object.__setattr__(self, "bounds", {**self.bounds, "high": MANY})

    @property
    def allowed(self) -> str:
        """What the key may be, in words."""
        if self.choices is not None:
            words = "one of " + ", ".join(self.choices)
            words += f" or {self.others.form}" if self.others else ""
        elif self.kind is bool:
            words = "true or false"
        elif self.kind is str:
            words = "text that is not empty" if self.filled else "text"
        else:
            one, many = ("an integer", "integers") if self.kind is int else ("a number", "numbers")
            words = one if self.length is None else f"{self.length} {many}"
            words += " and".join(f" {BOUNDS[name][0]} {limit}" for name, limit in self.bounds.items())
            words += "" if self.length is None else f" such as ({','.join('8' * self.length)})"
        return words + " or none" if self.optional else words

    def check(self, value: Any) -> Any:
        """Returns ``value`` as it is kept (an int becomes a float, a list a tuple, ~ a directory) or raises `ConfigError`."""
        if value is None and self.optional:
            return None
        entries = [value] if self.length is None else value
        fits = isinstance(entries, list | tuple) and len(entries) == (self.length or 1)
        if not fits or not all(map(self._accepts, entries)):
            # Quoted, because steps="7" would otherwise read as the number that was asked for.
            text = isinstance(value, str) and self.kind is not str
            raise self.error(repr(value) if text else value)
        entries = tuple(map(self.kind, entries))
        try:
            # Written out here, once for all: equal places are equal configurations, and what a run stores names its
            # places whoever reads it.
            entries = tuple(map(self.place, entries)) if self.place else entries
        except RemotePath as error:
            raise ConfigError(f"{self.path}={error}") from None
        return entries[0] if self.length is None else entries

    def _accepts(self, entry: Any) -> bool:
        if self.kind in (bool, str):
            if not isinstance(entry, self.kind) or (self.filled and not entry.strip()):
                return False
            listed = self.choices is None or entry in self.choices
            return listed or (self.others is not None and self.others.fits(entry))
        # A run computes in float32, so a number is bounded as float32 has it: 1 - 1e-9 is not below 1.
        wanted, rounded = (numbers.Integral, int) if self.kind is int else (numbers.Real, np.float32)
        return (
            isinstance(entry, wanted)
            and not isinstance(entry, bool)
            and abs(entry) <= LARGEST[self.kind]
            and all(BOUNDS[name][1](rounded(entry), rounded(limit)) for name, limit in self.bounds.items())
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
    """Base of the frozen dataclasses of `rad_jax.config`, whose fields are keys or further sections.

    Attributes:
      section: its name in keys, which is that of its class: "train" for TrainConfig; empty for Config itself.
    """

    section: ClassVar[str]

    def __init_subclass__(cls):
        cls.section = cls.__name__.removesuffix("Config").lower()

    def __post_init__(self):
        for name, declared in keys(type(self)).items():
            object.__setattr__(self, name, declared.check(getattr(self, name)))
        self.check()

    def check(self) -> None:
        """Raises `ConfigError` for an impossible combination of keys that are fine one by one."""

    def sections(self) -> dict[str, "Section"]:
        """This section and those it holds, by name; the name of a whole config is empty."""
        found = {self.section: self}
        for field in dataclasses.fields(self):
            if isinstance(held := getattr(self, field.name), Section):
                found |= held.sections()
        return found


@functools.cache
def keys(section: type[Section]) -> dict[str, Key]:
    """The declared keys of a section by name, in the order of their declaration."""
    hints = typing.get_type_hints(section, include_extras=True)
    prefix = f"{section.section}." if section.section else ""
    return {
        field.name: Key(prefix + field.name, field.default, **field.metadata, **_meaning(hints[field.name]))
        for field in dataclasses.fields(section)
        if field.metadata  # other fields hold sections
    }


def _meaning(hint: Any) -> dict[str, Any]:
    """What an annotation says about the values: ``tuple[int, int] | None``, ``Literal["a", "b"]``, ``Annotated[str, f]``."""
    optional = isinstance(hint, types.UnionType)
    if optional:
        (hint,) = (member for member in typing.get_args(hint) if member is not type(None))
    entries = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return {"kind": str, "choices": entries}
    if typing.get_origin(hint) is typing.Annotated:
        text, more = entries
        if isinstance(more, Names):
            return {"kind": text, "choices": more.names, "others": more}
        return {"kind": text, "place": more}
    if typing.get_origin(hint) is tuple:
        return {"kind": entries[0], "length": len(entries), "optional": optional}
    return {"kind": hint, "optional": optional}


def place(text: str) -> str:
    """Writes out a path; empty text stays empty."""
    return text and str(local_path(text))


def named_places(text: str) -> str:
    """Writes out the paths of NAME=DIRECTORY,NAME=DIRECTORY; any other text stays as it is."""
    entries = (entry.strip().partition("=") for entry in text.split(","))
    return ",".join(name + equals + place(path) for name, equals, path in entries)


# Keys that say where something lies are declared with these types, and with no other.
Place = Annotated[str, place]
NamedPlaces = Annotated[str, named_places]
