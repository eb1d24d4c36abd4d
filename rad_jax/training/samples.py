"""A look at a model while it trains: training clips, true and predicted, side by side."""

import numpy as np
from jaxtyping import UInt8

from rad_jax import media
from rad_jax.axes import PyTree
from rad_jax.data import DamagedRecord
from rad_jax.rollout.predict import Clip, predict, read_clip
from rad_jax.runs.training_run import TrainingRun

VIDEOS = 4
CONTEXT = 0.6  # share of a clip that is given


def sample_frames(run: TrainingRun, params: PyTree) -> UInt8[np.ndarray, "t H W 3"]:
    """Truth above prediction for the first clips of the training data, side by side.

    Episodes that are shorter than a clip, or damaged where `data.max_damaged` allows some, have none.

    ``run.tokenizer`` decodes the predictions; it may be a fast preview of the run's own (`open_preview`).
    """
    length = run.config.data.clip
    context = max(1, int(CONTEXT * length))
    clips: list[Clip] = []
    remaining = np.flatnonzero(run.episodes.lengths >= length).tolist()
    while remaining and len(clips) < VIDEOS:
        try:
            clip = read_clip(
                run.episodes, remaining.pop(0), run.config, run.tokenizer, context, length, run.odometry
            )
            clips.append(clip)
        except DamagedRecord:
            if not run.config.data.max_damaged or not (clips or remaining):
                raise
    predictions = predict(run, params, clips, len(clips))
    columns = []
    for clip, prediction in zip(clips, predictions, strict=True):
        predicted = np.concatenate([clip.frames[: clip.context], media.to_uint8(prediction)])
        columns.append(np.concatenate([clip.frames, predicted], axis=1))
    return np.concatenate(columns, axis=2)
