"""Makes a `Config` from an experiment file, from the texts of a command line, from a mapping or from JSON."""

import dataclasses
import re
import runpy
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from rad_jax.config.keys import Key, Section, keys
from rad_jax.config.memories import is_own
from rad_jax.config.messages import ConfigError, did_you_mean, nearest, require, shorten, show_value
from rad_jax.config.own import trust
from rad_jax.config.sections import Config, flatten
from rad_jax.files import local_path
from rad_jax.files.json_files import parse_json

EXPERIMENT = re.compile(r"(?P<file>.+\.py)(:(?P<variant>.*))?", re.DOTALL)

EXPERIMENTS = Path("experiments")
INSTALLED = Path(__file__).parents[2]  # where the package lies, and beside it the experiments

SECTIONS = {name: type(section) for name, section in Config().sections().items()}
KEYS = {declared.path: declared for section in SECTIONS.values() for declared in keys(section).values()}
del SECTIONS[""]  # the config itself, whose own keys have no section before them

# Keys that say which data sets are meant, by the switch that makes missing ones, and what says how they are made.
DATA_SETS = {
    "data.auto_make": (("data.path",), ("data.make",)),
    "evaluate.auto_make": (("evaluate.path", "evaluate.more"), ("evaluate.make", "evaluate.more_make")),
}


def load_config(path: str, overrides: Iterable[str] | Mapping[str, Any] = ()) -> Config:
    """Reads an experiment file and applies overrides.

    Keys that the experiment leaves out keep their defaults. Combinations of keys are checked after the overrides. A data set
    that the overrides name is not made if it is missing, unless they say so: see `change`. A kind of memory that they name is
    trusted from then on: see `rad_jax.config.own`.

    Args:
      path: a Python file whose ``get_config(variant)`` returns a ``ConfigDict``, with ``:variant`` behind it if wanted.
      overrides: texts ``"section.key=value"``, or a mapping from ``"section.key"`` to values.

    Raises:
      ConfigError: in one or two lines, whatever is wrong.
    """
    config = change(read_experiment(path), overrides)
    if is_own(config.memory.kind):
        trust(config.memory.kind)
    return config


def override(config: Config, overrides: Iterable[str] | Mapping[str, Any]) -> Config:
    """``config`` with other values for some keys; ``overrides`` as for `load_config`."""
    return change(flatten(config), overrides)


def change(values: Mapping[str, Any], overrides: Iterable[str] | Mapping[str, Any]) -> Config:
    """A config of checked values by dotted key, with overrides.

    Missing data are made where the experiment has them. Where the overrides name another place, and neither ``auto_make`` nor
    a command, nothing is made: a path that was mistyped would be filled instead of refused.
    """
    given = read_values(overrides)
    for switch, (places, commands) in DATA_SETS.items():
        moved = any(key in given and given[key] != values.get(key, KEYS[key].default) for key in places)
        if moved and given.keys().isdisjoint((switch, *commands)):
            given[switch] = False
    return build(values | given)


def config_from_dict(values: Mapping[str, Any]) -> Config:
    """The inverse of `Config.to_dict`; keys left out keep their defaults."""
    try:
        return build(read_values(values))
    except RecursionError:
        raise ConfigError("sections within sections within sections") from None


def config_from_json(text: str) -> Config:
    """The inverse of `Config.to_json`."""
    try:
        return config_from_dict(parse_json(text, dict))
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"not a JSON configuration: {shorten(error)}") from None


def build(values: Mapping[str, Any], section: type[Section] = Config) -> Any:
    """Makes a config, or a section of it, from checked values by dotted key; keys left out keep their defaults."""
    own = keys(section)
    inner = {
        field.name: build(values, type(field.default))
        for field in dataclasses.fields(section)
        if field.name not in own
    }
    return section(**{name: values[k.path] for name, k in own.items() if k.path in values}, **inner)


