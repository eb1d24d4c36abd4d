"""The paper's tables in one command: trains every variant, scores all of them on the same episodes, and writes what came out.

    WORKDIR/VARIANT/        an ordinary run of its own, with its scores in scores/
    WORKDIR/comparison/     index.html, comparison.md, figure3.png, figure6.png, a CSV per table, episodes.csv, videos/

Every training is a process that runs the ordinary command, so it is what a user would run alone; every scoring is a process of
`rad_jax.comparison.worker`. On a CPU as many run side by side as there are cores, on an accelerator one after another. What is
finished is not done again. A comparison of one model with its twin without memory also writes the model's own report, as
``--mode evaluate --baseline`` would.
"""

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax

from rad_jax.comparison.jobs import find_devices, places, run_jobs
from rad_jax.comparison.page import FOLDER, write
from rad_jax.comparison.runs import Comparison, Run, list_runs
from rad_jax.config import flatten, override
from rad_jax.data import Episodes
from rad_jax.data.condition import ODOMETRY
from rad_jax.data.reader import frame_size
from rad_jax.data.windows import check_clips
from rad_jax.evaluation.evaluate import FOLDER as EVALUATION
from rad_jax.evaluation.evaluate import write_evaluation
from rad_jax.evaluation.scores import clip_count, spans_of
from rad_jax.evaluation.stored import bounds_keys, is_current, is_intact, newest_step, run_keys
from rad_jax.files import WorkdirInUse, WorkdirLock, check_writable
from rad_jax.files.folders import check_folder
from rad_jax.metrics.lpips import open_lpips
from rad_jax.rollout.predict import read_clip
from rad_jax.runs.datasets import find_sets, open_sets
from rad_jax.runs.initial import check_source, read_source
from rad_jax.runs.stored_config import SIZES, check_same_run, read_config
from rad_jax.runs.trained_on import TrainedOn, check_evaluation_set
from rad_jax.runs.training_run import TrainingRun, open_training_run
from rad_jax.tokenizer import Tokenizer
from rad_jax.training.sharding import check_devices
from rad_jax.training.start import check_start

WORKER = "rad_jax.comparison.worker"
# Compiling takes half of the time of short runs on a CPU. This saves a third of it and leaves training steps as fast.
QUICK_TO_COMPILE = {"XLA_FLAGS": "--xla_backend_optimization_level=1"}


def compare(
    experiment: str, workdir: Path, variants: str | None, overrides: Sequence[str], ablations: bool = True
) -> Path:
    """Runs the unfinished jobs of a comparison and writes its tables and page; returns the path of the page.

    Args: see `rad_jax.comparison.runs.list_runs`.

    Raises:
      ConfigError, DataError, WorkdirInUse, JobFailed: with what to do about it.
    """
    comparison = list_runs(experiment, variants, overrides, ablations)
    on_cpu, training, sets = open_comparison(comparison, workdir)
    tokenizer = training.tokenizer
    with WorkdirLock(workdir):
        environment = QUICK_TO_COMPILE if on_cpu else {}
        if cache := jax.config.jax_compilation_cache_dir:
            environment = environment | {"JAX_COMPILATION_CACHE_DIR": cache}
        jobs = unfinished_jobs(comparison, workdir, sets, tokenizer.fingerprint)
        slots = places(len(jobs), on_cpu)
        print(_overview(comparison, sets, list(jobs), slots), flush=True)
        run_jobs(jobs, slots, environment)
        page = write(comparison, workdir, sets, tokenizer)
        if len(comparison.variants) == 2 and comparison.baseline:
            print(f"report: {_write_twins(comparison, workdir, sets, tokenizer).resolve()}", flush=True)
    return page


