"""Scores that are kept: of a run, or of what needs no run, on every evaluation set.

    WORKDIR/scores/SET.json    key, metrics_spec, videos, and per row every metric per video and per predicted frame
    WORKDIR/scores/SET.npz     of a run: the first predicted videos, uint8, to be shown, and what frames of the first one see

The key is everything the numbers depend on: checkpoint, evaluation episodes, sampler and metrics. Scores whose key is still
the same are not computed again, and a file is whole or not there.
"""

import hashlib
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rad_jax.config import Config, ConfigError
from rad_jax.data import Episodes
from rad_jax.data.index import FILE as INDEX
from rad_jax.data.reader import frame_size
from rad_jax.evaluation import effective_attention
from rad_jax.evaluation.effective_attention import EffectiveAttention
from rad_jax.evaluation.evaluate import bound_rows, clip_count, model_row, read_clips
from rad_jax.evaluation.scores import Row, check_row, convention, jsonable, metrics_spec, summarise
from rad_jax.files import write_bytes
from rad_jax.media import to_uint8
from rad_jax.metrics.lpips import Lpips, open_lpips
from rad_jax.metrics.video import VideoScore, score_videos, steps
from rad_jax.rollout.predict import Clip, room_of, truth_of
from rad_jax.runs import manifest
from rad_jax.runs.checkpoints import CheckpointError
from rad_jax.runs.datasets import open_sets
from rad_jax.runs.hardware import hardware
from rad_jax.runs.restore import TrainedModel, load_trained
from rad_jax.runs.stored_config import read_config
from rad_jax.runs.trained_on import check_evaluation_set
from rad_jax.runs.training_run import open_training_run

FORMAT = 2
FOLDER = "scores"


@dataclass(frozen=True)
class Scores:
    """What a file holds. ``rows``: see `rad_jax.evaluation.scores.summarise`; ``about``: seconds, hardware and more."""

    metrics_spec: Mapping[str, Any]
    videos: Sequence[Mapping[str, Any]]
    rows: Mapping[str, Mapping[str, Any]]
    frames: Mapping[str, Sequence[VideoScore]]
    about: Mapping[str, Any]


def score(config: Config, workdir: Path) -> None:
    """Scores the newest checkpoint of the run in ``workdir`` on all evaluation sets, where that was not done before.

    Raises:
      ConfigError, CheckpointError, DataError: in one or two lines.
    """
    trained = None
    sets = open_sets(config.evaluate)
    for name, episodes in sets.items():
        key = run_key(config, workdir, episodes)
        if is_current(workdir, name, key):
            print(f"{name}: scored before", flush=True)
            continue
        began = time.monotonic()
        if trained is None:
            trained = load_trained(workdir, config)
            for each in sets.values():
                check_evaluation_set(each, trained.trained_on, trained.config.data.condition)
            clips_of = {n: read_clips(e, config, trained.tokenizer) for n, e in sets.items()}
            # All sets in arrays of one size, so that the rollout is compiled once.
            room = tuple(map(max, zip(*map(room_of, clips_of.values()), strict=True)))
        if trained.step != key["checkpoint"]["step"]:
            raise CheckpointError(
                f"{workdir}: checkpoint {key['checkpoint']['step']} is damaged; train on from step {trained.step}"
            )
        clips = clips_of[name]
        row = model_row("model", trained, clips, config, room)
        shown = {
            str(i): to_uint8(row.frames[i]) for i in range(min(config.evaluate.side_by_side, len(clips)))
        }
        arrays = shown | (_seen(trained, clips[0]) if key["seen"] else {})
        _write_arrays(_path(workdir, name).with_suffix(".npz"), arrays)
        weights = open_lpips(config.evaluate, frame_size(episodes))
        _write(workdir, name, key, clips, {trained.config.name: row}, weights, began)


def _seen(trained: TrainedModel, clip: Clip) -> dict[str, np.ndarray]:
    measured = effective_attention.of_clip(
        trained.model, trained.params, trained.tokenizer, trained.config, clip
    )
    return {f"seen_{field}": values for field, values in measured._asdict().items()}


def bounds(config: Config, workdir: Path) -> None:
    """The same for what needs no run: floors, the tokenizer's round trip, and the oracle where there is one."""
    parts = open_training_run(config)
    for name, episodes in open_sets(config.evaluate).items():
        key = bounds_key(config, parts.tokenizer.fingerprint, episodes)
        if is_current(workdir, name, key):
            print(f"{name}: scored before", flush=True)
            continue
        began = time.monotonic()
        clips = read_clips(episodes, parts.config, parts.tokenizer)
        rows = bound_rows(parts.tokenizer, episodes, clips)
        weights = open_lpips(config.evaluate, frame_size(episodes))
        _write(workdir, name, key, clips, rows, weights, began)


def run_key(config: Config, workdir: Path, episodes: Episodes) -> dict[str, Any]:
    """What the scores of the run in ``workdir`` depend on.

    Raises:
      ConfigError: there is no run, or it has no checkpoint yet.
    """
    run = read_config(workdir)
    step = newest_step(workdir)
    if step is None:
        raise ConfigError(f"{workdir} holds no checkpoint yet: train first")
    content = (workdir / "checkpoints" / str(step) / manifest.FILE).read_bytes()
    return _key(config, episodes) | {
        "checkpoint": {"step": step, "manifest": hashlib.sha256(content).hexdigest()},
        "sampler": {"steps": config.sample.steps, "seed": run.seed},
        "shown": config.evaluate.side_by_side,
        # Measured on the first set alone.
        "seen": config.evaluate.figure3 and episodes.directory == Path(config.evaluate.path),
    }


