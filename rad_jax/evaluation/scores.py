"""From predicted videos to scores: what is compared with what, and the convention under which that is done.

Only predicted frames are scored, clipped to [0, 1], against the raw true frames (or, where a data set has latents alone,
against the frames its tokenizer decodes from them: the record says which). A metric is reduced over the frames of a video,
then averaged over videos (`rad_jax.reports.statistics`); standard errors are over videos, and differences between two rows are
paired by video. Beside the model stand trivial predictors (floors) and bounds (ceilings, oracles), because a PSNR without them
means nothing: one constant frame scores 18 dB in a maze.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from rad_jax.axes import Float, Int
from rad_jax.config import Config
from rad_jax.data import Episodes
from rad_jax.data.condition import has_pose
from rad_jax.errors import UserError
from rad_jax.media import to_uint8
from rad_jax.metrics.forgetting import HISTOGRAM_BINS, decimation
from rad_jax.metrics.image import PSNR_CAP_DB, SSIM_K, SSIM_SIGMA, SSIM_WINDOW
from rad_jax.metrics.lpips import VERSION as LPIPS_VERSION
from rad_jax.metrics.lpips import Lpips
from rad_jax.metrics.video import REDUCTION, Video, VideoScore, score_video, steps
from rad_jax.rollout.predict import Clip, Predicted, Span, predict_each, read_clip, span_of
from rad_jax.runs.restore import TrainedModel

# Index, clip, and by row the predicted frames, uint8 or floats that are clipped to [0, 1]. Whatever makes and takes them keeps
# no reference to a clip while the next one is made: it uses `map`, not loop variables.
Prediction = tuple[int, Clip, Mapping[str, Video]]
# By index of a clip the `rad_jax.metrics.video.steps` of its true frames.
TrueSteps = dict[int, Mapping[str, np.ndarray]]


class ScoreError(UserError, ValueError):
    """A prediction that cannot be scored against the truth."""


# What stands behind the name of a model, in the rows that it fills beside its own.
EMPTIED = "memory emptied"
LOOKED_UP = "nearest earlier view by its tokens"


class Predictor(NamedTuple):
    """What stands behind a row of the tables.

    Attributes:
        kind: "model", "emptied" (a model that lost its memory), "floor", "ceiling" (the tokenizer) or "oracle" (perfect map).
        note: a few words that the report shows below the name.
    """

    kind: str
    note: str = ""


def clip_count(episodes: Episodes, config: Config) -> int:
    """How many episodes of a set are evaluated: the first `evaluate.videos`, or all."""
    return min(config.evaluate.videos or len(episodes), len(episodes))


def spans_of(episodes: Episodes, config: Config) -> list[Span]:
    """The lengths of the episodes that are evaluated, without reading their frames.

    Raises:
      DataError: the set was not made for evaluation.
    """
    return [span_of(episodes, index) for index in range(clip_count(episodes, config))]


def model_predictions(trained: TrainedModel, padded: Span, episodes: Episodes) -> Iterator[Prediction]:
    """What a model predicts for every clip of a set, in the rows of `model_rows`; ``padded``: see `predict_each`."""
    config, tokenizer = trained.config, trained.tokenizer
    read = partial(read_clip, episodes, config=config, tokenizer=tokenizer, odometry=trained.odometry)
    names = list(model_rows(config, trained.step, episodes))

    def named(predicted: Predicted) -> Prediction:
        index, clip, frames, forgotten = predicted
        rows = {config.name: frames, EMPTIED: forgotten}
        if LOOKED_UP in names:
            wanted = np.asarray(tokenizer.encode(frames))
            given = np.asarray(clip.encoded(tokenizer))[: clip.context]
            found = nearest(wanted.reshape(len(wanted), -1), given.reshape(len(given), -1))
            rows[LOOKED_UP] = clip.frames[found]
        return index, clip, {name: rows[name] for name in names}

    spans, batch = spans_of(episodes, config), config.evaluate.batch
    emptied = EMPTIED in names
    return map(named, predict_each(trained, trained.params, read, spans, batch, padded, emptied))


def model_rows(config: Config, step: int, episodes: Episodes) -> dict[str, Predictor]:
    """The rows that a model fills: its own; with the memory emptied, if it has one; and a look-up, where no pose is known."""
    rows = {config.name: Predictor("model", f"{step:,} steps")}
    if config.memory.kind != "none":
        rows[EMPTIED] = Predictor(
            "emptied", "the same weights, the memory emptied before the first prediction"
        )
    if not has_pose(episodes.spec):
        rows[LOOKED_UP] = Predictor("floor", "the context frame whose tokens are nearest to those predicted")
    return rows


def nearest(wanted: Float[np.ndarray, "q f"], given: Float[np.ndarray, "keys f"]) -> Int[np.ndarray, " q"]:
    """The index of the given vector that is nearest to each wanted one; of equally near ones the last."""
    distances = np.square(wanted[:, None] - given[None]).sum(axis=-1)
    return len(given) - 1 - distances[:, ::-1].argmin(axis=1)


class ScoredClip(NamedTuple):
    """What remains of a clip once it is scored.

    Attributes:
        index: of the clip among those that are evaluated.
        video: its "name", and how many "context_frames" and "predicted_frames" it has.
        scores: by name of the row.
        shown: name of the row -> the predicted frames, uint8; empty for clips that are not shown.
    """

    index: int
    video: Mapping[str, Any]
    scores: Mapping[str, VideoScore]
    shown: Mapping[str, Video]


def score_clips(
    predictions: Iterable[Prediction],
    weights: Lpips | None,
    shown: int = 0,
    true_steps: TrueSteps | None = None,
) -> list[ScoredClip]:
    """Scores clips one by one as they are predicted, so that the memory this takes does not grow with their number.

    Args:
        predictions: in any order.
        weights: of LPIPS; without them it is absent.
        shown: of how many clips, the first ones, to keep the predicted frames.
        true_steps: of these clips. What is missing is added, so that it is computed once for several predictors.

    Returns:
        The scored clips in the order of their indices.

    Raises:
        ScoreError: a prediction has another shape than the truth or is not finite; names row, video and frame.
    """
    score = partial(_score_clip, weights, shown, {} if true_steps is None else true_steps)
    return sorted(map(score, predictions), key=lambda clip: clip.index)


def _score_clip(
    weights: Lpips | None, shown: int, true_steps: TrueSteps, prediction: Prediction
) -> ScoredClip:
    index, clip, rows = prediction
    truth = clip.frames[clip.context :]
    if index not in true_steps:
        true_steps[index] = steps(truth)
    scores = {}
    for name, frames in rows.items():
        where = f"row {name!r}, video {clip.name!r}"
        if frames.shape != truth.shape:
            raise ScoreError(f"{where}: shape {frames.shape}, expected that of the truth, {truth.shape}")
        if frames.dtype != np.uint8 and not np.all(np.isfinite(frames)):
            frame = int(np.argmin(np.isfinite(frames).all(axis=(1, 2, 3))))
            raise ScoreError(f"{where}: predicted frame {frame} holds values that are not finite")
        scores[name] = score_video(frames, truth, true_steps[index], weights)
    video = {"name": clip.name, "context_frames": clip.context, "predicted_frames": len(truth)}
    kept = {name: to_uint8(frames) for name, frames in rows.items()} if index < shown else {}
    return ScoredClip(index, video, scores, kept)


def metrics_spec(convention: Mapping[str, Any], videos: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How the numbers were computed, which is stored with them: the `convention`, and the lengths of the videos."""
    ranges = {}
    for name in ("context_frames", "predicted_frames"):
        lengths = [int(video[name]) for video in videos]
        low, high = min(lengths), max(lengths)
        ranges[name] = low if low == high else [low, high]
    return {**convention, **ranges, "videos": len(videos)}


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
        "reduce_frames": {name: how for name, how in REDUCTION.items() if weights or name != "lpips"},
        "reduce_videos": "mean; standard error over videos; differences paired by video",
        "reduce_per_frame": "over the videos that are long enough: mean, median where frames are reduced by it or by ratio",
    }
