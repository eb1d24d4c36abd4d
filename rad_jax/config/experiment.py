"""Runs an experiment file, which may be anywhere, and reports what is wrong with it in one line."""

import re
import runpy
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from rad_jax.config.messages import ConfigError, did_you_mean, nearest, require, shorten
from rad_jax.files import local_path

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
    file = local_path(match["file"])
    if not file.is_file():
        raise ConfigError(f"config file {file} does not exist{did_you_mean(nearest_file(file))}")
    try:
        get_config = runpy.run_path(str(file)).get("get_config")
        require(callable(get_config), "has no function get_config(variant) that returns a ConfigDict")
        config = get_config(match["variant"] or None)
        values = config.to_dict() if isinstance(config, ConfigDict) else config
        found = type(values).__name__
        require(isinstance(values, Mapping), f"get_config returned {found}, expected a ConfigDict")
    except ConfigError as error:
        raise ConfigError(f"config file {file}: {error}") from None
    except Exception as error:
        what = f"{type(error).__name__}: {shorten(error, 200)}"
        raise ConfigError(f"config file {at_line(file, error)} failed with {what}") from error
    return dict(values)


def nearest_file(file: Path) -> str | None:
    """The existing experiment that was probably meant, in the same folder or in ``experiments``."""
    for folder in (file.parent, Path("experiments")):
        names = [other.name for other in folder.glob("*.py") if other.name != "__init__.py"]
        if close := nearest(file.name, names):
            return str(folder / close)
    return None


def at_line(file: Path, error: Exception) -> str:
    """``file:line`` of the innermost line of the file on the way to the error; without a line if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file)]
    if isinstance(error, SyntaxError) and error.filename == str(file):
        lines = [error.lineno]
    return f"{file}:{lines[-1]}" if lines else str(file)
