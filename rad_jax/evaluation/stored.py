"""Cached scores: of runs, and of bounds that need no model.

    FOLDER/scores/SET.json            key, metrics_spec, videos, and per row every metric per video and per predicted frame;
                                      sha256 of the predictions below, and of all this
    FOLDER/scores/SET.npz             of a run: the first predicted videos, uint8, to be shown
    FOLDER/scores/SET.figure3.json    of a run: which frames the predicted frames of the first clip see

The key is everything the numbers depend on: checkpoint, evaluation episodes, sampler and metrics. Scores are computed again
only if their key has changed. Files are written whole or not at all.
"""

import dataclasses
import hashlib
import io
import json
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rad_jax.config import Config
from rad_jax.data import DataError, Episodes
from rad_jax.data.condition import condition_dim
from rad_jax.data.index import FILE as INDEX
from rad_jax.data.reader import check_latents, frame_size
from rad_jax.evaluation.bounds import BOUNDS, bound_predictions
from rad_jax.evaluation.effective_attention import EffectiveAttention, of_clip
from rad_jax.evaluation.scores import (
    Prediction,
    Predictor,
    TrueSteps,
    clip_count,
    convention,
    metrics_spec,
    model_predictions,
    model_rows,
    score_clips,
    spans_of,
)
from rad_jax.files import write_bytes
from rad_jax.files.json_files import check_seal, read_json, sealed
from rad_jax.files.npz import Npz, NpzError
from rad_jax.metrics.lpips import open_lpips
from rad_jax.metrics.video import REDUCTION, Video, VideoScore
from rad_jax.reports.figures import COLOURS as KINDS
from rad_jax.reports.hardware import hardware
from rad_jax.reports.statistics import Scores, jsonable, summarise
from rad_jax.rollout.costs import frame_flops, state_bytes
from rad_jax.rollout.predict import longest, read_clip, truth_of
from rad_jax.runs import manifest
from rad_jax.runs.restore import TrainedModel
from rad_jax.runs.stored_config import read_config
from rad_jax.runs.trained_on import check_evaluation_set
from rad_jax.tokenizer import Tokenizer

FORMAT = 5
_FIGURE3 = {"key": dict, "predicted": [int], "window_starts": [int], "influence": [[float]]}
_BOUNDS = {
    "key": {"metrics": dict},
    "videos": [{"name": str, "context_frames": int, "predicted_frames": int}],
    "rows": {
        "*": {
            "kind": str,
            "note": str,
            "videos": [{"video": {"*": float | None}, "frames": {"*": [float | None]}}],
        }
    },
    "about": {"hardware": str, "seconds": float},
}
_RUN = {
    **_BOUNDS,
    "about": {**_BOUNDS["about"], "steps": int, "parameters": int, "state_bytes": int, "frame_flops": int},
}
FOLDER = "scores"
FIGURE3 = ".figure3"  # behind the name of a set

Key = Mapping[str, Any]
# By name of a row the folder with the scores of a run, and the kind of the row: "model" or "baseline".
Runs = Mapping[str, tuple[Path, str]]


def score_run(
    trained: TrainedModel,
    workdir: Path,
    sets: Mapping[str, Episodes],
    folder: Path,
    true_steps: dict[str, TrueSteps],
) -> None:
    """Scores the run in ``workdir`` on evaluation sets, where that was not done before.

    Args:
      trained: the run; its ``config.evaluate`` and ``config.sample`` say how it is scored.
      folder: where scores are stored.
      true_steps: by name of a set, see `score_clips`.

    Raises:
      ConfigError, DataError: a set cannot be evaluated.
    """
    config = trained.config
    check_sets(trained, sets)
    keys = run_keys(config, workdir, trained.step, sets)
    # Clips of all sets are padded to one length, so that the rollout compiles once.
    padded = longest(span for episodes in sets.values() for span in spans_of(episodes, config))
    size = sum(leaf.size for leaf in jax.tree.leaves(trained.params))
    about = {
        "steps": trained.step,
        "parameters": size,
        "state_bytes": state_bytes(config.model),
        "frame_flops": frame_flops(config.model, config.diffusion, config.sample.steps),
    }
    rows = partial(model_rows, config, trained.step)
    predict = partial(model_predictions, trained, padded)
    _update(folder, sets, keys, rows, predict, config, about, true_steps)


def check_sets(trained: TrainedModel, sets: Mapping[str, Episodes]) -> None:
    """Raises `DataError` if a run cannot be evaluated on one of these sets; reads no frames."""
    config, tokenizer = trained.config, trained.tokenizer
    for episodes in sets.values():
        check_evaluation_set(episodes, trained.trained_on, config.data.condition)
        check_latents(episodes, tokenizer.name, tokenizer.fingerprint)
        condition_dim(episodes.spec, config.data, trained.odometry)
        spans_of(episodes, config)


