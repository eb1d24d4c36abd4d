"""Opens data sets; a missing one is made first, if the user's own configuration says so."""

import contextlib
import dataclasses
import math
import os
import shlex
import subprocess
import sys
from pathlib import Path

from rad_jax.config.data import DataConfig, EvaluateConfig
from rad_jax.data import DataError, Episodes
from rad_jax.files import FileLock


def open_episodes(config: DataConfig | EvaluateConfig, tokenizer: str = "") -> Episodes:
    """Opens a data set; if it is missing and ``auto_make`` is set, runs the command that makes it first.

    Training data without a tokenizer count as missing, because their command also fits it. Of several processes that miss the
    same data set one runs its command, and the others wait for it.

    Args:
      tokenizer: file of the tokenizer to use; if given, the training data need not have one.

    Raises:
      DataError: the data set is missing or damaged, in two lines with the command that makes it, or that command failed.
    """
    if (episodes := find_episodes(config, tokenizer)) is not None:
        return episodes
    path = Path(config.path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock"), timeout=math.inf):
        with contextlib.suppress(DataError):  # made while this process waited for the lock
            return _open(config, tokenizer)
        run_command(config.command)
    return Episodes(config.path, config.split)


def find_episodes(config: DataConfig | EvaluateConfig, tokenizer: str = "") -> Episodes | None:
    """Opens a data set as `open_episodes` does, but makes none; None if that would make it."""
    try:
        return _open(config, tokenizer)
    except DataError as error:
        if not (config.command and config.auto_make):
            hint = f"\nmake it with: {config.command}" if config.command else ""
            raise DataError(f"{error}{hint}") from None
    return None


def _open(config: DataConfig | EvaluateConfig, tokenizer: str) -> Episodes:
    episodes = Episodes(config.path, config.split)
    if isinstance(config, DataConfig) and episodes.tokenizer is None and not tokenizer:
        raise DataError(f"{config.path} has no tokenizer")
    return episodes


def open_sets(config: EvaluateConfig) -> dict[str, Episodes]:
    """Opens all evaluation sets: first the one at ``path``, named after its protocol, then those of ``more`` by their names.

    Raises:
      DataError: as `open_episodes`.
    """
    first = open_episodes(config)
    sets = {name: open_episodes(further) for name, further in further_sets(config).items()}
    protocol = first.spec.info.get("protocol")
    known = isinstance(protocol, str) and protocol not in sets
    return {protocol if known else first.directory.name: first} | sets


def find_sets(config: EvaluateConfig) -> list[Episodes]:
    """The evaluation sets that exist; makes none. Raises `DataError` if one is missing that `open_sets` would not make."""
    found = [find_episodes(one) for one in (config, *further_sets(config).values())]
    return [episodes for episodes in found if episodes is not None]


def further_sets(config: EvaluateConfig) -> dict[str, EvaluateConfig]:
    """The settings of each evaluation set in ``more``, by name, as if it were the only one."""
    sets = {}
    for name, path in config.others.items():
        make = config.more_make.replace("{name}", shlex.quote(name))
        sets[name] = dataclasses.replace(config, path=path, make=make, more="")
    return sets


def run_command(command: str) -> None:
    """Runs a shell command in which ``python`` is the interpreter of this process.

    Raises:
      DataError: its exit status is not 0.
    """
    print(f"$ {command}", flush=True)
    environment = dict(os.environ)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    status = subprocess.run(command, shell=True, env=environment).returncode
    if status:
        raise DataError(f"the command that makes the data ended with status {status}: {command}")
