"""World models that do not forget: train, evaluate and compare them.

    python -m rad_jax.main --config experiments/quickstart.py:lstm-f

trains in runs/quickstart/lstm-f. The same command resumes a stopped run.
"""

import argparse
import contextlib
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from rad_jax.allocator import keep_freed_memory
from rad_jax.errors import run
from rad_jax.files import local_path

_CACHE_BYTES = 2**28  # free ones that a cache of compiled programs needs, about
MODES = {
    "train": "train, or resume a run that was stopped",
    "evaluate": "metrics, videos and a report, in WORKDIR/evaluation",
    "rollout": "a video of one generated episode, in WORKDIR/rollout",
    "compare": "train and evaluate the variants of an experiment, with tables",
    "export": "the model as a directory for rad_jax.runs, in WORKDIR/export",
    "show": "print every key of the configuration",
    "plan": "estimate parameters, memory and work of a training step",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one mode; returns the exit status: 0, 1 for a failure, 2 for wrong arguments, 130 if stopped."""
    # Everything else is imported in functions: an interrupt then ends in a line, and wrong arguments are answered at once.
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    keep_freed_memory()
    return run(lambda: _run(_parse(arguments)))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    from rad_jax.config import ConfigError
    from rad_jax.config.load import KEYS, nearest_keys
    from rad_jax.config.messages import did_you_mean

    modes = "\n".join(f"  {name:<9} {text}" for name, text in MODES.items())
    parser = _Parser(
        prog="rad_jax.main",
        description=f"{__doc__}\nmodes:\n{modes}",
        usage="python -m rad_jax.main --config FILE[:VARIANT] [--workdir DIR]\n"
        "                              [--mode MODE] [options] [--config.KEY=VALUE ...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.register("type", Path, local_path)
    add = parser.add_argument
    add(
        "--config",
        required=True,
        metavar="FILE[:VARIANT]",
        help="an experiment, such as those in experiments/",
    )
    add("--workdir", type=Path, metavar="DIR", help="directory of the run (default: runs/NAME/VARIANT)")
    add("--mode", choices=MODES, default="train", metavar="MODE", help="what to do (default: train)")
    of_one_mode = [  # which their help begins with
        add("--profile", type=int, metavar="STEP", help="train: trace of a step in WORKDIR/profile"),
        add("--distributed", action="store_true", help="train: one of several processes of a launcher"),
        add(
            "--baseline", type=Path, metavar="DIR", help="evaluate: the run of the same model without memory"
        ),
        add("--episode", type=int, metavar="N", help="rollout: episode that gives the context (0)"),
        add(
            "--actions", type=_script, help="rollout: 'episode' (default), 'left*6,forward*3' or an .npz file"
        ),
        add("--variants", metavar="V,V,...", help="compare: which ones (default: all)"),
        add("--no-ablations", action="store_true", help="compare: without the extra runs of Tables 4 and 5"),
        add("--parameters", choices=("ema", "params"), help="export: averaged (default) or last ones"),
    ]
    options, rest = parser.parse_known_args(arguments)
    for argument in rest:
        if not argument.startswith("--config."):
            key, *value = argument.lstrip("-").split("=", 1)
            meant = nearest_keys(key) if "." in key or key in KEYS else []  # its prefix was forgotten
            hint = did_you_mean(" or ".join("=".join([f"--config.{other}", *value]) for other in meant))
            raise ConfigError(
                f"argument {argument!r}: expected --config.key=value or an option of --help{hint}"
            )
    options.overrides = [argument.removeprefix("--config.") for argument in rest]
    for action in of_one_mode:
        mode, given = action.help.partition(":")[0], getattr(options, action.dest)
        if given is not None and given is not False and options.mode != mode:
            (option,) = action.option_strings
            raise ConfigError(
                f"{option}: belongs to --mode {mode}, not to --mode {options.mode}; leave it out"
            )
    return options


def _run(options: argparse.Namespace) -> None:
    from rad_jax.config import load_config

    joined = contextlib.nullcontext()
    if options.mode not in ("show", "plan"):  # which write nothing
        _use_compilation_cache()
    if options.distributed:  # before anything is refused, so that a refusal in one process ends all of them
        from rad_jax.training import processes

        joined = processes.joined()
    with joined:
        # A comparison loads the configuration of each variant itself.
        config = None if options.mode == "compare" else load_config(options.config, options.overrides)
        if options.workdir is None and options.mode not in ("show", "plan"):
            name = (config or load_config(options.config, options.overrides)).name
            options.workdir = default_workdir(name, options.mode)
            print(f"work directory: {options.workdir}", flush=True)
        _run_mode(config, options)


def _run_mode(config: Any, options: argparse.Namespace) -> None:
    workdir = options.workdir
    match options.mode:
        case "train":
            from rad_jax.training.loop import train

            train(config, workdir, options.profile)
        case "evaluate":
            from rad_jax.evaluation.evaluate import evaluate

            print(f"report: {evaluate(config, workdir, options.baseline)}")
        case "rollout":
            from rad_jax.rollout.video import rollout_video

            given = _given(episode=options.episode, script=options.actions)
            print(f"video: {rollout_video(config, workdir, **given)}")
        case "compare":
            import jax

            from rad_jax.comparison.compare import compare

            jax.config.update("jax_platforms", "cpu")  # accelerators are for the processes that it starts
            ablations = not options.no_ablations
            page = compare(options.config, workdir, options.variants, options.overrides, ablations)
            print(f"comparison: {page.resolve()}")
        case "export":
            from rad_jax.runs.export import export

            print(f"export: {export(workdir, config, **_given(part=options.parameters))}")
        case "show":
            from rad_jax.config import format_config

            print(format_config(config), end="")
        case "plan":
            from rad_jax.training.estimate import estimate_step

            print(estimate_step(config))


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given; of others the functions know what is usual."""
    return {name: value for name, value in options.items() if value is not None}


def _script(text: str) -> str:
    """A script of actions; the path of a file is written out."""
    return str(local_path(text)) if text.lower().endswith(".npz") or "://" in text else text


def default_workdir(name: str, mode: str) -> Path:
    """``runs/NAME/VARIANT``; of a comparison ``runs/NAME``, where it keeps its variants.

    Raises:
      ConfigError: the name cannot be that of a directory.
    """
    from rad_jax.config import ConfigError

    folders = name.split(":")
    if not all(re.fullmatch(r"\w[\w.+-]*", folder) for folder in folders):
        raise ConfigError(f"name={name}: no directory can be called that, name one with --workdir DIR")
    return Path("runs", *(folders[:1] if mode == "compare" else folders))


def _use_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache directory, where the environment does not name another one."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and (cache := _cache_directory()):
        jax.config.update("jax_compilation_cache_dir", str(cache))


def _cache_directory() -> Path | None:
    """Of the user's caches, or else among temporary files, the first that can be written to and is not full; None if none."""
    # Relative paths do not count, says the specification of XDG. Of a user id without an account "~" stays as it is.
    places = [Path(os.environ.get("XDG_CACHE_HOME", "")), Path(os.path.expanduser("~"), ".cache")]
    temporary = Path(tempfile.gettempdir(), f"rad_jax-{os.getuid()}")
    for place in [*[place for place in places if place.is_absolute()][:1], temporary]:
        directory = place / "rad_jax" / "compiled"
        with contextlib.suppress(OSError):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.mkdir(parents=True, exist_ok=True)
            mine = place != temporary or place.lstat().st_uid == os.getuid()  # no programs of others
            # Of a program that does not fit JAX would write a part, and complain of it for ever.
            if mine and os.access(directory, os.W_OK) and shutil.disk_usage(directory).free > _CACHE_BYTES:
                return directory
    return None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Says what is wrong in one line."""
        self.exit(2, f"error: {message}; see --help\n")


if __name__ == "__main__":
    sys.exit(main())
