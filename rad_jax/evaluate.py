"""Evaluation: a trained model on episodes it never saw, beside its floors and ceilings, as numbers and as a page.

Only the frames after an episode's context are scored. What the rows are and how metrics are averaged: `rad_jax.scores`.
"""

import dataclasses
import platform
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from rad_jax.axes import PyTree
from rad_jax.config import Config, ConfigError
from rad_jax.data.episodes import DataError, Episodes
from rad_jax.hardware import hardware
from rad_jax.model import RAD
from rad_jax.parts import open_lpips, open_tokenizer
from rad_jax.predict import Clip, frame_size, predict, read_clip, truth_of
from rad_jax.prepare import open_episodes
from rad_jax.report import Sample, write_report
from rad_jax.resume import restore_run
from rad_jax.scores import Row, floors, score_rows, write_metrics
from rad_jax.tokenizer import Tokenizer


class Trained(NamedTuple):
    """A model as its run left it: the averaged parameters if the run kept an average."""

    config: Config
    model: RAD
    params: PyTree
    tokenizer: Tokenizer
    step: int


def load_trained(workdir: Path, config: Config | None = None) -> Trained:
    """Reads the newest checkpoint of a run.

    Args:
      config: its ``evaluate`` and ``sample`` sections are used in place of the run's; what makes the model must be the run's.

    Raises:
      ConfigError, CheckpointError, TokenizerError: in one or two lines, what is missing or does not fit.
    """
    run, params, _, manifest = restore_run(workdir, config)
    tokenizer = open_tokenizer(run, open_episodes(run.data, run.tokenizer.path))
    trained_with = manifest.metadata["tokenizer"]["fingerprint"]
    if tokenizer.fingerprint != trained_with:
        raise DataError(
            f"{workdir} was trained with tokenizer {trained_with[:12]}, {run.data.path} has "
            f"{tokenizer.fingerprint[:12]}; restore the data set it was trained on"
        )
    return Trained(run, RAD(run.model), params, tokenizer, manifest.step)


def evaluate(config: Config, workdir: Path, baseline: Path | None = None) -> Path:
    """Writes ``evaluation/`` into ``workdir``: metrics.json, curves.png, videos and report.html; returns the page's path.

    Args:
      baseline: work directory of the twin without memory, which is shown and compared if given.
    """
    trained = load_trained(workdir, config)
    twin = baseline and load_trained(baseline)
    if twin and twin.config.data != trained.config.data:
        raise ConfigError(
            f"--baseline {baseline}: trained on {twin.config.data.path} with condition {twin.config.data.condition} "
            "and other data settings than the model; a twin has the same"
        )
    settings = trained.config.evaluate
    episodes = open_episodes(settings)
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


def read_clips(episodes: Episodes, config: Config, tokenizer: Tokenizer) -> list[Clip]:
    """The episodes of a set that are evaluated."""
    return [read_clip(episodes, index, config, tokenizer) for index in range(clip_count(episodes, config))]


def clip_count(episodes: Episodes, config: Config) -> int:
    """How many episodes of a set are evaluated."""
    return min(config.evaluate.videos or len(episodes), len(episodes))


def make_rows(
    trained: Trained, twin: Trained | None, episodes: Episodes, clips: list[Clip]
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
    kind: str, trained: Trained, clips: list[Clip], settings: Config, room: tuple[int, int] = (0, 0)
) -> Row:
    """What a model predicts, with the sampler and the batches of ``settings``; ``room``: see `rad_jax.predict.predict`."""
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


def describe(trained: Trained, twin: Trained | None, episodes: Episodes) -> dict:
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
