"""Evaluation: a trained model on episodes it never saw, beside its floors and ceilings, as numbers and as a page.

Only the frames after an episode's context are scored.
What the rows are and how metrics are averaged: `rad_jax.evaluation.scores`.
"""

import dataclasses
import platform
import sys
from pathlib import Path

import jax
import numpy as np

from rad_jax.config import Config, ConfigError, DataConfig
from rad_jax.data import Episodes
from rad_jax.data.reader import frame_size
from rad_jax.evaluation.scores import Row, floors, score_rows, write_metrics
from rad_jax.metrics.lpips import open_lpips
from rad_jax.reports.report import Sample, write_report
from rad_jax.rollout.predict import Clip, predict, read_clip, truth_of
from rad_jax.runs.datasets import open_episodes
from rad_jax.runs.hardware import hardware
from rad_jax.runs.restore import TrainedModel, load_trained
from rad_jax.runs.trained_on import check_evaluation_set
from rad_jax.tokenizer import Tokenizer


def evaluate(config: Config, workdir: Path, baseline: Path | None = None) -> Path:
    """Writes ``evaluation/`` into ``workdir``: metrics.json, curves.png, videos and report.html; returns the page's path.

    Args:
      baseline: work directory of the twin without memory, which is shown and compared if given.
    """
    trained = load_trained(workdir, config)
    twin = baseline and load_trained(baseline)
    if twin and _training_data(twin) != _training_data(trained):
        raise ConfigError(
            f"--baseline {baseline}: trained on {twin.config.data.path} with condition {twin.config.data.condition} "
            "and other data settings than the model; a twin has the same"
        )
    settings = trained.config.evaluate
    episodes = open_episodes(settings)
    check_evaluation_set(episodes, trained.trained_on, trained.config.data.condition)
    weights = open_lpips(settings, frame_size(episodes))
    clips = read_clips(episodes, trained.config, trained.tokenizer)
    rows = make_rows(trained, twin, episodes, clips)
    truth = [clip.frames[clip.context :] for clip in clips]
    metrics = score_rows(
        rows,
        truth,
        context_frames=[clip.context for clip in clips],
        names=[clip.name for clip in clips],
        ground_truth=truth_of(episodes),
        weights=weights,
    )
    facts = describe(trained, twin, episodes)
    directory = workdir / "evaluation"
    directory.mkdir(exist_ok=True)
    write_metrics(directory / "metrics.json", metrics | {"run": facts})
    shown = {name: row.frames for name, row in rows.items() if row.kind in ("model", "baseline")}
    samples = [
        Sample(
            clip.name,
            clip.frames[: clip.context],
            truth[i],
            {name: frames[i] for name, frames in shown.items()},
        )
        for i, clip in enumerate(clips[: settings.side_by_side])
    ]
    page = write_report(
        directory,
        metrics,
        samples,
        title=f"{trained.config.name} on {episodes.spec.name}",
        facts=facts,
        provenance=provenance(episodes),
        config=trained.config.to_json(),
        fps=settings.fps,
    )
    print_table(metrics)
    if weights is None:
        print(
            "lpips n/a: no weights; data_prep.convert_lpips makes them, --config.evaluate.lpips=FILE names them"
        )
    if truth_of(episodes) != "raw":
        print(
            f"{episodes} has latents alone: the truth is what the tokenizer makes of them, not the raw frames"
        )
    return page


def _training_data(trained: TrainedModel) -> tuple[str | None, DataConfig]:
    """What twins must share, by content: the data may have moved between the two trainings."""
    return trained.trained_on.digest, dataclasses.replace(trained.config.data, path="-", threads=1, buffer=1)


def read_clips(episodes: Episodes, config: Config, tokenizer: Tokenizer) -> list[Clip]:
    """The episodes of a set that are evaluated."""
    return [read_clip(episodes, index, config, tokenizer) for index in range(clip_count(episodes, config))]


def clip_count(episodes: Episodes, config: Config) -> int:
    """How many episodes of a set are evaluated."""
    return min(config.evaluate.videos or len(episodes), len(episodes))


