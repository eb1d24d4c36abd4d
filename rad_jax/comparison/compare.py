"""The paper's tables in one command: trains every variant, scores all of them on the same episodes, and writes what came out.

    WORKDIR/VARIANT/        an ordinary run of its own, with its scores in scores/
    WORKDIR/comparison/     index.html, comparison.md, figure3.png, figure6.png, a CSV per table, episodes.csv, videos/

Every training and every scoring is a process that runs the ordinary command, so that it is what a user would run alone: on a
CPU as many side by side as there are cores, on an accelerator one after another. What is finished is not done again.
"""

import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rad_jax import media
from rad_jax.comparison.costs import read_costs
from rad_jax.comparison.figure6 import figure6
from rad_jax.comparison.jobs import Command, Job, interrupted_by_signals, is_on_cpu, places, run_jobs
from rad_jax.comparison.page import Figures, markdown, page, video
from rad_jax.comparison.plan import Comparison, Run, check_same_runs, plan_comparison
from rad_jax.comparison.tables import SetResult, make_tables
from rad_jax.data import Episodes
from rad_jax.evaluation import effective_attention
from rad_jax.evaluation.evaluate import clip_count, provenance, read_clips
from rad_jax.evaluation.stored import (
    bounds_key,
    is_current,
    is_intact,
    newest_step,
    read_scores,
    read_seen,
    read_shown,
    run_key,
)
from rad_jax.files import WorkdirInUse, WorkdirLock, write_bytes
from rad_jax.reports.report import PAGE_BYTES, Sample, write_films
from rad_jax.reports.tables import to_csv, to_text, write_csv
from rad_jax.rollout.predict import read_clip
from rad_jax.runs.datasets import open_sets
from rad_jax.runs.trained_on import TrainedOn, check_evaluation_set
from rad_jax.runs.training_run import open_training_run
from rad_jax.tokenizer import Tokenizer

FOLDER = "comparison"
# On a CPU, of short runs, compiling is half of the time: a third less of it, and training steps of the same speed.
QUICK_TO_COMPILE = {"XLA_FLAGS": "--xla_backend_optimization_level=1"}


def compare(
    experiment: str, workdir: Path, variants: str | None, overrides: Sequence[str], ablations: bool = True
) -> Path:
    """Runs what is not finished of a comparison and writes it; returns the path of the page.

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
        read_clip(episodes, 0, config, tokenizer)  # what is no evaluation set is found out now
    with WorkdirLock(workdir):
        on_cpu = is_on_cpu()
        environment = QUICK_TO_COMPILE if on_cpu else {}
        jobs = _jobs(comparison, workdir, sets, tokenizer.fingerprint, environment)
        slots = places(len(jobs), on_cpu) if jobs else 0
        print(_overview(comparison, sets, jobs, slots), flush=True)
        with interrupted_by_signals():
            run_jobs(jobs, slots, say=lambda line: print(line, flush=True))
        return write(comparison, workdir, sets, tokenizer)


def _jobs(
    comparison: Comparison,
    workdir: Path,
    sets: Mapping[str, Episodes],
    tokenizer: str,
    environment: Mapping[str, str],
) -> list[Job]:
    """What is left to do: floors and ceilings, and for every run its training and its scoring."""

    def command(what: str, run: Run, directory: Path, *mode: str) -> Command:
        start = sys.executable, "-m", "rad_jax.main"
        return Command(what, [*start, *run.arguments, "--workdir", str(directory), *mode], environment)

    first = comparison.runs[0]
    keys = {name: bounds_key(first.config, tokenizer, episodes) for name, episodes in sets.items()}
    jobs = []
    if not all(is_current(workdir / FOLDER, name, key) for name, key in keys.items()):
        jobs.append(Job("bounds", [command("scoring", first, workdir / FOLDER, "--mode", "bounds")]))
    for run in comparison.runs:
        directory, commands = workdir / run.name, []
        if directory.exists():
            _wait_until_free(directory)
        steps = run.config.train.steps
        trained = newest_step(directory) == steps
        if trained and _is_scored(run, directory, sets):
            continue
        if not trained or not is_intact(directory, steps):
            commands.append(command("training", run, directory))
        commands.append(command("scoring", run, directory, "--mode", "score"))
        jobs.append(Job(run.name, commands))
    return jobs


def _is_scored(run: Run, directory: Path, sets: Mapping[str, Episodes]) -> bool:
    keys = {name: run_key(run.config, directory, episodes) for name, episodes in sets.items()}
    return all(is_current(directory, name, key) for name, key in keys.items())


def _wait_until_free(directory: Path) -> None:
    """A comparison that was killed (SIGKILL) leaves trainings that end by themselves, soon: with the next line they print."""
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
    """Two or three lines on what is about to happen."""
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
        films[name] = write_films(
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
    return directory / "index.html"


def _figure3(comparison: Comparison, workdir: Path, result: SetResult) -> bytes:
    """Of the first episode of the first evaluation set."""
    panels = {run.name: read_seen(workdir / run.name, result.name) for run in comparison.variants}
    return effective_attention.draw(panels, result.videos[0]["context_frames"])


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
) -> dict[str, Sample]:
    config = comparison.runs[0].config
    count = min(config.evaluate.side_by_side, clip_count(episodes, config))
    few = dataclasses.replace(config, evaluate=dataclasses.replace(config.evaluate, videos=count))
    clips = read_clips(episodes, few, tokenizer) if count else []
    shown = {run.name: read_shown(workdir / run.name, name) for run in comparison.variants}
    return {
        f"{name}-{i:02d}": Sample(
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
