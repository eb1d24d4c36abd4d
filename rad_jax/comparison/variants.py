"""The variants of a comparison by name, and what each of them changes.

    df,lstm-f,arl2-f+rule=sum,bank-f+keep=unseen+read=view-overlap,lstm-f+train.steps=900+seed=1

A variant of the experiment, then keys that it alone has at another value: those of the memory by their name, others with their
section. Its folder has this name.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from rad_jax.config import NAMES, ConfigError, MemoryConfig, always_needs_pose, modes
from rad_jax.config.load import find_key
from rad_jax.config.memories import is_own
from rad_jax.config.messages import shorten

ALL = "all"
# Keys that a comparison sets itself, to tell variants and ablations apart; users must not.
OF_THE_VARIANT = ("memory.kind", "memory.stride", "memory.window", "evaluate.figure3")
# In these may variants of one comparison differ: all else is what makes them comparable.
MAY_DIFFER = ("memory", "train", "optimizer", "seed")
_COMMA = re.compile(r",(?![^(]*\))")  # not between parentheses
_VALUE = re.compile(r"[\w.,:()-]{1,80}")  # a part of the name of a folder
_LONGEST = 200  # characters of such a name


class Variant(NamedTuple):
    """A variant of the experiment, and the keys that it has at another value, as text."""

    name: str
    base: str
    settings: Mapping[str, str]


def expand(variants: str, posed: bool = True, named: str = "--variants") -> list[Variant]:
    """The variants of a list with commas, each once; "all" stands for df and every memory chunk- and frame-wise.

    Args:
      posed: whether models are given the pose; without it "all" leaves out memories that need it.
      named: where the list was given.

    Raises:
      ConfigError: the list is empty, or a variant changes what it cannot.
    """
    memories = [name for name in NAMES if name != "none" and (posed or not always_needs_pose(name))]
    everything = ["df", *(f"{name}-{mode}" for mode in "cf" for name in memories if mode in modes(name))]
    names = [name.strip() for name in _COMMA.split(variants) if name.strip()]
    found = [read(name, named) for entry in names for name in (everything if entry == ALL else [entry])]
    if not found:
        raise ConfigError(
            f"{named} {variants!r}: expected names with commas, such as df,lstm-c,lstm-f, or {ALL}"
        )
    return list({variant.name: variant for variant in found}.values())


def read(text: str, named: str = "--variants") -> Variant:
    """A variant from its name, in which ``memory.`` may be left out.

    Raises:
      ConfigError: it changes what a variant cannot.
    """
    base, *changes = (part.strip() for part in text.split("+"))
    if not base:
        raise ConfigError(
            f"{named} {shorten(text)}: expected a variant before the first +, such as lstm-f{text}"
        )
    settings = {}
    for change in changes:
        key, is_given, value = (part.strip() for part in change.partition("="))
        key = f"memory.{key}" if key in MemoryConfig.__dataclass_fields__ else key
        where = f"{named} {shorten(text)}"
        if not is_given or not _VALUE.fullmatch(value):
            raise ConfigError(
                f"{where}: {shorten(change)!r}: expected KEY=VALUE, such as rule=sum or train.steps=900"
            )
        try:
            find_key(key)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        if key.partition(".")[0] not in MAY_DIFFER:
            raise ConfigError(
                f"{where}: {shorten(key)}: variants differ in keys of {', '.join(MAY_DIFFER)} alone; "
                f"give --config.{shorten(key)} for all of them"
            )
        if key in OF_THE_VARIANT and not (key == "memory.kind" and is_own(value)):
            raise ConfigError(
                f"{where}: {key}: set by the name of the variant, such as lstm-f, lstm-c or lstm-s4"
            )
        if key in settings:
            raise ConfigError(f"{where}: {key}: given twice")
        _check_counts(where, base, key)
        settings[key] = value
    name = "+".join([base, *(f"{key.removeprefix('memory.')}={value}" for key, value in settings.items())])
    if len(name) > _LONGEST:
        raise ConfigError(
            f"{named} {shorten(text)}: a name of {len(name)} characters, expected at most {_LONGEST}"
        )
    return Variant(name, base, settings)


def _check_counts(where: str, base: str, key: str) -> None:
    """Raises `ConfigError` for a key of other memories than this one, with which it would be the same run under two names."""
    of = [kind for kind in find_key(key).of if kind in NAMES]
    kind = "none" if base == "df" else base.rpartition("-")[0]
    if of and kind in NAMES and kind not in of:
        raise ConfigError(f"{where}: {key}: counts for {', '.join(of)} alone, not for {kind}")
