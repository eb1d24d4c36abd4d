"""Kinds of memory that a user wrote: which of them may be imported, and how their own settings are read.

Importing a module runs it, so a kind is imported only if it is trusted: because the user named it, in an experiment or on the
command line (`rad_jax.config.load_config`), or because the program called `trust`. A configuration that was read from a folder
makes nothing trusted.
"""

import dataclasses
import re
from functools import lru_cache
from typing import TypeVar

from rad_jax.config.keys import Section, keys
from rad_jax.config.memories import is_own
from rad_jax.config.messages import ConfigError, did_you_mean, nearest, require, shorten, show_value

_COMMA = re.compile(r",(?![^(]*\))")  # not within the brackets of a tuple
_trusted: set[str] = set()

Settings = TypeVar("Settings", bound=Section)


def trust(kind: str) -> None:
    """Lets this process import the module of a kind of memory, ``"package.module:Class"``, whoever's folder names it.

    Raises:
      ConfigError: it is no such name.
    """
    require(is_own(kind), f"trust({shorten(kind)!r}): expected the kind of a memory, 'package.module:Class'")
    _trusted.add(kind)


def check_trusted(kind: str, where: str = "") -> None:
    """Raises `ConfigError`, which begins with ``where``, if a kind is the user's own and nobody has said that it is trusted."""
    require(
        not is_own(kind) or kind in _trusted,
        f"{where}memory.kind={kind} is code from outside rad_jax and was not imported; "
        f"if you trust it, say so with --config.memory.kind={kind} or, in Python, rad_jax.model.mixers.trust({kind!r})",
    )


@lru_cache(maxsize=64)  # a mixer asks in every trace
def read_settings(declared: type[Settings], text: str) -> Settings:
    """The settings that ``memory.own`` gives to a class that declares them; those it leaves out keep their defaults.

    Args:
      declared: a frozen dataclass derived from `Section`.
      text: ``"rank=8,decay=0.9"``.

    Raises:
      ConfigError: in one line, which begins with memory.own.
    """
    known = {name: dataclasses.replace(one, path=name) for name, one in keys(declared).items()}
    values = {}
    try:
        for entry in filter(str.strip, _COMMA.split(text)):
            name, equals, value = (part.strip() for part in entry.partition("="))
            require(bool(name and equals), f"{shorten(entry)!r}: expected name=value,name=value")
            require(
                name in known,
                f"{shorten(name)}: unknown setting{did_you_mean(nearest(name, known)) or '; there are ' + ', '.join(known)}",
            )
            require(
                name not in values, f"{name}={shorten(value)}: given twice, before as {_shown(values, name)}"
            )
            values[name] = known[name].parse(value)
        return declared(**values)
    except ConfigError as error:
        raise ConfigError(f"memory.own: {error}") from None


def _shown(values: dict[str, object], name: str) -> str:
    return shorten(show_value(values.get(name)))
