"""The paper's tables in one command: trains every variant, scores all of them on the same episodes, and writes what came out.

    WORKDIR/VARIANT/        an ordinary run of its own, with its scores in scores/
    WORKDIR/comparison/     index.html, comparison.md, figure3.png, figure6.png, a CSV per table, episodes.csv, videos/

Every training is a process that runs the ordinary command, so it is what a user would run alone; every scoring is a process of
`rad_jax.comparison.worker`. On a CPU as many run side by side as there are cores, on an accelerator one after another. What is
finished is not done again. A comparison of one model with its twin without memory also writes the model's own report, as
``--mode evaluate --baseline`` would.
"""

import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax

from rad_jax import media
from rad_jax.comparison.costs import read_costs
from rad_jax.comparison.jobs import Command, Job, interrupted_by_signals, is_on_cpu, places, run_jobs
from rad_jax.comparison.page import Figures, figure6, markdown, page, video
from rad_jax.comparison.plan import Comparison, Run, check_same_runs, plan_comparison
from rad_jax.comparison.tables import SetResult, make_tables
from rad_jax.config import config_from_json
from rad_jax.data import Episodes
from rad_jax.evaluation.evaluate import FOLDER as EVALUATION
from rad_jax.evaluation.evaluate import ScoredRun, provenance, write_evaluation
from rad_jax.evaluation.predictors import clip_count, spans_of
from rad_jax.evaluation.stored import (
    FIGURE3,
    bounds_key,
    figure3_key,
    is_current,
    is_intact,
    newest_step,
    read_figure3,
    read_scores,
    read_shown,
    run_key,
)
from rad_jax.files import WorkdirInUse, WorkdirLock, write_bytes
from rad_jax.reports.episodes import EpisodeFrames, write_episodes
from rad_jax.reports.figures import figure3
from rad_jax.reports.page import PAGE_BYTES
from rad_jax.reports.tables import to_csv, to_text, write_csv
from rad_jax.rollout.predict import read_clip
from rad_jax.runs.datasets import open_sets
from rad_jax.runs.trained_on import TrainedOn, check_evaluation_set
from rad_jax.runs.training_run import open_training_run
from rad_jax.tokenizer import Tokenizer

FOLDER = "comparison"
WORKER = "rad_jax.comparison.worker"
# Compiling takes half of the time of short runs on a CPU. This saves a third of it and leaves training steps as fast.
QUICK_TO_COMPILE = {"XLA_FLAGS": "--xla_backend_optimization_level=1"}


def compare(
    experiment: str, workdir: Path, variants: str | None, overrides: Sequence[str], ablations: bool = True
) -> Path:
    """Runs the unfinished jobs of a comparison and writes its tables and page; returns the path of the page.

    Args: see `rad_jax.comparison.plan.plan_comparison`.

    Raises:
      ConfigError, DataError, WorkdirInUse, JobFailed: with what to do about it.
    """
    comparison = plan_comparison(experiment, variants, overrides, ablations)
    check_same_runs(comparison, workdir)  # before data are made
    config = comparison.runs[0].config
    training = open_training_run(config)
    tokenizer, trained_on = training.tokenizer, TrainedOn.of(training)
    check_same_runs(comparison, workdir, trained_on)
    sets = open_sets(config.evaluate)
    for episodes in sets.values():
        check_evaluation_set(episodes, trained_on, config.data.condition)
        spans_of(episodes, config)  # fail now if a set cannot be evaluated
        read_clip(episodes, 0, config, tokenizer)
    with WorkdirLock(workdir):
        on_cpu = is_on_cpu()
        environment = QUICK_TO_COMPILE if on_cpu else {}
        if cache := jax.config.jax_compilation_cache_dir:
            environment = environment | {"JAX_COMPILATION_CACHE_DIR": cache}
        jobs = _jobs(comparison, workdir, sets, tokenizer.fingerprint, environment)
        slots = places(len(jobs), on_cpu) if jobs else 0
        print(_overview(comparison, sets, jobs, slots), flush=True)
        with interrupted_by_signals():
            run_jobs(jobs, slots)
        return write(comparison, workdir, sets, tokenizer)


