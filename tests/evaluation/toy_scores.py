"""Metrics of made-up rows, through the functions that score an evaluation."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rad_jax.evaluation.scores import (
    Row,
    ScoredClip,
    convention,
    make_metrics,
    metrics_spec,
    score_clips,
    summarise,
)
from rad_jax.metrics.lpips import Lpips
from rad_jax.rollout.predict import Clip


class Predicted(NamedTuple):
    """A row of the table and what it predicts for every video."""

    kind: str
    frames: Sequence[np.ndarray]
    note: str = ""


def score(
    rows: Mapping[str, Predicted],
    truth: Sequence[np.ndarray],
    contexts: Sequence[int],
    weights: Lpips | None = None,
) -> list[ScoredClip]:
    """Scores rows on clips whose contexts are black and whose names are their indices."""

    def predictions():
        for index, (video, context) in enumerate(zip(truth, contexts, strict=True)):
            frames = np.concatenate([np.zeros((context, *video.shape[1:]), video.dtype), video])
            clip = Clip(str(index), frames, np.zeros((len(frames), 1), np.float32), context)
            yield index, clip, {name: row.frames[index] for name, row in rows.items()}

    return score_clips(predictions(), weights)


def metrics_of(
    rows: Mapping[str, Predicted],
    truth: Sequence[np.ndarray],
    contexts: Sequence[int],
    weights: Lpips | None = None,
) -> dict[str, Any]:
    """The content of metrics.json; the first row is the model."""
    clips = score(rows, truth, contexts, weights)
    summaries = {}
    for name, row in rows.items():
        about = Row(row.kind, row.note)
        summaries[name] = summarise(about.kind, about.note, [clip.scores[name] for clip in clips])
    spec = metrics_spec(
        convention(truth[0].shape[1:3], "raw", weights), contexts, [len(video) for video in truth]
    )
    videos = [
        {"name": c.name, "context_frames": c.context_frames, "predicted_frames": c.predicted_frames}
        for c in clips
    ]
    return make_metrics(next(iter(rows)), summaries, videos, spec)