def make_rows(
    trained: TrainedModel, twin: TrainedModel | None, episodes: Episodes, clips: list[Clip]
) -> dict[str, Row]:
    """All rows of the table: the model, its twin, and what `bound_rows` gives."""
    variant = trained.config.name.rpartition(":")[2]
    rows = {variant: model_row("model", trained, clips, trained.config)}
    if twin:
        name = twin.config.name.rpartition(":")[2]
        name += " (no memory)" if twin.config.memory.kind == "none" else " (baseline)"
        rows[name] = model_row("baseline", twin, clips, trained.config)
    return rows | bound_rows(trained.tokenizer, episodes, clips)


def model_row(
    kind: str, trained: TrainedModel, clips: list[Clip], settings: Config, room: tuple[int, int] = (0, 0)
) -> Row:
    """What a model predicts, with the sampler and the batches of ``settings``; ``room``: see `predict`."""
    config = dataclasses.replace(trained.config, sample=settings.sample)
    model, params, tokenizer = trained.model, trained.params, trained.tokenizer
    frames = predict(model, params, tokenizer, config, clips, settings.evaluate.batch, room)
    return Row(kind, frames, f"{trained.step:,} steps")


def bound_rows(tokenizer: Tokenizer, episodes: Episodes, clips: list[Clip]) -> dict[str, Row]:
    """What needs no model: floors, the tokenizer's round trip, and the oracle if the data have one."""
    trivial = [floors(clip.frames[: clip.context], len(clip.frames) - clip.context) for clip in clips]
    rows = {name: Row("floor", [prediction[name] for prediction in trivial]) for name in trivial[0]}
    truth = [clip.frames[clip.context :] for clip in clips]
    if "frames" in episodes.spec.arrays:  # else the truth is what the tokenizer gives back
        rows["tokenizer round trip"] = Row("ceiling", [round_trip(tokenizer, frames) for frames in truth])
    if "oracle" in episodes.spec.arrays:
        oracle = [
            episodes.read(i, clip.context, len(clip.frames), ["oracle"])["oracle"]
            for i, clip in enumerate(clips)
        ]
        rows["perfect map"] = Row("oracle", oracle, "rendered from the nearest context position")
    return rows


def round_trip(tokenizer: Tokenizer, frames: np.ndarray) -> np.ndarray:
    """Frames (t, H, W, 3) uint8 as the tokenizer gives them back."""
    return np.asarray(tokenizer.decode(tokenizer.encode(frames.astype(np.float32) / 255)))


def describe(trained: TrainedModel, twin: TrainedModel | None, episodes: Episodes) -> dict:
    """What the model is, for the head of the report and for metrics.json."""
    config = trained.config
    memory = config.memory
    about = (
        "none" if memory.kind == "none" else f"{memory.kind}, stride {memory.stride}, window {memory.window}"
    )
    return {
        "model": config.name,
        "memory": about,
        "condition": config.data.condition,
        "attention window": f"{config.model.window} frames",
        "parameters": f"{sum(p.size for p in jax.tree.leaves(trained.params)):,}",
        "steps": f"{trained.step:,}",
        "twin's steps": f"{twin.step:,}" if twin else None,
        "sampler": f"DDIM, {config.sample.steps} steps",
        "protocol": episodes.spec.info.get("protocol"),
        "data": str(episodes.directory),
    }


def provenance(episodes: Episodes) -> dict:
    """Where the numbers come from."""
    import flax

    return {
        "command": " ".join(["python -m rad_jax.main", *sys.argv[1:]]),
        "data made by": episodes.spec.info.get("command"),
        "versions": f"python {platform.python_version()}, jax {jax.__version__}, flax {flax.__version__}",
        "hardware": hardware(),
    }


def print_table(metrics: dict) -> None:
    """The means, one row per predictor."""
    heads = {
        "psnr": "psnr",
        "ssim": "ssim",
        "lpips": "lpips",
        "histogram_intersection": "hist-int",
        "retrieval_error": "retr.err",
        "yaw_error": "yaw-err",
        "sharpness": "sharp",
        "motion": "motion",
    }
    width = max(map(len, metrics["rows"]))
    print(f"{'':{width}}" + "".join(f"{head:>10}" for head in heads.values()))
    for name, row in metrics["rows"].items():
        values = (row["mean"].get(metric) for metric in heads)
        print(f"{name:{width}}" + "".join(f"{'n/a' if v is None else f'{v:.3f}':>10}" for v in values))