def _jobs(
    comparison: Comparison,
    workdir: Path,
    sets: Mapping[str, Episodes],
    tokenizer: str,
    environment: Mapping[str, str],
) -> list[Job]:
    """The jobs that are not finished: for every run its training and scoring, and the scoring of floors and ceilings."""

    def command(what: str, run: Run, directory: Path, *program: str) -> Command:
        arguments = [*run.arguments, "--workdir", str(directory)]
        return Command(what, [sys.executable, "-m", *program, *arguments], environment)

    first = comparison.runs[0]
    keys = {name: bounds_key(first.config, tokenizer, episodes) for name, episodes in sets.items()}
    jobs = []
    for run in comparison.runs:
        directory, commands = workdir / run.name, []
        if directory.exists():
            _wait_until_free(directory)
        steps = run.config.train.steps
        trained = newest_step(directory) == steps
        if trained and _is_scored(run, directory, sets):
            continue
        if not trained or not is_intact(directory, steps):
            commands.append(command("training", run, directory, "rad_jax.main"))
        commands.append(command("scoring", run, directory, WORKER, "run"))
        jobs.append(Job(run.name, commands))
    # Last: it is the shortest job, so that no core waits for it at the end.
    if not all(is_current(workdir / FOLDER, name, key) for name, key in keys.items()):
        jobs.append(Job("bounds", [command("scoring", first, workdir / FOLDER, WORKER, "bounds")]))
    return jobs


def _is_scored(run: Run, directory: Path, sets: Mapping[str, Episodes]) -> bool:
    step = run.config.train.steps
    keys = {name: run_key(run.config, directory, step, episodes) for name, episodes in sets.items()}
    if run.config.evaluate.figure3:
        name, episodes = next(iter(sets.items()))
        keys[name + FIGURE3] = figure3_key(directory, step, episodes)
    return all(is_current(directory, name, key) for name, key in keys.items())


def _wait_until_free(directory: Path) -> None:
    """Waits for trainings of a comparison that was killed (SIGKILL): they end when they print their next line."""
    said = False
    while True:
        try:
            WorkdirLock(directory).close()
            return
        except WorkdirInUse as error:
            if not said:
                print(f"waiting: {error}", flush=True)
            said = True
            time.sleep(0.5)


def _overview(comparison: Comparison, sets: Mapping[str, Episodes], jobs: Sequence[Job], slots: int) -> str:
    """What is about to run, in two or three lines."""
    left = {job.name: job for job in jobs}
    done = [run.name for run in comparison.runs if run.name not in left]
    config = comparison.runs[0].config
    scored = ", ".join(f"{name} ({clip_count(episodes, config)} episodes)" for name, episodes in sets.items())
    steps = config.train.steps
    lines = [
        f"{len(comparison.runs)} runs of {steps} steps ({len(comparison.variants)} variants), scored on {scored}"
    ]
    if done:
        lines.append(f"finished before: {', '.join(done)}")
    if jobs:
        lines.append(f"to do: {', '.join(left)}; {slots} at a time")
    return "\n".join(lines)


def write(comparison: Comparison, workdir: Path, sets: Mapping[str, Episodes], tokenizer: Tokenizer) -> Path:
    """Writes tables, figure, videos and page of a comparison whose runs are finished and scored; returns the page's path."""
    directory = workdir / FOLDER
    config = comparison.runs[0].config
    results = [read_result(comparison, workdir, name, episodes) for name, episodes in sets.items()]
    costs = {run.name: read_costs(workdir / run.name, run.config.train.steps) for run in comparison.variants}
    tables = make_tables(comparison, results, costs)
    written = {f"{table.name}.csv": to_csv(table) for table in tables}
    written["episodes.csv"] = write_csv(long_rows(comparison, results))
    for name, text in written.items():
        write_bytes(directory / name, text.encode())
    for path in directory.glob("*.csv"):  # of an earlier comparison of other variants
        if path.name not in written:
            path.unlink()
    drawing = figure6(comparison, results)
    write_bytes(directory / "figure6.png", drawing)
    seen = _figure3(comparison, workdir, results[0])
    write_bytes(directory / "figure3.png", seen)
    figures = Figures(media.data_uri(seen, "image/png"), media.data_uri(drawing, "image/png"))
    films, left = {}, PAGE_BYTES - sum(map(len, figures))
    for name, episodes in sets.items():
        samples = _samples(comparison, workdir, name, episodes, tokenizer)
        films[name] = write_episodes(
            directory, samples, lambda sample: video(comparison, sample, config.evaluate.fps), left
        )
        left -= sum(film.size for film in films[name])
    facts, how = _facts(comparison, results), _provenance(comparison, workdir, sets, costs)
    write_bytes(directory / "comparison.md", markdown(comparison, results, tables, how).encode())
    html = page(comparison, results, tables, figures, films, facts, how)
    write_bytes(directory / "index.html", html.encode())
    for table in tables:
        if table.name.startswith("table1-"):
            print("\n" + to_text(table), end="", flush=True)
    if len(comparison.variants) == 2 and comparison.baseline:
        print(f"report: {_write_twins(comparison, workdir, sets, tokenizer).resolve()}", flush=True)
    return directory / "index.html"