def score_bounds(
    config: Config,
    tokenizer: Tokenizer,
    sets: Mapping[str, Episodes],
    folder: Path,
    true_steps: dict[str, TrueSteps],
) -> None:
    """Scores on evaluation sets what needs no run: floors, the tokenizer's round trip, and oracles. See `score_run`."""
    keys = bounds_keys(config, tokenizer.fingerprint, sets)
    predict = partial(bound_predictions, tokenizer, config)
    _update(folder, sets, keys, lambda episodes: BOUNDS, predict, config, {}, true_steps)


def measure_figure3(trained: TrainedModel, workdir: Path, name: str, episodes: Episodes) -> None:
    """Measures which frames the predicted frames of a set's first clip see, if that was not done before."""
    key = _figure3_key(workdir, trained.step, episodes)
    if is_current(workdir, {name + FIGURE3: key}):
        return
    clip = read_clip(episodes, 0, trained.config, trained.tokenizer, odometry=trained.odometry)
    _write_json(workdir, name + FIGURE3, {"key": key, **of_clip(trained, clip)._asdict()})


def run_keys(config: Config, workdir: Path, step: int, sets: Mapping[str, Episodes]) -> dict[str, Key]:
    """By set what the scores of a checkpoint of the run in ``workdir`` depend on, and what its Figure 3 does."""
    sampler = {"steps": config.sample.steps, "seed": read_config(workdir).seed}
    own = {
        "checkpoint": _checkpoint(workdir, step),
        "sampler": sampler,
        "shown": config.evaluate.side_by_side,
    }
    keys = {name: _key(config, episodes) | own for name, episodes in sets.items()}
    if config.evaluate.figure3:
        name, episodes = next(iter(sets.items()))
        keys[name + FIGURE3] = _figure3_key(workdir, step, episodes)
    return keys


def bounds_keys(config: Config, tokenizer: str, sets: Mapping[str, Episodes]) -> dict[str, Key]:
    """By set what floors, ceilings and oracles depend on; ``tokenizer`` is its fingerprint."""
    return {name: _key(config, episodes) | {"tokenizer": tokenizer} for name, episodes in sets.items()}


def newest_step(workdir: Path) -> int | None:
    """The newest finished checkpoint of a run whose files are all there; None if it has none."""
    steps = reversed(manifest.saved_steps(workdir / "checkpoints"))
    return next((step for step in steps if is_intact(workdir, step, manifest.read)), None)


def is_intact(workdir: Path, step: int, read: Callable[[Path], manifest.Manifest] = manifest.verify) -> bool:
    """Whether every byte of a checkpoint is what was written; with `manifest.read`, whether its files are all there."""
    try:
        return read(workdir / "checkpoints" / str(step)).step == step
    except (manifest.DamagedCheckpoint, manifest.UnknownFormat):
        return False


def is_current(folder: Path, keys: Mapping[str, Key]) -> bool:
    """Whether everything that depends on these keys is stored under them; what is damaged is not."""
    for name, key in keys.items():
        form = _FIGURE3 if name.endswith(FIGURE3) else _RUN if "shown" in key else _BOUNDS
        try:
            stored = _read(folder, name, form)
            # An earlier version did not store which predictions belong to the scores.
            found = _sha256(_path(folder, name, "npz")) if "shown" in key else None
        except (FileNotFoundError, ValueError):
            return False
        if (stored["key"], stored.get("predictions", found)) != (jsonable(key), found):
            return False
    return True


def read_set(name: str, episodes: Episodes, runs: Runs, bounds: Path) -> Scores:
    """Everything that was scored on an evaluation set; the last rows are floors, ceilings and oracles, from ``bounds``."""
    last = read_scores(bounds, name)
    rows, about = {}, {}
    for row, (folder, kind) in runs.items():
        scores = read_scores(folder, name)
        for index, (inner, summary) in enumerate(scores.rows.items()):
            full = f"{row}, {inner}" if index else row  # the first one is the run's own
            rows[full] = summary | ({} if index else {"kind": kind})
            about[full] = scores.about[inner]
    protocol = str(episodes.spec.info.get("protocol", Scores.protocol))
    return dataclasses.replace(last, rows=rows | last.rows, about=about | last.about, protocol=protocol)


def read_scores(folder: Path, name: str) -> Scores:
    """Reads what `score_run` or `score_bounds` stored on the set of a name, if it `is_current`."""
    content = _read(folder, name, _BOUNDS)
    rows = {
        row: summarise(entry["kind"], entry["note"], [_from_json(video) for video in entry["videos"]])
        for row, entry in content["rows"].items()
    }
    about, spec = (
        dict.fromkeys(rows, content["about"]),
        metrics_spec(content["key"]["metrics"], content["videos"]),
    )
    return Scores(name, spec, content["videos"], rows, about)


