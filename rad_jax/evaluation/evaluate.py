"""Evaluation: a trained model on episodes it never saw, beside its floors and ceilings, as numbers and as a page.

    WORKDIR/scores/                  scores of the model
    WORKDIR/evaluation/scores/       of floors, ceilings and the oracle
    WORKDIR/evaluation/baseline/     of the baseline, if one is given
    WORKDIR/evaluation/              metrics.json, curves.png, videos and report.html, made from these scores

Only the frames after an episode's context are scored.
What the rows are and how metrics are averaged: `rad_jax.evaluation.scores`.
"""

import dataclasses
import json
import platform
import sys
from pathlib import Path
from typing import Any, NamedTuple

import flax
import jax

from rad_jax.config import Config, ConfigError, DataConfig
from rad_jax.data import Episodes
from rad_jax.evaluation.scores import make_metrics
from rad_jax.evaluation.stored import Scores, read_scores, read_shown, score_bounds, score_run
from rad_jax.files import write_bytes
from rad_jax.reports.episodes import EpisodeFrames
from rad_jax.reports.page import write_report
from rad_jax.reports.tables import Column, Table, TableRow, to_text
from rad_jax.rollout.predict import read_clip
from rad_jax.runs.datasets import open_sets
from rad_jax.runs.hardware import hardware
from rad_jax.runs.restore import TrainedModel, load_trained
from rad_jax.tokenizer import Tokenizer

FOLDER = "evaluation"
# Metric -> its column in the terminal.
COLUMNS = {
    "psnr": "psnr",
    "ssim": "ssim",
    "lpips": "lpips",
    "histogram_intersection": "hist-int",
    "retrieval_error": "retr.err",
    "yaw_error": "yaw-err",
    "sharpness": "sharp",
    "motion": "motion",
}


class ScoredRun(NamedTuple):
    """A run and the folder that holds its scores (see `rad_jax.evaluation.stored`)."""

    config: Config
    folder: Path

    @property
    def variant(self) -> str:
        """The part of its name behind the experiment's."""
        return self.config.name.rpartition(":")[2]


def evaluate(config: Config, workdir: Path, baseline: Path | None = None) -> Path:
    """Scores the run in ``workdir`` and writes its ``evaluation/``; returns the path of the page.

    Args:
      config: its ``evaluate`` and ``sample`` sections say how the run is evaluated; what makes the model must be the run's.
      baseline: work directory of the twin without memory, which is compared if given.

    Raises:
      ConfigError, CheckpointError, DataError, TokenizerError: in one or two lines.
    """
    trained = load_trained(workdir, config)
    config = trained.config
    twin = baseline and load_trained(baseline)
    if twin and _training_data(twin) != _training_data(trained):
        raise ConfigError(
            f"--baseline {baseline}: trained on {twin.config.data.path} with condition {twin.config.data.condition} "
            "and other data settings than the model; a twin has the same"
        )
    sets = open_sets(dataclasses.replace(config.evaluate, more=""))
    directory, model, second = workdir / FOLDER, ScoredRun(config, workdir), None
    score_run(trained, workdir, sets, model.folder)
    if twin:
        same = dataclasses.replace(twin.config, sample=config.sample, evaluate=config.evaluate)
        second = ScoredRun(same, directory / "baseline")
        score_run(twin._replace(config=same), baseline, sets, second.folder)
    score_bounds(config, trained.tokenizer, sets, directory)
    ((name, episodes),) = sets.items()
    return write_evaluation(directory, model, second, directory, name, episodes, trained.tokenizer)


