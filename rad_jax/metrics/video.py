"""All metrics of whole videos: per predicted frame, and one number per video.

Videos differ in length, compiled functions do not like that: frames of all videos are scored in blocks of one size that
ignore where videos end, so there is one compilation whatever the lengths.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.metrics.forgetting import (
    coarse_psnr,
    frame_change,
    histogram_intersection,
    horizontal_shift,
    laplacian_energy,
    nearest_frame,
)
from rad_jax.metrics.image import psnr, ssim
from rad_jax.metrics.lpips import Lpips, lpips

BLOCK = 32  # frames per call of a compiled function
FLAT = 1e-7  # a true frame of less Laplacian energy or a true step of less change: nothing to divide by

# Every metric that needs no weights, and how the frames of a video become one number.
REDUCTION = {
    "psnr": "mean",
    "ssim": "mean",
    "psnr_coarse": "mean",
    "histogram_intersection": "mean",
    "retrieval_error": "median",
    "yaw_error": "mean",
    "sharpness": "median",
    "motion": "ratio of means",
}
WITH_WEIGHTS = {"lpips": "mean"}  # absent from scores that were made without


@dataclass(frozen=True)
class VideoScore:
    """Scores of one video.

    Attributes:
        frames: metric -> (t,) float64, NaN where it is undefined. Yaw error and motion belong to the step that leads to a
            frame and so are undefined at the first; sharpness and motion are where the truth is flat or stands still.
        video: metric -> one number, NaN where it is undefined.
    """

    frames: dict[str, np.ndarray]
    video: dict[str, float]


def unit_range(frames: np.ndarray) -> np.ndarray:
    """Float32 in [0, 1] from uint8, or from floats by clipping."""
    if frames.dtype == np.uint8:
        return frames.astype(np.float32) / 255
    return np.clip(frames, 0, 1).astype(np.float32)


def score_videos(
    predictions: Sequence[np.ndarray],
    truth: Sequence[np.ndarray],
    truth_steps: Sequence[dict] | None = None,
    weights: Lpips | None = None,
) -> list[VideoScore]:
    """Score videos (t, H, W, 3), uint8 or floats that are clipped to [0, 1]; t may differ between videos.

    ``truth_steps`` is ``steps(truth)``, for callers that score several predictions of the same videos; ``weights`` those of
    LPIPS, which is absent from the scores without them.
    """
    compared = _over_blocks(_compare, predictions, truth)
    if weights is not None:
        distances = _over_blocks(partial(_distance, weights), predictions, truth)
        compared = [values | distance for values, distance in zip(compared, distances, strict=True)]
    truth_steps = steps(truth) if truth_steps is None else truth_steps
    videos = zip(predictions, truth, compared, steps(predictions), truth_steps, strict=True)
    return [_score(*video) for video in videos]


def steps(videos: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Per video the horizontal shift and the change from the frame before to every frame; at the first from itself."""
    before = [[video[0], *video[:-1]] for video in videos]
    return _over_blocks(_step, before, videos)


def reduce(values: np.ndarray, how: str) -> float:
    """Mean or median of the values that are defined; NaN if none is."""
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return np.nan
    return float(values.mean() if how == "mean" else np.median(values))


@jax.jit
def _compare(prediction, truth):
    energy = laplacian_energy(truth)
    return {
        "psnr": psnr(prediction, truth),
        "ssim": ssim(prediction, truth),
        "psnr_coarse": coarse_psnr(prediction, truth),
        "histogram_intersection": histogram_intersection(prediction, truth),
        "sharpness": jnp.where(energy > FLAT, laplacian_energy(prediction) / energy, jnp.nan),
    }


def _distance(weights, prediction, truth):
    return {"lpips": lpips(prediction, truth, weights)}


@jax.jit
def _step(before, after):
    return {"shift": horizontal_shift(before, after), "change": frame_change(before, after)}


def _score(prediction, truth, compared, steps, truth_steps) -> VideoScore:
    change, truth_change = steps["change"].astype(np.float64), truth_steps["change"].astype(np.float64)
    moved = truth_change > FLAT
    frames = dict(compared)
    nearest = nearest_frame(unit_range(prediction), unit_range(truth))
    frames["retrieval_error"] = np.abs(nearest - np.arange(len(truth)))
    frames["yaw_error"] = np.abs(steps["shift"] - truth_steps["shift"]).astype(np.float64)
    frames["motion"] = np.divide(change, truth_change, out=np.full(len(truth), np.nan), where=moved)
    frames["yaw_error"][0] = frames["motion"][0] = np.nan
    reduction = {metric: how for metric, how in (REDUCTION | WITH_WEIGHTS).items() if metric in frames}
    frames = {metric: frames[metric].astype(np.float64) for metric in reduction}
    video = {metric: reduce(frames[metric], how) for metric, how in reduction.items()}
    video["motion"] = float(change.sum() / truth_change.sum()) if moved.any() else np.nan
    return VideoScore(frames, video)


def _over_blocks(function: Callable, *arguments: Sequence) -> list[dict[str, np.ndarray]]:
    """Apply a compiled function of blocks of frames to all frames of all videos. Returns per video name -> (t,)."""
    lengths = [len(video) for video in arguments[0]]
    streams = [[frame for video in videos for frame in video] for videos in arguments]
    results = []
    for first in range(0, sum(lengths), BLOCK):
        blocks = [unit_range(np.stack(frames[first : first + BLOCK])) for frames in streams]
        missing = BLOCK - len(blocks[0])
        results.append(function(*(np.pad(block, [(0, missing)] + [(0, 0)] * 3) for block in blocks)))
    joined = jax.tree.map(lambda *values: np.concatenate(values)[: sum(lengths)], *results)
    split = {name: np.split(values, np.cumsum(lengths)[:-1]) for name, values in joined.items()}
    return [{name: parts[video] for name, parts in split.items()} for video in range(len(lengths))]
