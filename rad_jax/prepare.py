"""Opens the data sets of a configuration; one that is missing is made first, or the error says by which command."""

import os
import subprocess
import sys
from pathlib import Path

from rad_jax.data.episodes import DataError, Episodes
from rad_jax.sections import DataConfig, EvaluateConfig


def open_episodes(config: DataConfig | EvaluateConfig) -> Episodes:
    """Opens a data set; with ``auto_make`` and none there, runs its command first.

    Training data that have no tokenizer yet count as not there: their command fits it.

    Raises:
      DataError: it is missing or damaged, in two lines with the command that makes it, or the command failed.
    """
    try:
        episodes = Episodes(config.path, config.split)
        if episodes.tokenizer is not None or not isinstance(config, DataConfig):
            return episodes
        problem = f"{config.path} has no tokenizer"
    except DataError as error:
        problem = str(error)
    if not config.make:
        raise DataError(problem)
    if not config.auto_make:
        raise DataError(f"{problem}\nmake it with: {config.make}")
    run_command(config.make)
    return Episodes(config.path, config.split)


def run_command(command: str) -> None:
    """Runs a shell command in which ``python`` is the Python that runs this.

    Raises:
      DataError: it ended with another status than 0.
    """
    print(f"$ {command}", flush=True)
    environment = dict(os.environ)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    status = subprocess.run(command, shell=True, env=environment).returncode
    if status:
        raise DataError(f"the command that makes the data ended with status {status}: {command}")
