"""Evaluation: a trained model on episodes it never saw, beside its floors and ceilings, as numbers and as a page.

    WORKDIR/scores/                  scores of the model
    WORKDIR/evaluation/scores/       of floors, ceilings and the oracle
    WORKDIR/evaluation/baseline/     of the baseline, if one is given
    WORKDIR/evaluation/              metrics.json, curves.png, videos and report.html, made from these scores

Only the frames after an episode's context are scored.
What is compared with what: `rad_jax.evaluation.scores`. How it is averaged: `rad_jax.reports.statistics`.
"""

import dataclasses
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax
import jax

from rad_jax import media
from rad_jax.config import Config, ConfigError, DataConfig
from rad_jax.data import Episodes
from rad_jax.evaluation.scores import clip_count
from rad_jax.evaluation.stored import Runs, check_sets, read_set, read_shown, score_bounds, score_run
from rad_jax.files import WorkdirLock, check_writable, write_bytes
from rad_jax.metrics.lpips import open_lpips
from rad_jax.reports.episodes import EpisodeFrames
from rad_jax.reports.figures import COLOURS, curves
from rad_jax.reports.hardware import hardware
from rad_jax.reports.page import Drawing, write_page
from rad_jax.reports.statistics import Scores
from rad_jax.reports.tables import (
    Column,
    Head,
    Table,
    cost_columns,
    difference,
    measured,
    memory_columns,
    to_text,
)
from rad_jax.reports.text import EXACT_DB, METRICS, cards, convention, verdict
from rad_jax.rollout.predict import read_clip
from rad_jax.runs.datasets import open_sets
from rad_jax.runs.restore import load_trained
from rad_jax.runs.stored_config import read_config
from rad_jax.runs.trained_on import TrainedOn
from rad_jax.tokenizer import Tokenizer

FOLDER = "evaluation"
CURVES = (
    "Frame by frame",
    "PSNR, SSIM and colours in common by frame",
    "Mean over videos by index of the predicted frame; bands are one standard error. The line marks the first predicted frame. "
    "Where videos differ in length, later frames average fewer of them.",
)


def evaluate(config: Config, workdir: Path, baseline: Path | None = None) -> Path:
    """Scores the run in ``workdir`` and writes its ``evaluation/``; returns the path of the page.

    Args:
      config: its ``evaluate`` and ``sample`` sections say how the run is evaluated; what makes the model must be the run's.
      baseline: work directory of the twin without memory, which is compared if given.

    Raises:
      ConfigError, CheckpointError, DataError, TokenizerError: in one or two lines.
      WorkdirInUse: another process evaluates the run.
    """
    check_writable(workdir)
    if baseline:
        _check_twin(workdir, baseline)
    trained = load_trained(workdir, config)
    config = trained.config
    twin = baseline and load_trained(baseline)
    open_lpips(config.evaluate, trained.trained_on.frame_size)
    sets = open_sets(dataclasses.replace(config.evaluate, more=""))
    for one in filter(None, (trained, twin)):
        check_sets(one, sets)
    directory = workdir / FOLDER
    # Rows are named by what is behind the experiment's name: the variant.
    runs, true_steps = {config.name.rpartition(":")[2]: (workdir, "model")}, {}
    ((name, episodes),) = sets.items()
    with WorkdirLock(directory):  # the files of two evaluations at a time would mix
        score_run(trained, workdir, sets, workdir, true_steps)
        if twin:
            same = dataclasses.replace(twin.config, sample=config.sample, evaluate=config.evaluate)
            suffix = "no memory" if same.memory.kind == "none" else "baseline"
            runs[f"{same.name.rpartition(':')[2]} ({suffix})"] = directory / "baseline", "baseline"
            score_run(twin._replace(config=same), baseline, sets, directory / "baseline", true_steps)
        score_bounds(config, trained.tokenizer, sets, directory, true_steps)
        return write_evaluation(directory, config, runs, directory, name, episodes, trained.tokenizer)


def write_evaluation(
    directory: Path,
    config: Config,
    runs: Runs,
    bounds: Path,
    name: str,
    episodes: Episodes,
    tokenizer: Tokenizer,
) -> Path:
    """Writes metrics.json and the report from stored scores, and prints the table; returns the path of the page.

    Args:
      config: of the first of ``runs``, which is the model; the second, if there is one, is its twin.
      bounds: folder with the scores of what needs no run.
      name: of the evaluation set ``episodes``, as the scores are stored.
    """
    scores = read_set(name, episodes, runs, bounds)
    model, facts = next(iter(runs)), _describe(config, scores, list(runs), episodes)
    write_bytes(directory / "metrics.json", _metrics_json(scores, model, facts).encode())
    title, page = f"{config.name} on {episodes.spec.name}", directory / "report.html"
    write_page(
        page,
        title=title,
        facts=facts,
        verdicts=[verdict(scores, model)],
        cards=cards(scores, model),
        tables=report_tables(scores, model),
        drawings=[Drawing("curves.png", *CURVES, curves(scores))],
        episodes={"What it looks like": shown_episodes(name, episodes, config, tokenizer, runs)},
        encode=lambda episode: media.encode_video(
            media.side_by_side(episode.videos(), episode.context), config.evaluate.fps
        ),
        provenance=provenance(episodes),
        config=config.to_json(),
    )
    means = [
        Column(metric.short, [row["mean"].get(name, "n/a") for row in scores.rows.values()], metric.digits)
        for name, metric in METRICS.items()
    ]
    print(to_text(Table("means", title, [Head(name) for name in scores.rows], means, "")), end="")
    if "status" in scores.metrics_spec["lpips"]:
        make = "data_prep.convert_lpips makes them, --config.evaluate.lpips=FILE names them"
        print(f"lpips n/a: no weights; {make}")
    if scores.metrics_spec["gt"] != "raw":
        print(
            f"{episodes} has latents alone: the truth is what the tokenizer makes of them, not the raw frames"
        )
    return page