def read_shown(folder: Path, name: str) -> list[Video]:
    """The predicted videos, uint8, that were stored to be shown. Raises `DataError` if their file is damaged."""
    path = _path(folder, name, "npz")
    try:
        with Npz(path) as arrays:
            return [arrays.read(str(index)) for index in range(len(arrays.sizes))]
    except NpzError as error:
        raise DataError(f"{path}: {error}; delete it and evaluate again") from None


def read_figure3(folder: Path, name: str) -> EffectiveAttention:
    """Reads what `measure_figure3` stored."""
    content = _read(folder, name + FIGURE3, _FIGURE3)
    return EffectiveAttention(*(np.array(content[field]) for field in EffectiveAttention._fields))


def _read(folder: Path, name: str, form: Any) -> dict[str, Any]:
    """Raises ValueError unless a file of scores is what was stored."""
    content = read_json(_path(folder, name), form)
    check_seal(content)
    for row in content.get("rows", {}).values():
        metrics = [list(part) for video in row["videos"] for part in (video["video"], video["frames"])]
        complete = len(metrics) == 2 * len(content["videos"]) > 0 and all(m == metrics[0] for m in metrics)
        if not complete or set(metrics[0]) | {"lpips"} != set(REDUCTION) or row["kind"] not in KINDS:
            raise ValueError("a row has other videos, other metrics or another kind")
    return content


def _key(config: Config, episodes: Episodes) -> Key:
    size = frame_size(episodes)
    return {
        "format": FORMAT,
        "episodes": {
            "index": _sha256(episodes.directory / INDEX),
            "split": episodes.split,
            "videos": clip_count(episodes, config),
        },
        "metrics": convention(size, truth_of(episodes), open_lpips(config.evaluate, size)),
    }


def _figure3_key(workdir: Path, step: int, episodes: Episodes) -> Key:
    return {
        "format": FORMAT,
        "episodes": {"index": _sha256(episodes.directory / INDEX), "split": episodes.split},
        "checkpoint": _checkpoint(workdir, step),
    }


def _checkpoint(workdir: Path, step: int) -> dict[str, Any]:
    directory = workdir / "checkpoints" / str(step)
    return {"step": step, "manifest": _sha256(directory / manifest.FILE)}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _update(
    folder: Path,
    sets: Mapping[str, Episodes],
    keys: Mapping[str, Key],
    rows_of: Callable[[Episodes], Mapping[str, Predictor]],
    predict: Callable[[Episodes], Iterable[Prediction]],
    config: Config,
    about: Mapping[str, Any],
    true_steps: dict[str, TrueSteps],
) -> None:
    """Scores what some predictors predict on sets and stores the scores, unless they are stored under these keys."""
    for name, episodes in sets.items():
        key = keys[name]
        if is_current(folder, {name: key}):
            print(f"{name}: scored before", flush=True)
            continue
        began = time.monotonic()
        weights = open_lpips(config.evaluate, frame_size(episodes))
        clips = score_clips(predict(episodes), weights, key.get("shown", 0), true_steps.setdefault(name, {}))
        predictors, rows = rows_of(episodes), {}
        for row in clips[0].scores:
            scores = [clip.scores[row] for clip in clips]
            videos = [{"video": score.video, "frames": score.frames} for score in scores]
            rows[row] = {**predictors[row]._asdict(), "videos": videos}
            print(f"{name}: {row}: PSNR {np.mean([score.video['psnr'] for score in scores]):.2f}", flush=True)
        if "shown" in key:
            file, own = io.BytesIO(), next(iter(rows))
            np.savez_compressed(file, **{str(clip.index): clip.shown[own] for clip in clips if clip.shown})
            write_bytes(_path(folder, name, "npz"), file.getvalue())
        videos = [clip.video for clip in clips]
        content = {
            "key": key,
            "metrics_spec": metrics_spec(key["metrics"], videos),
            "videos": videos,
            "rows": rows,
            "about": {"hardware": hardware(), "seconds": round(time.monotonic() - began, 1), **about},
        }
        if "shown" in key:
            content["predictions"] = _sha256(_path(folder, name, "npz"))
        _write_json(folder, name, content)


def _from_json(video: Mapping[str, Any]) -> VideoScore:
    frames = {metric: np.array(values, np.float64) for metric, values in video["frames"].items()}
    whole = {metric: np.nan if value is None else value for metric, value in video["video"].items()}
    return VideoScore(frames, whole)


def _write_json(folder: Path, name: str, content: Mapping[str, Any]) -> None:
    text = json.dumps(sealed(jsonable(content)), allow_nan=False, separators=(",", ":"))
    write_bytes(_path(folder, name), text.encode())


def _path(folder: Path, name: str, kind: str = "json") -> Path:
    return folder / FOLDER / f"{name}.{kind}"
