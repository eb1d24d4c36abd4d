"""Trains an experiment and its twin without memory side by side, and compares the two in one report.

    python -m experiments.twins experiments/quickstart.py --workdir runs/quickstart [--variant lstm-f] [--config.key=value ...]

Makes the data that are missing, starts one training for each, with half of the cores each, and evaluates the one with
memory against the other. What was stopped goes on when the same command is given again.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.base import DEFAULT_VARIANT
from rad_jax.config import ConfigError, load_config
from rad_jax.data.episodes import DataError
from rad_jax.prepare import open_episodes

BASELINE = "df"
PATIENCE = 60.0  # seconds that a run is given to save its work before it is killed


class RunFailed(RuntimeError):
    """One of the runs ended with an error, which is among the lines it printed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="twins", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("experiment", help="an experiment file, without a variant")
    parser.add_argument("--workdir", required=True, type=Path, help="each variant gets a folder in it")
    parser.add_argument("--variant", default=DEFAULT_VARIANT, help="the one with memory")
    options, overrides = parser.parse_known_args(arguments)
    try:
        report = compare(options.experiment, options.variant, options.workdir, overrides)
    except (ConfigError, DataError, RunFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(f"\nReport: {report}")
    return 0


def compare(experiment: str, variant: str, workdir: Path, overrides: Sequence[str]) -> Path:
    """Trains both variants, evaluates, and returns the path of the report.

    Args:
      overrides: arguments ``--config.key=value``, for both.
    """
    configs = {name: f"{experiment}:{name}" for name in (BASELINE, variant)}
    for argument in overrides:
        if not argument.startswith("--config."):
            raise ConfigError(f"argument {argument!r}: expected --config.key=value")
    values = [argument.removeprefix("--config.") for argument in overrides]
    loaded = [load_config(path, values) for path in configs.values()]  # both, before anything is started
    for section in (loaded[-1].data, loaded[-1].evaluate):
        open_episodes(section)

    def command(name: str, *more: str) -> list[str]:
        main = [
            sys.executable,
            "-m",
            "rad_jax.main",
            "--config",
            configs[name],
            "--workdir",
            str(workdir / name),
        ]
        return [*main, *more, *overrides]

    run_side_by_side({name: command(name) for name in configs})
    run_side_by_side({variant: command(variant, "--mode", "evaluate", "--baseline", str(workdir / BASELINE))})
    return (workdir / variant / "evaluation" / "report.html").resolve()


def run_side_by_side(commands: Mapping[str, Sequence[str]]) -> None:
    """Runs commands at once, each on its share of the cores, their lines marked with their names.

    They run until all have ended; if one fails, or this process is interrupted, the others are asked to end.

    Raises:
      RunFailed: naming the first that failed.
    """
    width = max(map(len, commands))
    with contextlib.ExitStack() as stack:
        running = {}
        for number, (name, command) in enumerate(commands.items()):
            cores = share_of_cores(number, len(commands))
            running[name] = stack.enter_context(started(command, cores, f"{name:>{width}} | "))
        while running:
            time.sleep(0.1)
            for name in [name for name, process in running.items() if process.poll() is not None]:
                if status := running.pop(name).returncode:
                    raise RunFailed(f"{name} ended with status {status}; its last lines say why")


@contextlib.contextmanager
def started(command: Sequence[str], cores: set[int], prefix: str):
    """A running process whose lines are printed behind a prefix and that does not outlive the block."""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # Runs that share an accelerator must not each reserve most of its memory.
        env={"PYTHONUNBUFFERED": "1", "XLA_PYTHON_CLIENT_PREALLOCATE": "false", **os.environ},
        start_new_session=True,  # an interrupt from the keyboard reaches them through us, once
    ) as process:
        if cores:
            os.sched_setaffinity(process.pid, cores)
        printer = threading.Thread(target=print_lines, args=(process.stdout, prefix))
        printer.start()
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
            printer.join()


def share_of_cores(number: int, parts: int) -> set[int]:
    """The cores of part ``number`` of ``parts``; none if they cannot be shared out evenly or chosen at all.

    On two cores, two runs of one thread each get more done than two that compete for both.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    size = len(cores) // parts
    return set(cores[number * size : (number + 1) * size])


def print_lines(stream, prefix: str) -> None:
    """Prints the lines of a stream as they come, each behind a prefix."""
    for line in stream:
        print(prefix + line, end="", flush=True)


if __name__ == "__main__":
    for ending in (signal.SIGTERM, signal.SIGHUP):  # end like any other exit, which ends the runs too
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    sys.exit(main())