def write_evaluation(
    directory: Path,
    model: ScoredRun,
    baseline: ScoredRun | None,
    bounds: Path,
    name: str,
    episodes: Episodes,
    tokenizer: Tokenizer,
) -> Path:
    """Writes metrics.json and the report from stored scores, and prints the table; returns the path of the page.

    Args:
      bounds: folder with the scores of what needs no run.
      name: of the evaluation set ``episodes``, as the scores are stored.
    """
    config, settings = model.config, model.config.evaluate
    scores = read_scores(model.folder, name)
    rows, shown = {model.variant: _row(scores)}, {model.variant: read_shown(model.folder, name)}
    other = None
    if baseline:
        other = read_scores(baseline.folder, name)
        suffix = "no memory" if baseline.config.memory.kind == "none" else "baseline"
        label = f"{baseline.variant} ({suffix})"
        rows[label] = _row(other) | {"kind": "baseline"}
        shown[label] = read_shown(baseline.folder, name)
    rows |= read_scores(bounds, name).rows
    metrics = make_metrics(model.variant, rows, scores.videos, scores.metrics_spec)
    facts = _describe(config, scores, other, episodes)
    text = json.dumps(metrics | {"run": facts}, indent=1, allow_nan=False) + "\n"
    write_bytes(directory / "metrics.json", text.encode())
    count = min(settings.side_by_side, len(scores.videos))
    clips = [read_clip(episodes, index, config, tokenizer) for index in range(count)]
    samples = [
        EpisodeFrames(
            clip.name,
            clip.frames[: clip.context],
            clip.frames[clip.context :],
            {row: videos[i] for row, videos in shown.items()},
        )
        for i, clip in enumerate(clips)
    ]
    title = f"{config.name} on {episodes.spec.name}"
    page = write_report(
        directory,
        metrics,
        samples,
        title=title,
        facts=facts,
        provenance=provenance(episodes),
        config=config.to_json(),
        fps=settings.fps,
    )
    print(to_text(_table(title, metrics)), end="")
    if "status" in scores.metrics_spec["lpips"]:
        print(
            "lpips n/a: no weights; data_prep.convert_lpips makes them, --config.evaluate.lpips=FILE names them"
        )
    if scores.metrics_spec["gt"] != "raw":
        print(
            f"{episodes} has latents alone: the truth is what the tokenizer makes of them, not the raw frames"
        )
    return page


def _training_data(trained: TrainedModel) -> tuple[str | None, DataConfig]:
    """What twins must share, by content: the data may have moved between the two trainings."""
    return trained.trained_on.digest, dataclasses.replace(trained.config.data, path="-", threads=1, buffer=1)


def _row(scores: Scores) -> dict[str, Any]:
    """The only row of a run's scores."""
    (row,) = scores.rows.values()
    return row


def _describe(config: Config, scores: Scores, baseline: Scores | None, episodes: Episodes) -> dict[str, Any]:
    """What the model is, for the head of the report and for metrics.json."""
    memory = config.memory
    about = (
        "none" if memory.kind == "none" else f"{memory.kind}, stride {memory.stride}, window {memory.window}"
    )
    return {
        "model": config.name,
        "memory": about,
        "condition": config.data.condition,
        "attention window": f"{config.model.window} frames",
        "parameters": f"{scores.about['parameters']:,}",
        "steps": f"{scores.about['steps']:,}",
        "twin's steps": f"{baseline.about['steps']:,}" if baseline else None,
        "sampler": f"DDIM, {config.sample.steps} steps",
        "protocol": episodes.spec.info.get("protocol"),
        "data": str(episodes.directory),
    }


def provenance(episodes: Episodes) -> dict:
    """Where the numbers come from."""
    return {
        "command": " ".join(["python -m rad_jax.main", *sys.argv[1:]]),
        "data made by": episodes.spec.info.get("command"),
        "versions": f"python {platform.python_version()}, jax {jax.__version__}, flax {flax.__version__}",
        "hardware": hardware(),
    }


def _table(title: str, metrics: dict[str, Any]) -> Table:
    """The means, one row per predictor."""
    columns = [Column(head, 3) for head in COLUMNS.values()]
    lines = [
        TableRow(name, [row["mean"].get(metric, "n/a") for metric in COLUMNS])
        for name, row in metrics["rows"].items()
    ]
    return Table("scores", title, columns, lines, "")