def _write_twins(
    comparison: Comparison, workdir: Path, sets: Mapping[str, Episodes], tokenizer: Tokenizer
) -> Path:
    """The report of a model beside its twin without memory, on the first evaluation set."""

    def scored(run: Run) -> ScoredRun:
        config = config_from_json(
            (workdir / run.name / "config.json").read_text()
        )  # with model.latent resolved
        given = {"sample": run.config.sample, "evaluate": run.config.evaluate}
        return ScoredRun(dataclasses.replace(config, **given), workdir / run.name)

    (model,) = (run for run in comparison.variants if run is not comparison.baseline)
    name, episodes = next(iter(sets.items()))
    directory = workdir / model.name / EVALUATION
    twin = scored(comparison.baseline)
    return write_evaluation(directory, scored(model), twin, workdir / FOLDER, name, episodes, tokenizer)


def _figure3(comparison: Comparison, workdir: Path, result: SetResult) -> bytes:
    """Figure 3, measured on the first episode of the first evaluation set."""
    panels = {run.name: read_figure3(workdir / run.name, result.name) for run in comparison.variants}
    return figure3(panels, result.videos[0]["context_frames"])


def read_result(comparison: Comparison, workdir: Path, name: str, episodes: Episodes) -> SetResult:
    """Everything that was scored on one evaluation set."""
    bounds = read_scores(workdir / FOLDER, name)
    rows = {}
    for run in comparison.runs:
        (row,) = read_scores(workdir / run.name, name).rows.values()
        rows[run.name] = row | {"kind": "baseline" if run.memory == "none" else "model"}
    protocol = episodes.spec.info.get("protocol", "not recorded")
    return SetResult(name, str(protocol), bounds.metrics_spec, bounds.videos, rows | dict(bounds.rows))


def long_rows(comparison: Comparison, results: Sequence[SetResult]) -> list[list]:
    """Every number of every episode, one per line."""
    lines = [["set", "episode", "context frames", "predicted frames", "row", "metric", "value"]]
    for result in results:
        for row, summary in result.rows.items():
            for metric, values in summary["per_video"].items():
                for about, value in zip(result.videos, values, strict=True):
                    frames = about["context_frames"], about["predicted_frames"]
                    lines.append([result.name, about["name"], *frames, row, metric, value])
    return lines


def _samples(
    comparison: Comparison, workdir: Path, name: str, episodes: Episodes, tokenizer: Tokenizer
) -> dict[str, EpisodeFrames]:
    config = comparison.runs[0].config
    count = min(config.evaluate.side_by_side, clip_count(episodes, config))
    clips = [read_clip(episodes, index, config, tokenizer) for index in range(count)]
    shown = {run.name: read_shown(workdir / run.name, name) for run in comparison.variants}
    return {
        f"{name}-{i:02d}": EpisodeFrames(
            f"{name}: {clip.name}",
            clip.frames[: clip.context],
            clip.frames[clip.context :],
            {run: videos[i] for run, videos in shown.items()},
        )
        for i, clip in enumerate(clips)
    }


def _facts(comparison: Comparison, results: Sequence[SetResult]) -> dict:
    config = comparison.runs[0].config
    return {
        "condition": config.data.condition,
        "evaluation sets": ", ".join(f"{r.name} ({len(r.videos)} episodes)" for r in results),
        "attention window": f"{config.model.window} frames",
        "model": f"width {config.model.width}, {config.model.depth} blocks",
        "training": f"{config.train.steps:,} steps of {config.train.batch} clips of {config.data.clip} frames, one seed",
        "sampler": f"DDIM, {config.sample.steps} steps",
    }


def _provenance(comparison: Comparison, workdir: Path, sets: Mapping[str, Episodes], costs: Mapping) -> dict:
    config = comparison.runs[0].config
    own = provenance(next(iter(sets.values())))
    scoring = {
        read_scores(workdir / run.name, name).about["hardware"] for run in comparison.runs for name in sets
    }
    bounds = read_scores(workdir / FOLDER, next(iter(sets)))
    spec = {key: value for key, value in bounds.metrics_spec.items() if not key.endswith("_frames")}
    return {
        "command": own["command"],
        "versions": own["versions"],
        "trained on": ", ".join(sorted({cost.hardware for cost in costs.values()})),
        "generated and scored on": ", ".join(sorted(scoring)),
        "seeds": f"{config.seed} for parameters, data order, noise of training and noise of generation; one seed per variant",
        "noise": "a function of seed, episode and frame, the same for all variants",
        **{f"episodes of {name}": episodes.spec.info.get("command") for name, episodes in sets.items()},
        "metrics_spec": spec,
    }
