"""The scoring jobs of a comparison, each a process of its own.

    python -m rad_jax.comparison.worker run    --config FILE:VARIANT --workdir DIR [--config.key=value ...]
    python -m rad_jax.comparison.worker bounds --config FILE:VARIANT --workdir DIR [--config.key=value ...]

run: scores the run in DIR on all evaluation sets, into DIR/scores. bounds: the same for floors, ceilings and oracles.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rad_jax import errors
from rad_jax.allocator import keep_freed_memory
from rad_jax.files import local_path


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one job; returns the exit status: 0, 1 for a failure, 2 for wrong arguments."""
    parser = argparse.ArgumentParser(prog="rad_jax.comparison.worker", allow_abbrev=False)
    parser.register("type", Path, local_path)
    parser.add_argument("job", choices=("run", "bounds"))
    parser.add_argument("--config", required=True, metavar="FILE:VARIANT")
    parser.add_argument("--workdir", required=True, type=Path)
    options, overrides = parser.parse_known_args(arguments)
    keep_freed_memory()
    return errors.run(lambda: _score(options, overrides))


def _score(options: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Scores the newest checkpoint of a run on all evaluation sets, and measures Figure 3 on the first; or scores the bounds.

    Raises:
      CheckpointError: the newest checkpoint is damaged; an older one would be another model.
    """
    # Imported here, so that an interrupt meanwhile ends in a line.
    from rad_jax.config import load_config
    from rad_jax.evaluation.stored import measure_figure3, newest_step, score_bounds, score_run
    from rad_jax.runs.checkpoints import CheckpointError
    from rad_jax.runs.datasets import open_sets
    from rad_jax.runs.restore import load_trained
    from rad_jax.runs.training_run import open_training_run

    workdir = options.workdir
    config = load_config(options.config, [text.removeprefix("--config.") for text in overrides])
    if options.job == "bounds":
        tokenizer = open_training_run(config).tokenizer
        return score_bounds(config, tokenizer, open_sets(config.evaluate), workdir, {})
    trained = load_trained(workdir, config)
    newest = newest_step(workdir)
    if trained.step != newest:
        raise CheckpointError(f"{workdir}: checkpoint {newest} is damaged; train on from step {trained.step}")
    sets = open_sets(config.evaluate)
    score_run(trained, workdir, sets, workdir, {})
    if config.evaluate.figure3:
        measure_figure3(trained, workdir, *next(iter(sets.items())))


if __name__ == "__main__":
    sys.exit(main())
