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
from rad_jax.checkpoints import Checkpoints
from rad_jax.config import Config, ConfigError, config_from_json
from rad_jax.data.episodes import DataError, Episodes
from rad_jax.hardware import hardware
from rad_jax.model import RAD
from rad_jax.parts import open_tokenizer
from rad_jax.predict import Clip, predict, read_clip
from rad_jax.prepare import open_episodes
from rad_jax.report import Sample, write_report
from rad_jax.resume import refuse_changes
from rad_jax.scores import Row, floors, score_rows, write_metrics
from rad_jax.tokenizer import Tokenizer
from rad_jax.train_step import init_state

# Keys that make a model what it is.
MODEL_KEYS = ("model.", "memory.", "diffusion.", "data.condition", "data.heading_harmonics")


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
    path = workdir / "config.json"
    if not path.exists():
        raise ConfigError(f"{workdir} holds no run (no config.json): train first, or name another --workdir")
    run = config_from_json(path.read_text())
    if config is not None:
        model = dataclasses.replace(config.model, latent=run.model.latent, action_dim=run.model.action_dim)
        wanted = dataclasses.replace(config, model=model)
        refuse_changes(wanted, run, workdir, MODEL_KEYS)
        run = dataclasses.replace(run, evaluate=config.evaluate, sample=config.sample)
    model = RAD(run.model)
    part = "ema" if run.train.ema else "params"
    target = getattr(jax.eval_shape(lambda: init_state(model, run)), part)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        restored = checkpoints.restore_part(part, target)
    if restored is None:
        raise ConfigError(f"{workdir} holds no checkpoint yet: train first")
    params, manifest = restored
    tokenizer = open_tokenizer(run, open_episodes(run.data))
    trained_with = manifest.metadata["tokenizer"]["fingerprint"]
    if tokenizer.fingerprint != trained_with:
        raise DataError(
            f"{workdir} was trained with tokenizer {trained_with[:12]}, {run.data.path} has "
            f"{tokenizer.fingerprint[:12]}; restore the data set it was trained on"
        )
    return Trained(run, model, params, tokenizer, manifest.step)


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
    clips = read_clips(episodes, trained.config)
    rows = make_rows(trained, twin, episodes, clips)
    truth = [clip.frames[clip.context :] for clip in clips]
    metrics = score_rows(
        rows, truth, context_frames=[clip.context for clip in clips], names=[clip.name for clip in clips]
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
    return page


def read_clips(episodes: Episodes, config: Config) -> list[Clip]:
    """The episodes of a set that are evaluated."""
    return [read_clip(episodes, index, config) for index in range(clip_count(episodes, config))]


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


def model_row(kind: str, trained: Trained, clips: list[Clip], settings: Config) -> Row:
    """What a model predicts, with the sampler and the batches of ``settings``."""
    config = dataclasses.replace(trained.config, sample=settings.sample)
    frames = predict(trained.model, trained.params, trained.tokenizer, config, clips, settings.evaluate.batch)
    return Row(kind, frames, f"{trained.step:,} steps")


def bound_rows(tokenizer: Tokenizer, episodes: Episodes, clips: list[Clip]) -> dict[str, Row]:
    """What needs no model: floors, the tokenizer's round trip, and the oracle if the data have one."""
    trivial = [floors(clip.frames[: clip.context], len(clip.frames) - clip.context) for clip in clips]
    rows = {name: Row("floor", [prediction[name] for prediction in trivial]) for name in trivial[0]}
    truth = [clip.frames[clip.context :] for clip in clips]
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
    names = ("psnr", "ssim", "histogram_intersection", "retrieval_error", "yaw_error", "sharpness", "motion")
    short = dict(
        zip(names, ("psnr", "ssim", "hist-int", "retr.err", "yaw-err", "sharp", "motion"), strict=True)
    )
    width = max(map(len, metrics["rows"]))
    print(f"{'':{width}}" + "".join(f"{short[name]:>10}" for name in names))
    for name, row in metrics["rows"].items():
        values = (row["mean"][metric] for metric in names)
        print(f"{name:{width}}" + "".join(f"{'n/a' if v is None else f'{v:.3f}':>10}" for v in values))