def open_comparison(comparison: Comparison, workdir: Path) -> tuple[bool, TrainingRun, dict[str, Episodes]]:
    """Opens what a comparison needs and checks that all its runs can begin, what costs least first; writes only missing data.

    Returns:
      Whether JAX runs on the CPU, the first run, and the evaluation sets.
    """
    check_folder(workdir)
    check_writable(workdir)
    config = comparison.runs[0].config
    starts = [(check_start(run.config, workdir / run.name), run.config) for run in comparison.runs]
    open_lpips(config.evaluate, None)
    for episodes in find_sets(config.evaluate):
        spans_of(episodes, config)
    on_cpu, devices = find_devices()
    for run in comparison.runs:
        check_devices(run.config, devices)
    sources = {path: read_source(path) for path, _ in starts if path}
    for path, one in starts:
        if path:
            check_source(sources[path], one.model)
    training = open_training_run(config)
    trained_on = TrainedOn.of(training)
    sizes = {key: flatten(training.config)[key] for key in SIZES}
    for run, (path, one) in zip(comparison.runs, starts):
        check_clips(training.episodes, one.data)
        check_same_run(one, workdir / run.name, trained_on)
        if path:
            check_source(sources[path], override(one, sizes).model, training.tokenizer.fingerprint)
    sets = open_sets(config.evaluate)
    for episodes in sets.values():
        check_evaluation_set(episodes, trained_on, config.data.condition)
        open_lpips(config.evaluate, frame_size(episodes))
        spans_of(episodes, config)
        # The odometry of a model is fitted when it is trained; a set needs nothing for it but actions.
        fitted = config.data.condition == ODOMETRY
        read_clip(episodes, 0, config, training.tokenizer, conditioned=not fitted)
    return on_cpu, training, sets


def unfinished_jobs(
    comparison: Comparison, workdir: Path, sets: Mapping[str, Episodes], tokenizer: str
) -> dict[str, dict[str, list[str]]]:
    """What is left to do: of every run its training and scoring, and the scoring of floors and ceilings.

    Returns:
      Name of the job -> what a command does ("training" or "scoring") -> the command.
    """

    def command(run: Run, directory: Path, *program: str) -> list[str]:
        return [sys.executable, "-m", *program, *run.arguments, "--workdir", str(directory)]

    jobs = {}
    for run in comparison.runs:
        directory, steps, commands = workdir / run.name, run.config.train.steps, {}
        if directory.exists():
            _wait_until_free(directory)
        trained = newest_step(directory) == steps
        if trained and is_current(directory, run_keys(run.config, directory, steps, sets)):
            continue
        if not trained or not is_intact(directory, steps):
            commands["training"] = command(run, directory, "rad_jax.main")
        jobs[run.name] = commands | {"scoring": command(run, directory, WORKER, "run")}
    # Last: it is the shortest job, so that no core waits for it at the end.
    first, directory = comparison.runs[0], workdir / FOLDER
    if not is_current(directory, bounds_keys(first.config, tokenizer, sets)):
        jobs["bounds"] = {"scoring": command(first, directory, WORKER, "bounds")}
    return jobs


def _wait_until_free(directory: Path) -> None:
    """Waits for trainings of a comparison that was killed (SIGKILL): they end when they print their next line."""
    try:
        WorkdirLock(directory).close()
    except WorkdirInUse as error:
        print(f"waiting: {error}", flush=True)
        WorkdirLock(directory, math.inf).close()


def _overview(comparison: Comparison, sets: Mapping[str, Episodes], jobs: Sequence[str], slots: int) -> str:
    """What is about to run, in two or three lines."""
    done = [run.name for run in comparison.runs if run.name not in jobs]
    config = comparison.runs[0].config
    scored = ", ".join(f"{name} ({clip_count(episodes, config)} episodes)" for name, episodes in sets.items())
    runs = f"{len(comparison.runs)} runs of {config.train.steps} steps ({len(comparison.variants)} variants)"
    lines = [f"{runs}, scored on {scored}"]
    if done:
        lines.append(f"finished before: {', '.join(done)}")
    if jobs:
        lines.append(f"to do: {', '.join(jobs)}; {slots} at a time")
    return "\n".join(lines)


def _write_twins(
    comparison: Comparison, workdir: Path, sets: Mapping[str, Episodes], tokenizer: Tokenizer
) -> Path:
    """The report of a model beside its twin without memory, on the first evaluation set."""
    twin = comparison.baseline
    (model,) = (run for run in comparison.variants if run is not twin)
    folder, given = workdir / model.name, {"sample": model.config.sample, "evaluate": model.config.evaluate}
    config = dataclasses.replace(read_config(folder), **given)  # with model.latent resolved
    runs = {model.name: (folder, "model"), f"{twin.name} (no memory)": (workdir / twin.name, "baseline")}
    name, episodes = next(iter(sets.items()))
    return write_evaluation(folder / EVALUATION, config, runs, workdir / FOLDER, name, episodes, tokenizer)
