"""Scores of made-up rows, through the functions that score an evaluation; and an evaluation that costs no time."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pytest

from rad_jax.evaluation import evaluate, scores, stored
from rad_jax.evaluation.scores import convention, metrics_spec, score_clips
from rad_jax.metrics.lpips import Lpips
from rad_jax.reports.statistics import Scores, summarise
from rad_jax.rollout import predict
from rad_jax.rollout.predict import Clip


class Predicted(NamedTuple):
    """A row of the table and what it predicts for every video."""

    kind: str
    frames: Sequence[np.ndarray]
    note: str = ""


def scores_of(
    rows: Mapping[str, Predicted],
    truth: Sequence[np.ndarray],
    contexts: Sequence[int],
    weights: Lpips | None = None,
) -> Scores:
    """Scores rows on clips whose contexts are black and whose names are their indices."""

    def predictions():
        for index, (video, context) in enumerate(zip(truth, contexts, strict=True)):
            frames = np.concatenate([np.zeros((context, *video.shape[1:]), video.dtype), video])
            clip = Clip(str(index), frames, np.zeros((len(frames), 1), np.float32), context)
            yield index, clip, {name: row.frames[index] for name, row in rows.items()}

    clips = score_clips(predictions(), weights)
    summaries = {
        name: summarise(row.kind, row.note, [clip.scores[name] for clip in clips])
        for name, row in rows.items()
    }
    videos = [clip.video for clip in clips]
    spec = metrics_spec(convention(truth[0].shape[1:3], "raw", weights), videos)
    return Scores("return", spec, videos, summaries, {})


def predict_truth(patch: pytest.MonkeyPatch) -> None:
    """Predictions are the truth, curves are not drawn and operations not counted: no model is traced."""

    def predict_each(run, params, read, spans, *_):
        for index, span in enumerate(spans):
            clip = read(index)
            truth = clip.frames[span.context :] / np.float32(255)
            yield predict.Predicted(index, clip, truth, truth)

    patch.setattr(predict, "predict_each", predict_each)
    patch.setattr(scores, "predict_each", predict_each)
    patch.setattr(evaluate, "curves", lambda scores: b"a drawing")
    patch.setattr(stored, "frame_flops", lambda *_: 1)
