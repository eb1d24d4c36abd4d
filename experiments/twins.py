"""Trains an experiment and its twin without memory side by side, and compares the two in one report.

    python -m experiments.twins experiments/quickstart.py --workdir runs/quickstart [--variant lstm-f] [--config.key=value ...]

Makes the data that are missing, starts one training for each, with half of the cores each, and evaluates the one with
memory against the other. What was stopped goes on when the same command is given again.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.base import DEFAULT_VARIANT
from rad_jax.comparison.jobs import Command, Job, JobFailed, interrupted_by_signals, run_jobs
from rad_jax.config import ConfigError, load_config
from rad_jax.data import DataError
from rad_jax.runs.datasets import open_episodes

BASELINE = "df"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="twins", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("experiment", help="an experiment file, without a variant")
    parser.add_argument("--workdir", required=True, type=Path, help="each variant gets a folder in it")
    parser.add_argument("--variant", default=DEFAULT_VARIANT, help="the one with memory")
    options, overrides = parser.parse_known_args(arguments)
    try:
        with interrupted_by_signals():
            report = compare(options.experiment, options.variant, options.workdir, overrides)
    except (ConfigError, DataError, JobFailed) as error:
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

    def job(name: str, what: str, *more: str) -> Job:
        main = [
            sys.executable,
            "-m",
            "rad_jax.main",
            "--config",
            configs[name],
            "--workdir",
            str(workdir / name),
        ]
        return Job(name, [Command(what, [*main, *more, *overrides])])

    run_jobs([job(name, "training") for name in configs], len(configs), finish_others=False)
    evaluation = job(variant, "evaluation", "--mode", "evaluate", "--baseline", str(workdir / BASELINE))
    run_jobs([evaluation], 1)
    return (workdir / variant / "evaluation" / "report.html").resolve()


if __name__ == "__main__":
    sys.exit(main())