def report_tables(scores: Scores, model: str) -> list[Table]:
    """Scores of every row and their differences to the model's, and the metrics that tell forgotten from drifted."""
    names = list(scores.rows)
    heads = [Head(name, row["kind"], row["note"], COLOURS[row["kind"]]) for name, row in scores.rows.items()]
    # Perfect copies, at the cap of 100 dB, do not squeeze the bars of the others.
    values = [scores.psnr(name) for name in names]
    longest = max([value for value in values if value < EXACT_DB] or values)
    pooled = [row["mean"]["psnr_pooled"] for row in scores.rows.values()]
    columns = [
        measured(scores, "psnr", names, bar=longest),
        difference(scores, "psnr", [(name, model) for name in names], model),
        *(measured(scores, metric, names, note=METRICS[metric].best) for metric in ("ssim", "lpips")),
        Column("PSNR, dB", pooled, METRICS["psnr"].digits, note="pooled"),
        *cost_columns(scores, names),
    ]
    coarse = scores.metrics_spec["psnr_coarse"]
    caption = (
        "PSNR and SSIM do not tell a model that forgot from one that remembers and stands a step aside; these numbers do, "
        f"read together. Means over videos; 1/8 means every {coarse['decimation']} px here, after a Gaussian of sigma "
        f"{coarse['blur_sigma']:g} px."
    )
    return [
        Table("scores", "Scores", heads, columns, convention(scores.metrics_spec)),
        Table("memory", "Forgotten, or drifted?", heads, memory_columns(scores, names), caption),
    ]


def shown_episodes(
    name: str, episodes: Episodes, config: Config, tokenizer: Tokenizer, runs: Runs, prefix: str = ""
) -> list[EpisodeFrames]:
    """The first episodes of a set with what runs predicted for them; their files begin with ``prefix``."""
    shown = {row: read_shown(folder, name) for row, (folder, _) in runs.items()}
    found = []
    for index in range(min(config.evaluate.side_by_side, clip_count(episodes, config))):
        clip = read_clip(episodes, index, config, tokenizer, conditioned=False)
        predictions = {row: videos[index] for row, videos in shown.items()}
        found.append(EpisodeFrames(f"{prefix}{index:02d}", clip.name, clip.frames, clip.context, predictions))
    return found


def _check_twin(workdir: Path, baseline: Path) -> None:
    """Raises `ConfigError` unless ``baseline`` holds a run that was trained on what the run in ``workdir`` was."""
    model = _training_data(workdir)
    try:
        twin = _training_data(baseline)
    except ConfigError as error:
        raise ConfigError(f"--baseline {baseline}: {error}") from None
    if twin != model:
        data = read_config(baseline).data
        raise ConfigError(
            f"--baseline {baseline}: trained on {data.path} with condition {data.condition} and other data settings "
            "than the model; a twin has the same"
        )


def _training_data(workdir: Path) -> tuple[str | None, DataConfig]:
    """What twins must share, by content: the data may have moved between the two trainings."""
    data = read_config(workdir).data
    return TrainedOn.read(workdir).digest, dataclasses.replace(data, path="-", threads=1, buffer=1)


def _metrics_json(scores: Scores, model: str, facts: Mapping[str, Any]) -> str:
    """The content of metrics.json; differences are the model minus every other row."""
    content = {
        "metrics_spec": scores.metrics_spec,
        "videos": scores.videos,
        "model": model,
        "rows": scores.rows,
        "differences": {
            name: {metric: scores.difference(model, name, metric) for metric in row["per_video"]}
            for name, row in scores.rows.items()
            if name != model
        },
        "run": facts,
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _describe(config: Config, scores: Scores, runs: Sequence[str], episodes: Episodes) -> dict[str, Any]:
    """What the model is, for the head of the report and for metrics.json."""
    memory, about = config.memory, [scores.about[run] for run in runs]
    words = f"{memory.kind}, stride {memory.stride}, window {memory.window}"
    return {
        "model": config.name,
        "memory": "none" if memory.kind == "none" else words,
        "condition": config.data.condition,
        "attention window": f"{config.model.window} frames",
        "parameters": f"{about[0]['parameters']:,}",
        "steps": f"{about[0]['steps']:,}",
        "twin's steps": f"{about[1]['steps']:,}" if len(about) > 1 else None,
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
