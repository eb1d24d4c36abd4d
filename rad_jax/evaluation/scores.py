"""From predicted videos to numbers: what is compared with what, and how it is averaged.

Only predicted frames are scored, clipped to [0, 1], against the raw true frames (or, where a data set has latents alone,
against the frames its tokenizer decodes from them: the record says which). A metric is reduced over the frames of a video,
then averaged over videos; standard errors are over videos, and differences between two rows are paired by video. Beside the
model stand trivial predictors (floors) and bounds (ceilings, oracles), because a PSNR without them means nothing: one
constant frame scores 18 dB in a maze.

All statistics are strict JSON values; what is undefined, such as the standard error over a single video, is None.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from rad_jax.axes import Float
from rad_jax.errors import UserError
from rad_jax.media import to_uint8
from rad_jax.metrics.forgetting import HISTOGRAM_BINS, decimation
from rad_jax.metrics.image import PSNR_CAP_DB, SSIM_K, SSIM_SIGMA, SSIM_WINDOW
from rad_jax.metrics.lpips import VERSION as LPIPS_VERSION
from rad_jax.metrics.lpips import Lpips
from rad_jax.metrics.video import (
    REDUCTION,
    WITH_WEIGHTS,
    Video,
    VideoScore,
    reduce,
    score_video,
    steps,
    unit_range,
)
from rad_jax.rollout.predict import Clip

KINDS = ("model", "baseline", "floor", "ceiling", "oracle")


class ScoreError(UserError, ValueError):
    """A prediction that cannot be scored against the truth."""


@dataclass(frozen=True)
class Row:
    """One line of the table: a predictor.

    Attributes:
        kind: "model", "baseline" (the no-memory twin), "floor", "ceiling" (tokenizer round trip) or "oracle" (perfect map).
        note: a few words that the report shows below the name.
    """

    kind: str
    note: str = ""

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ScoreError(f"row kind {self.kind!r}: expected one of {', '.join(KINDS)}")


@dataclass(frozen=True)
class ScoredClip:
    """What remains of a clip once it is scored.

    Attributes:
        index: of the clip among those that are evaluated.
        name: of its episode.
        context_frames, predicted_frames: how many there are.
        scores: by name of the row.
        shown: name of the row -> the predicted frames, uint8; empty for clips that are not shown.
    """

    index: int
    name: str
    context_frames: int
    predicted_frames: int
    scores: Mapping[str, VideoScore]
    shown: Mapping[str, Video]


def floors(context: Video, frames: int) -> dict[str, Float[np.ndarray, "_ H W 3"]]:
    """Trivial predictions of ``frames`` frames from the context alone, float32 in [0, 1]."""
    context = unit_range(context)
    predictions = {"repeat last": context[-1], "mean context": context.mean(axis=0)}
    return {name: np.repeat(frame[None], frames, axis=0) for name, frame in predictions.items()}


def score_clips(
    predictions: Iterable[tuple[int, Clip, Mapping[str, Video]]], weights: Lpips | None, shown: int = 0
) -> list[ScoredClip]:
    """Scores clips one by one as they are predicted, so that the memory this takes does not grow with their number.

    Args:
        predictions: index, clip, and by row the predicted frames, uint8 or floats that are clipped to [0, 1]; in any order.
        weights: of LPIPS; without them it is absent.
        shown: of how many clips, the first ones, to keep the predicted frames.

    Returns:
        The scored clips in the order of their indices.

    Raises:
        ScoreError: a prediction has another shape than the truth or is not finite; names row, video and frame.
    """
    # `map` keeps no reference to a clip while the next one is being predicted; a loop variable would.
    scored = list(map(partial(_score_clip, weights=weights, shown=shown), predictions))
    return sorted(scored, key=lambda clip: clip.index)


def _score_clip(
    prediction: tuple[int, Clip, Mapping[str, Video]], weights: Lpips | None, shown: int
) -> ScoredClip:
    index, clip, rows = prediction
    truth = clip.frames[clip.context :]
    truth_steps = steps(truth)
    scores = {}
    for name, frames in rows.items():
        _check(f"row {name!r}, video {clip.name!r}", frames, truth)
        scores[name] = score_video(frames, truth, truth_steps, weights)
    kept = {name: to_uint8(frames) for name, frames in rows.items()} if index < shown else {}
    return ScoredClip(index, clip.name, clip.context, len(truth), scores, kept)


def _check(where: str, frames: np.ndarray, truth: np.ndarray) -> None:
    """Raises `ScoreError` unless a prediction is finite and has the shape of the truth."""
    if frames.shape != truth.shape:
        raise ScoreError(f"{where}: shape {frames.shape}, expected that of the truth, {truth.shape}")
    if frames.dtype != np.uint8 and not np.all(np.isfinite(frames)):
        frame = int(np.argmin(np.isfinite(frames).all(axis=(1, 2, 3))))
        raise ScoreError(f"{where}: predicted frame {frame} holds values that are not finite")


def make_metrics(
    model: str,
    rows: Mapping[str, Mapping[str, Any]],
    videos: Sequence[Mapping[str, Any]],
    spec: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of ``metrics.json``.

    Args:
        model: the row that all others are compared with.
        rows: by name what `summarise` gives, in the order of the table.
        videos: of each "name", "context_frames" and "predicted_frames".
        spec: see `metrics_spec`.

    Returns:
        ``metrics_spec``; ``videos``; ``model``; ``rows``; and ``differences``, the model minus every other row, paired by
        video.
    """
    return {
        "metrics_spec": spec,
        "videos": videos,
        "model": model,
        "rows": rows,
        "differences": {
            name: {metric: difference(rows[model], other, metric) for metric in other["per_video"]}
            for name, other in rows.items()
            if name != model
        },
    }