def read_values(given: Iterable[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Checked values by dotted key, from texts ``key=value`` or from a mapping, nested or not."""
    if isinstance(given, Mapping):
        return {path: find_key(path).check(value) for path, value in flatten_dict(given).items()}
    found: dict[str, Any] = {}
    for text in [given] if isinstance(given, str) else given:
        path, equals, value = text.partition("=")
        path = path.strip()
        require(
            bool(path and equals),
            f"override {shorten(text)!r}: expected section.key=value, such as train.steps=100",
        )
        before = show_value(found.get(path))
        require(path not in found, f"{path}={shorten(value)}: given twice, before as {before}; keep one")
        found[path] = find_key(path).parse(value)
    return found


def flatten_dict(nested: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """``{"train": {"steps": 3}}`` -> ``{"train.steps": 3}``; names may be dotted already."""
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        path = f"{above}{name}"
        if isinstance(value, Mapping) and path not in KEYS and (value or path in SECTIONS):
            flat |= flatten_dict(value, f"{path}.")
        else:
            flat[path] = value
    return flat


def find_key(path: str) -> Key:
    """The declaration of a key, or a `ConfigError` that names the nearest one."""
    if path in KEYS:
        return KEYS[path]
    if path in SECTIONS:
        names = ", ".join(k.path for k in keys(SECTIONS[path]).values())
        raise ConfigError(f"{path} is a section, not a key; its keys are\n{names}")
    hint = did_you_mean(" or ".join(nearest_keys(path))) or f"; sections are {', '.join(SECTIONS)}"
    raise ConfigError(f"{shorten(path)}: unknown key{hint}")


def nearest_keys(path: str) -> list[str]:
    """The keys that were probably meant: the nearest one of the same name, all of that name, or the nearest of all.

    Without a section, those of the nearest name.
    """
    names, last = {k: k.rpartition(".")[2] for k in KEYS}, path.rpartition(".")[2]
    same_name = [k for k, name in names.items() if name == last]
    close = nearest(path, same_name) if "." in path else None
    if close or same_name:
        return [close] if close else same_name
    if close := nearest(path, KEYS):
        return [close]
    similar = None if "." in path else nearest(path, names.values())
    return [k for k, name in names.items() if name == similar]


def read_experiment(path: str) -> dict[str, Any]:
    """Runs an experiment file, which may be anywhere; returns checked values by dotted key.

    ``experiments/NAME.py`` is that of the working directory, or else the one that is installed beside rad_jax.

    Args:
      path: ``"experiments/maze.py"`` or, with a variant, ``"experiments/maze.py:lstm-f"``.

    Raises:
      ConfigError: the file does not exist, fails, or returns something else; in one line, which names the line or the
        nearest file.
    """
    match = EXPERIMENT.fullmatch(path)
    if match is None:
        hint = did_you_mean(nearest_file(Path(path.partition(":")[0] + ".py")))
        raise ConfigError(f"config {shorten(path)!r}: expected FILE.py or FILE.py:VARIANT{hint}")
    file = local_path(match["file"])
    bundled = INSTALLED / file
    if not file.exists() and file.parent == EXPERIMENTS and bundled.is_file():
        file = bundled
    if not file.is_file():
        raise ConfigError(f"config file {file} does not exist{did_you_mean(nearest_file(file))}")
    try:
        get_config = runpy.run_path(str(file)).get("get_config")
        require(callable(get_config), "has no function get_config(variant) that returns a ConfigDict")
        config = get_config(match["variant"] or None)
        values = config.to_dict() if isinstance(config, ConfigDict) else config
        found = type(values).__name__
        require(isinstance(values, Mapping), f"get_config returned {found}, expected a ConfigDict")
        return read_values(values)
    except ConfigError as error:
        raise ConfigError(f"config file {file}: {error}") from None
    except (Exception, SystemExit) as error:  # one that ends the program would end it without a word
        what = f"{type(error).__name__}: {shorten(error, 200)}"
        raise ConfigError(f"config file {at_line(file, error)} failed with {what}") from error


def nearest_file(file: Path) -> str | None:
    """The existing experiment that was probably meant, in the same folder or in ``experiments``."""
    for folder, shown in ((file.parent,) * 2, (EXPERIMENTS,) * 2, (INSTALLED / EXPERIMENTS, EXPERIMENTS)):
        names = [other.name for other in folder.glob("*.py") if other.name != "__init__.py"]
        if close := nearest(file.name, names):
            return str(shown / close)
    return None


def at_line(file: Path, error: BaseException) -> str:
    """``file:line`` of the innermost line of the file on the way to the error; without a line if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file)]
    if isinstance(error, SyntaxError) and error.filename == str(file):
        lines = [error.lineno]
    return f"{file}:{lines[-1]}" if lines else str(file)
