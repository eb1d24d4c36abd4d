"""Runs an experiment file, which may be anywhere, and reports what is wrong with it in one line."""

import importlib.util
import re
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from rad_jax.config.messages import ConfigError, did_you_mean, nearest, shorten

EXPERIMENT = re.compile(r"(?P<file>.+\.py)(:(?P<variant>.*))?", re.DOTALL)


def read_experiment(path: str) -> dict[str, Any]:
    """Returns what ``get_config(variant)`` of a file returns, as nested plain values.

    Args:
      path: ``"experiments/maze.py"`` or, with a variant, ``"experiments/maze.py:lstm-f"``.

    Raises:
      ConfigError: the file does not exist, fails, or returns something else; names the line or the nearest file.
    """
    match = EXPERIMENT.fullmatch(path)
    if match is None:
        hint = did_you_mean(nearest_file(Path(path.partition(":")[0] + ".py")))
        raise ConfigError(f"config {shorten(path)!r}: expected FILE.py or FILE.py:VARIANT{hint}")
    file = Path(match["file"])
    if not file.is_file():
        raise ConfigError(f"config file {file} does not exist{did_you_mean(nearest_file(file))}")
    module = run(file)
    if not callable(getattr(module, "get_config", None)):
        raise ConfigError(f"config file {file} has no function get_config(variant) that returns a ConfigDict")
    variant = match["variant"] or None
    try:
        config = module.get_config(variant)
        values = config.to_dict() if isinstance(config, ConfigDict) else config
    except ConfigError as error:
        raise ConfigError(f"config file {file}: {error}") from None
    except Exception as error:
        call = "get_config()" if variant is None else f"get_config({variant!r})"
        raise ConfigError(f"config file {at_line(file, error)}: {call} failed: {describe(error)}") from error
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"config file {file}: get_config returned {type(values).__name__}, expected a ConfigDict"
        )
    return dict(values)


def run(file: Path) -> Any:
    """Executes a Python file as a module that does not enter ``sys.modules``, so equal file names do not collide."""
    spec = importlib.util.spec_from_file_location(f"experiment_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise ConfigError(f"config file {file}:{error.lineno} is not Python: {shorten(error.msg)}") from error
    except Exception as error:
        raise ConfigError(f"config file {at_line(file, error)} failed: {describe(error)}") from error
    return module


def nearest_file(file: Path) -> str | None:
    """The existing experiment that was probably meant, in the same folder or in ``experiments``."""
    for folder in (file.parent, Path("experiments")):
        names = [other.name for other in folder.glob("*.py") if other.name != "__init__.py"]
        close = nearest(file.name, names)
        if close:
            return str(folder / close)
    return None


def at_line(file: Path, error: Exception) -> str:
    """``file:line`` of the innermost line of the file on the way to the error; without a line if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == file.absolute()]
    return f"{file}:{lines[-1]}" if lines else str(file)


def describe(error: Exception) -> str:
    """Type and message of an error as one short line."""
    return f"{type(error).__name__}: {shorten(error, 200)}"