def summarise(kind: str, note: str, videos: Sequence[VideoScore]) -> dict[str, Any]:
    """Statistics of a row over its videos.

    Returns:
        ``kind``, ``note``, ``mean``, ``standard_error``, ``per_video``, and ``per_frame``: value, standard error and count by
        index of the predicted frame.
    """
    reduction = {m: how for m, how in (REDUCTION | WITH_WEIGHTS).items() if m in videos[0].video}
    per_video = {metric: np.array([score.video[metric] for score in videos]) for metric in reduction}
    over_videos = {metric: _over_videos(values) for metric, values in per_video.items()}
    squared_errors = 10 ** (-np.concatenate([score.frames["psnr"] for score in videos]) / 10)
    pooled = {"psnr_pooled": -10 * np.log10(squared_errors.mean())}
    return jsonable(
        {
            "kind": kind,
            "note": note,
            "mean": {metric: over_videos[metric]["mean"] for metric in reduction} | pooled,
            "standard_error": {metric: over_videos[metric]["standard_error"] for metric in reduction},
            "per_video": per_video,
            "per_frame": {
                m: _curve([score.frames[m] for score in videos], how) for m, how in reduction.items()
            },
        }
    )


def difference(first: Mapping[str, Any], second: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """First minus second row (see `summarise`), paired by video: mean, standard error and number of videos."""
    values = (np.asarray(row["per_video"][metric], np.float64) for row in (first, second))
    return jsonable(_over_videos(np.subtract(*values)))


def metrics_spec(
    convention: Mapping[str, Any], context_frames: Sequence[int], predicted_frames: Sequence[int]
) -> dict[str, Any]:
    """How the numbers were computed, which is stored with them: the `convention`, and the frames of every video."""
    return convention | {
        "context_frames": _range(context_frames),
        "predicted_frames": _range(predicted_frames),
        "videos": len(predicted_frames),
    }


def convention(size: tuple[int, int], ground_truth: str, weights: Lpips | None) -> dict[str, Any]:
    """How numbers are computed, whatever the videos.

    Args:
        size: height and width of a frame.
        ground_truth: what the true frames are, in a word ("raw").
        weights: of LPIPS; without them it is absent.
    """
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
    """Converts to what strict JSON can hold: lists, dicts and Python numbers; NaN and infinities become None."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _over_videos(values: Float[np.ndarray, " v"]) -> dict[str, Any]:
    """Mean over the videos where the value is defined, and the standard error of that mean (NaN for a single video)."""
    values = values[np.isfinite(values)]
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    return {"mean": reduce(values, "mean"), "standard_error": error, "videos": len(values)}


def _curve(videos: Sequence[Float[np.ndarray, "_"]], how: str) -> dict[str, list]:
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
