"""All metrics of a whole video: per predicted frame, and one number per video.

Frames are scored in blocks of a fixed size, so the metrics compile once whatever the lengths of the videos.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Num

from rad_jax.axes import Array, Float
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

Video = Num[np.ndarray, "t H W 3"]
Block = Float[Array | np.ndarray, "t H W 3"]
Steps = dict[str, Num[np.ndarray, " t"]]

BLOCK = 32  # frames per call of a compiled function
FLAT = 1e-7  # below this Laplacian energy of a true frame, or change of a true step, there is nothing to divide by

# Every metric in the order of all files, and how its values per frame are reduced to one number per video.
REDUCTION = {
    "psnr": "mean",
    "ssim": "mean",
    "psnr_coarse": "mean",
    "histogram_intersection": "mean",
    "retrieval_error": "median",
    "yaw_error": "mean",
    "sharpness": "median",
    "motion": "ratio of means",
    "lpips": "mean",  # absent from scores that were computed without its weights
}


@dataclass(frozen=True)
class VideoScore:
    """Scores of one video.

    Attributes:
        frames: metric -> (t,) float64, NaN where it is undefined. Yaw error and motion compare a frame with the one before
            it, so they are undefined at the first frame; sharpness is undefined where the truth is flat, motion where the
            truth stands still.
        video: metric -> one number, NaN where it is undefined.
    """

    frames: dict[str, Float[np.ndarray, " t"]]
    video: dict[str, float]


def unit_range(frames: Num[np.ndarray, "*b H W 3"]) -> Float[np.ndarray, "*b H W 3"]:
    """Converts uint8 to float32 in [0, 1]; clips floats to that range."""
    if frames.dtype == np.uint8:
        return frames.astype(np.float32) / 255
    return np.clip(frames, 0, 1).astype(np.float32)


def score_video(
    prediction: Video, truth: Video, truth_steps: Steps | None = None, weights: Lpips | None = None
) -> VideoScore:
    """Scores one video of uint8 frames, or of floats that are clipped to [0, 1].

    Args:
      truth: of the same shape.
      truth_steps: ``steps(truth)``, for callers that score several predictions of one video.
      weights: of LPIPS, which is left out of the scores without them.
    """
    metrics = _over_blocks(_compare, prediction, truth)
    if weights is not None:
        metrics |= _over_blocks(lambda p, t: {"lpips": lpips(p, t, weights)}, prediction, truth)
    predicted_steps, truth_steps = steps(prediction), truth_steps or steps(truth)
    change, truth_change = (one["change"].astype(np.float64) for one in (predicted_steps, truth_steps))
    moved, undefined = truth_change > FLAT, np.full(len(truth), np.nan)
    nearest = nearest_frame(unit_range(prediction), unit_range(truth))
    metrics["retrieval_error"] = np.abs(nearest - np.arange(len(truth)))
    metrics["yaw_error"] = np.abs(predicted_steps["shift"] - truth_steps["shift"])
    metrics["motion"] = np.divide(change, truth_change, out=undefined, where=moved)
    reduction = {metric: how for metric, how in REDUCTION.items() if metric in metrics}
    frames = {metric: metrics[metric].astype(np.float64) for metric in reduction}
    frames["yaw_error"][0] = frames["motion"][0] = np.nan
    video = {metric: reduce(frames[metric], how) for metric, how in reduction.items()}
    video["motion"] = float(change.sum() / truth_change.sum()) if moved.any() else np.nan
    return VideoScore(frames, video)


def steps(video: Video) -> Steps:
    """Horizontal shift and change from the frame before to every frame; the first frame is compared with itself."""
    return _over_blocks(_step, np.concatenate([video[:1], video[:-1]]), video)


def reduce(values: Float[np.ndarray, " t"], how: str) -> float:
    """Mean if ``how`` is "mean", else median, of the values that are defined; NaN if none is."""
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return np.nan
    return float(values.mean() if how == "mean" else np.median(values))


@jax.jit
def _compare(prediction: Block, truth: Block) -> dict[str, Float[Array, " t"]]:
    energy = laplacian_energy(truth)
    return {
        "psnr": psnr(prediction, truth),
        "ssim": ssim(prediction, truth),
        "psnr_coarse": coarse_psnr(prediction, truth),
        "histogram_intersection": histogram_intersection(prediction, truth),
        "sharpness": jnp.where(energy > FLAT, laplacian_energy(prediction) / energy, jnp.nan),
    }


@jax.jit
def _step(before: Block, after: Block) -> dict[str, Num[Array, " t"]]:
    return {"shift": horizontal_shift(before, after), "change": frame_change(before, after)}


def _over_blocks(function: Callable, *videos: Video) -> dict[str, Float[np.ndarray, " t"]]:
    """Applies a compiled function of blocks of frames to all frames of videos of one length."""
    results = []
    for first in range(0, len(videos[0]), BLOCK):
        blocks = [unit_range(video[first : first + BLOCK]) for video in videos]
        missing = BLOCK - len(blocks[0])
        results.append(function(*(np.pad(block, [(0, missing)] + [(0, 0)] * 3) for block in blocks)))
    return jax.tree.map(lambda *values: np.concatenate(values)[: len(videos[0])], *results)
