"""From predicted videos to ``metrics.json``: what is compared with what, and how it is averaged.

Only predicted frames are scored, clipped to [0, 1], against the raw true frames (or, where a data set has kept latents alone,
against what its tokenizer makes of these: the record says which). A metric is reduced over the frames of a
video, then averaged over videos; standard errors are over videos, and differences between two rows are paired by video.
Beside the model stand trivial predictors (floors) and bounds (ceilings, oracles), because a PSNR without them means
nothing: one constant frame scores 18 dB in a maze.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rad_jax.errors import UserError
from rad_jax.files import write_bytes
from rad_jax.metrics.forgetting import HISTOGRAM_BINS, decimation
from rad_jax.metrics.image import PSNR_CAP_DB, SSIM_K, SSIM_SIGMA, SSIM_WINDOW
from rad_jax.metrics.lpips import VERSION as LPIPS_VERSION
from rad_jax.metrics.lpips import Lpips
from rad_jax.metrics.video import (
    REDUCTION,
    WITH_WEIGHTS,
    VideoScore,
    reduce,
    score_videos,
    steps,
    unit_range,
)

KINDS = ("model", "baseline", "floor", "ceiling", "oracle")


class ScoreError(UserError, ValueError):
    """Rows that cannot be scored against the truth."""


@dataclass(frozen=True)
class Row:
    """One line of the table: a predictor and what it predicted for every video.

    Attributes:
        kind: "model", "baseline" (the no-memory twin), "floor", "ceiling" (tokenizer round trip) or "oracle" (perfect map).
        frames: per video (t, H, W, 3), predicted frames only, uint8 or floats (clipped to [0, 1]).
        note: a few words that the report shows below the name.
    """

    kind: str
    frames: Sequence[np.ndarray]
    note: str = ""

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ScoreError(f"row kind {self.kind!r}: expected one of {', '.join(KINDS)}")


def score_video(prediction: np.ndarray, truth: np.ndarray) -> VideoScore:
    """Score one video (t, H, W, 3), uint8 or floats that are clipped to [0, 1]: every metric, per frame and as one number.

    Raises:
        ScoreError: shapes differ or values are not finite.
    """
    check_row("prediction", [prediction], [truth])
    return score_videos([prediction], [truth])[0]


def floors(context: np.ndarray, frames: int) -> dict[str, np.ndarray]:
    """Trivial predictions from the context (t, H, W, 3) alone, each (frames, H, W, 3) float32 in [0, 1]."""
    context = unit_range(context)
    predictions = {"repeat last": context[-1], "mean context": context.mean(axis=0)}
    return {name: np.repeat(frame[None], frames, axis=0) for name, frame in predictions.items()}


def score_rows(
    rows: Mapping[str, Row],
    truth: Sequence[np.ndarray],
    *,
    context_frames: Sequence[int],
    model: str | None = None,
    names: Sequence[str] | None = None,
    ground_truth: str = "raw",
    weights: Lpips | None = None,
    progress: Callable[[str], None] = lambda row: None,
) -> dict[str, Any]:
    """Score every row on every video and aggregate.

    Args:
        rows: name -> predictions, in the order of the table.
        truth: per video the raw frames to predict, (t, H, W, 3) uint8 or floats in [0, 1]; t may differ between videos.
        context_frames: per video the number of context frames, for the record.
        model: the row that all others are compared with; by default the first of kind "model".
        names: per video a name; by default its index.
        ground_truth: what the true frames are, in a word for the record.
        weights: of LPIPS; without them it is absent.
        progress: called with the name of a row before it is scored.

    Returns:
        A dict of strict JSON (undefined values are null): ``metrics_spec``; ``videos``; ``model``; ``rows``, each with
        ``kind``, ``note``, ``mean``, ``standard_error``, ``per_video`` and ``per_frame`` (value, standard_error and count
        by index of the predicted frame); ``differences``, the model minus every other row, paired by video.

    Raises:
        ScoreError: no videos, no model row, or a row that does not fit the truth; names row, video and frame.
    """
    names = [str(index) for index in range(len(truth))] if names is None else names
    if not truth or not len(truth) == len(names) == len(context_frames):
        raise ScoreError(
            f"{len(truth)} videos, {len(names)} names, {len(context_frames)} context lengths: expected equal numbers, not 0"
        )
    model = _model_row(rows, model)
    for name, row in rows.items():
        check_row(name, row.frames, truth)

    truth_steps = steps(truth)
    summaries = {}
    for name, row in rows.items():
        progress(name)
        videos = score_videos(row.frames, truth, truth_steps, weights)
        summaries[name] = summarise(row.kind, row.note, videos)
    return jsonable(
        {
            "metrics_spec": metrics_spec(
                truth[0].shape[1:3], context_frames, list(map(len, truth)), ground_truth, weights
            ),
            "videos": [
                {"name": name, "context_frames": context, "predicted_frames": len(frames)}
                for name, context, frames in zip(names, context_frames, truth, strict=True)
            ],
            "model": model,
            "rows": summaries,
            "differences": {
                name: {metric: difference(summaries[model], other, metric) for metric in other["per_video"]}
                for name, other in summaries.items()
                if name != model
            },
        }
    )


def summarise(kind: str, note: str, videos: Sequence[VideoScore]) -> dict[str, Any]:
    """One row over all its videos: means, standard errors, values per video, and curves by index of the predicted frame."""
    reduction = {m: how for m, how in (REDUCTION | WITH_WEIGHTS).items() if m in videos[0].video}
    per_video = {metric: np.array([score.video[metric] for score in videos]) for metric in reduction}
    over_videos = {metric: _over_videos(values) for metric, values in per_video.items()}
    squared_errors = 10 ** (-np.concatenate([score.frames["psnr"] for score in videos]) / 10)
    pooled = {"psnr_pooled": -10 * np.log10(squared_errors.mean())}
    return {
        "kind": kind,
        "note": note,
        "mean": {metric: over_videos[metric]["mean"] for metric in reduction} | pooled,
        "standard_error": {metric: over_videos[metric]["standard_error"] for metric in reduction},
        "per_video": per_video,
        "per_frame": {m: _curve([score.frames[m] for score in videos], how) for m, how in reduction.items()},
    }


def difference(first: Mapping[str, Any], second: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """First minus second row (see `summarise`), paired by video: mean, standard error and number of videos."""
    values = (np.asarray(row["per_video"][metric], np.float64) for row in (first, second))
    return _over_videos(np.subtract(*values))


def write_metrics(path: Path | str, metrics: Mapping[str, Any]) -> None:
    """Write what ``score_rows`` returned as strict JSON, in one step."""
    write_bytes(path, (json.dumps(metrics, indent=1, allow_nan=False) + "\n").encode())


def check_row(name: str, frames: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> None:
    """Raise ScoreError unless a row has one finite prediction of the right shape for every video."""
    if len(frames) != len(truth):
        raise ScoreError(f"row {name!r} has {len(frames)} videos, the truth {len(truth)}")
    for video, (prediction, target) in enumerate(zip(frames, truth, strict=True)):
        where = f"row {name!r}, video {video}"
        if prediction.shape != target.shape or prediction.ndim != 4 or len(prediction) == 0:
            raise ScoreError(
                f"{where}: shape {prediction.shape}, truth {target.shape}: expected equal shapes (t, H, W, 3), t > 0"
            )
        if prediction.dtype != np.uint8 and not np.all(np.isfinite(prediction)):
            frame = int(np.argmin(np.isfinite(prediction).all(axis=(1, 2, 3))))
            raise ScoreError(f"{where}: predicted frame {frame} holds values that are not finite")


def metrics_spec(
    size: tuple[int, int],
    context_frames: Sequence[int],
    predicted_frames: Sequence[int],
    ground_truth: str = "raw",
    weights: Lpips | None = None,
) -> dict[str, Any]:
    """How the numbers were computed: it travels with them. ``size`` of a frame is (H, W); the others are per video."""
    return convention(size, ground_truth, weights) | {
        "context_frames": _range(context_frames),
        "predicted_frames": _range(predicted_frames),
        "videos": len(predicted_frames),
    }


def convention(
    size: tuple[int, int], ground_truth: str = "raw", weights: Lpips | None = None
) -> dict[str, Any]:
    """The part of `metrics_spec` that does not depend on the videos."""
    factor = decimation(*size)
    lpips = {"status": "absent: no weights"}
    if weights is not None:
        lpips = {"net": weights.net, "version": LPIPS_VERSION, "range": "[-1,1]"}
        lpips["weights_sha256"] = weights.fingerprint
    return {
        "frames": "rgb, [0,1], clipped, float32",
        "gt": ground_truth,
        "context": "excluded",
        "psnr": {"data_range": 1.0, "reduce": "frame>video", "cap_db": PSNR_CAP_DB},
        "psnr_pooled": {"data_range": 1.0, "reduce": "squared error over all frames of all videos"},
        "ssim": {
            "window": f"gaussian {SSIM_WINDOW}, sigma {SSIM_SIGMA}",
            "k": list(SSIM_K),
            "region": "valid",
            "channels": "rgb mean",
        },
        "psnr_coarse": {"blur_sigma": factor / 2, "decimation": factor},
        "histogram_intersection": {"bins": [HISTOGRAM_BINS] * 3},
        "retrieval_error": {
            "unit": "frames",
            "among": "the video's true predicted frames",
            "by": "squared error",
        },
        "yaw_error": {"unit": "px per step", "search": "3/8 of the width each way"},
        "sharpness": {"of": "laplacian energy, predicted / true"},
        "motion": {"of": "mean |frame difference|, predicted / true"},
        "lpips": lpips,
        "reduce_frames": REDUCTION if weights is None else REDUCTION | WITH_WEIGHTS,
        "reduce_videos": "mean; standard error over videos; differences paired by video",
        "reduce_per_frame": "over the videos that are long enough: mean, median where frames are reduced by it or by ratio",
    }


def jsonable(value: Any) -> Any:
    """The same value as strict JSON holds it: lists, dicts and Python numbers; NaN and infinities become null."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _model_row(rows: Mapping[str, Row], model: str | None) -> str:
    models = [name for name, row in rows.items() if row.kind == "model"] if model is None else [model]
    if not models or models[0] not in rows:
        wanted = "of kind model" if model is None else repr(model)
        raise ScoreError(f"no row {wanted} among {', '.join(rows) or 'no rows'}")
    return models[0]


def _over_videos(values: np.ndarray) -> dict[str, Any]:
    """Mean over the videos where the value is defined, and the standard error of that mean (none for a single video)."""
    values = values[np.isfinite(values)]
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    return {"mean": reduce(values, "mean"), "standard_error": error, "videos": len(values)}


def _curve(videos: Sequence[np.ndarray], how: str) -> dict[str, list]:
    """A metric by index of the predicted frame, over the videos that are long enough and where it is defined."""
    padded = np.full((len(videos), max(map(len, videos))), np.nan)
    for row, values in zip(padded, videos, strict=True):
        row[: len(values)] = values
    over_videos = [_over_videos(column) for column in padded.T]
    return {
        "value": [reduce(column, how) for column in padded.T],
        "standard_error": [column["standard_error"] if how == "mean" else None for column in over_videos],
        "count": [column["videos"] for column in over_videos],
    }


def _range(values: Sequence[int]) -> int | list[int]:
    low, high = int(min(values)), int(max(values))
    return low if low == high else [low, high]