def bounds_key(config: Config, tokenizer: str, episodes: Episodes) -> dict[str, Any]:
    """What floors, ceilings and oracles depend on; ``tokenizer`` is its fingerprint."""
    return _key(config, episodes) | {"tokenizer": tokenizer}


def newest_step(workdir: Path) -> int | None:
    """The newest finished checkpoint of a run whose files are all there; None if it has none."""
    directories = (workdir / "checkpoints").glob("[0-9]*")
    for step in sorted((int(d.name) for d in directories if d.name.isdecimal()), reverse=True):
        try:
            return manifest.read(workdir / "checkpoints" / str(step)).step
        except (manifest.DamagedCheckpoint, manifest.UnknownFormat):
            continue
    return None


def is_intact(workdir: Path, step: int) -> bool:
    """Whether every byte of a checkpoint is what was written."""
    try:
        return manifest.verify(workdir / "checkpoints" / str(step)).step == step
    except (manifest.DamagedCheckpoint, manifest.UnknownFormat):
        return False


def is_current(workdir: Path, name: str, key: Mapping[str, Any]) -> bool:
    """Whether the scores on a set are there, and under this key."""
    path = _path(workdir, name)
    try:
        kept = json.loads(path.read_text())["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return kept == jsonable(key) and ("shown" not in key or path.with_suffix(".npz").exists())


def read_scores(workdir: Path, name: str) -> Scores:
    """Reads what `score` or `bounds` wrote."""
    content = json.loads(_path(workdir, name).read_text())
    frames, rows = {}, {}
    for row, entry in content["rows"].items():
        frames[row] = [_from_json(video) for video in entry["videos"]]
        rows[row] = jsonable(summarise(entry["kind"], entry["note"], frames[row]))
    return Scores(content["metrics_spec"], content["videos"], rows, frames, content["about"])


def read_shown(workdir: Path, name: str) -> list[np.ndarray]:
    """The predicted videos (t, H, W, 3), uint8, that were kept to be shown."""
    with np.load(_path(workdir, name).with_suffix(".npz"), allow_pickle=False) as arrays:
        return [arrays[str(index)] for index in range(sum(map(str.isdecimal, arrays.files)))]


def read_seen(workdir: Path, name: str) -> EffectiveAttention:
    """Which frames the predicted frames of the first video see; kept for the first evaluation set."""
    with np.load(_path(workdir, name).with_suffix(".npz"), allow_pickle=False) as arrays:
        return EffectiveAttention(**{field: arrays[f"seen_{field}"] for field in EffectiveAttention._fields})


def _key(config: Config, episodes: Episodes) -> dict[str, Any]:
    index = hashlib.sha256((episodes.directory / INDEX).read_bytes()).hexdigest()
    size = frame_size(episodes)
    return {
        "format": FORMAT,
        "episodes": {"index": index, "split": episodes.split, "videos": clip_count(episodes, config)},
        "metrics": convention(size, truth_of(episodes), open_lpips(config.evaluate, size)),
    }


def _write(
    workdir: Path,
    name: str,
    key: Mapping[str, Any],
    clips: Sequence[Clip],
    rows: Mapping[str, Row],
    weights: Lpips | None,
    began: float,
) -> None:
    truth = [clip.frames[clip.context :] for clip in clips]
    truth_steps = steps(truth)
    scored = {}
    for row, predicted in rows.items():
        check_row(row, predicted.frames, truth)
        videos = score_videos(predicted.frames, truth, truth_steps, weights)
        entries = [{"video": video.video, "frames": video.frames} for video in videos]
        scored[row] = {"kind": predicted.kind, "note": predicted.note, "videos": entries}
        print(f"{name}: {row}: PSNR {np.mean([video.video['psnr'] for video in videos]):.2f}", flush=True)
    content = {
        "key": key,
        "metrics_spec": metrics_spec(
            truth[0].shape[1:3],
            [clip.context for clip in clips],
            [len(frames) for frames in truth],
            key["metrics"]["gt"],
            weights,
        ),
        "videos": [
            {"name": clip.name, "context_frames": clip.context, "predicted_frames": len(frames)}
            for clip, frames in zip(clips, truth, strict=True)
        ],
        "rows": scored,
        "about": {"hardware": hardware(), "seconds": round(time.monotonic() - began, 1)},
    }
    text = json.dumps(jsonable(content), allow_nan=False, separators=(",", ":"))
    write_bytes(_path(workdir, name), text.encode())


def _from_json(video: Mapping[str, Any]) -> VideoScore:
    frames = {metric: np.array(values, np.float64) for metric, values in video["frames"].items()}
    whole = {metric: np.nan if value is None else value for metric, value in video["video"].items()}
    return VideoScore(frames, whole)


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    write_bytes(path, file.getvalue())


def _path(workdir: Path, name: str) -> Path:
    return workdir / FOLDER / f"{name}.json"
