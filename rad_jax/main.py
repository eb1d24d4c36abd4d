"""The command line.

    python -m rad_jax.main --config experiments/quickstart.py:lstm-f [--workdir DIR] [--mode MODE] [--config.key=value ...]

Modes: train, evaluate (a report in WORKDIR/evaluation), rollout (a video in WORKDIR/rollout),
compare (all variants of an experiment: tables and a page in WORKDIR/comparison),
export (the model into WORKDIR/export, for `rad_jax.weights.load_pretrained`), show (the resolved configuration),
plan (parameters, memory and work of a training step, of which nothing is run); and what compare is made of:
score (a run on all evaluation sets, into WORKDIR/scores), bounds (the same for floors and ceilings).
"""

import argparse
import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from rad_jax.config import Config, ConfigError, format_config, load_config

MODES = ("train", "evaluate", "rollout", "compare", "export", "show", "plan", "score", "bounds")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one mode; returns the exit status: 0, 1 for a failure, 2 for wrong arguments, 130 if stopped."""
    parser = _Parser(prog="rad_jax.main", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--config", required=True, metavar="FILE[:VARIANT]", help="an experiment")
    parser.add_argument("--workdir", type=Path, help="where the run is kept (runs/NAME/VARIANT)")
    parser.add_argument("--mode", choices=MODES, default="train")
    parser.add_argument("--baseline", type=Path, metavar="WORKDIR", help="evaluate: the twin without memory")
    parser.add_argument(
        "--variants", metavar="V,V,...", help="compare: which; all: df, every memory -c and -f"
    )
    parser.add_argument(
        "--no-ablations", action="store_true", help="compare: without the extra runs of Tables 4 and 5"
    )
    parser.add_argument(
        "--episode", type=int, default=0, help="rollout: the evaluation episode that gives the context"
    )
    parser.add_argument(
        "--actions", default="episode", help="rollout: 'episode', 'left*6,forward*3', or an .npz file"
    )
    parser.add_argument(
        "--parameters", choices=("ema", "params"), default="ema", help="export: averaged, or of the last step"
    )
    parser.add_argument(
        "--distributed", action="store_true", help="one of several processes: call jax.distributed first"
    )
    options, rest = parser.parse_known_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        for argument in rest:
            if not argument.startswith("--config."):
                raise ConfigError(
                    f"argument {argument!r}: expected --config.key=value or an option of --help"
                )
        options.overrides = [argument.removeprefix("--config.") for argument in rest]
        # A comparison has a configuration for every variant, and loads them itself.
        config = None if options.mode == "compare" else load_config(options.config, options.overrides)
        if options.mode == "show":
            print(format_config(config), end="")
            return 0
        if options.workdir is None and options.mode != "plan":
            options.workdir = default_workdir(
                config or load_config(options.config, options.overrides), options.mode
            )
            print(f"work directory: {options.workdir}", flush=True)
        if options.mode == "compare" and options.distributed:
            raise ConfigError("--distributed: a comparison starts its runs itself, on this machine")
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return run(config, options)


def default_workdir(config: Config, mode: str) -> Path:
    """``runs/NAME/VARIANT``; of a comparison ``runs/NAME``, where it keeps its variants."""
    parts = config.name.split(":")
    if not all(re.fullmatch(r"\w[\w.+-]*", part) for part in parts):
        raise ConfigError(f"name={config.name}: no directory can be called that, name one with --workdir DIR")
    return Path("runs", *(parts[:1] if mode == "compare" else parts))


def run(config, options) -> int:
    """Runs a mode that computes; what is known to go wrong is said in one or two lines."""
    import jax

    from rad_jax.comparison.jobs import JobFailed
    from rad_jax.data import DataError
    from rad_jax.files import WorkdirInUse
    from rad_jax.runs.checkpoints import CheckpointError, CheckpointMismatch
    from rad_jax.tokenizer import TokenizerError
    from rad_jax.training.loop import NonFiniteLoss, Stopped, train
    from rad_jax.training.sharding import MeshError
    from rad_jax.weights import WeightsError

    if options.distributed:
        jax.distributed.initialize()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rad_jax" / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(cache))
    try:
        if options.mode == "train":
            train(config, options.workdir)
        elif options.mode == "plan":
            from rad_jax.training.estimate import estimate_step

            print(estimate_step(config))
        elif options.mode == "compare":
            from rad_jax.comparison.compare import compare

            jax.config.update("jax_platforms", "cpu")  # accelerators are for the processes that it starts
            ablations = not options.no_ablations
            page = compare(options.config, options.workdir, options.variants, options.overrides, ablations)
            print(f"comparison: {page.resolve()}")
        elif options.mode in ("score", "bounds"):
            from rad_jax.evaluation import stored

            getattr(stored, options.mode)(config, options.workdir)
        elif options.mode == "export":
            from rad_jax.runs.export import export

            print(f"export: {export(options.workdir, config, options.parameters)}")
        elif options.mode == "evaluate":
            from rad_jax.evaluation.evaluate import evaluate

            print(f"report: {evaluate(config, options.workdir, options.baseline)}")
        else:
            from rad_jax.rollout.video import rollout_video

            print(f"video: {rollout_video(config, options.workdir, options.episode, options.actions)}")
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (Stopped, KeyboardInterrupt) as stopped:
        print(str(stopped) or "stopped", file=sys.stderr)
        return 130
    except (
        CheckpointError,
        CheckpointMismatch,
        DataError,
        JobFailed,
        MeshError,
        NonFiniteLoss,
        TokenizerError,
        WeightsError,
        WorkdirInUse,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        """Says what is wrong in one line."""
        self.exit(2, f"error: {message}; see --help\n")


if __name__ == "__main__":
    sys.exit(main())
