"""What is scored on an evaluation set, predicted clip by clip: a model, and the floors, ceilings and oracle beside it."""

from collections.abc import Iterator

import numpy as np

from rad_jax.config import Config
from rad_jax.data import Episodes
from rad_jax.evaluation.scores import Row, floors
from rad_jax.metrics.video import Video
from rad_jax.rollout.predict import Clip, Span, predict_each, read_clip, span_of
from rad_jax.runs.restore import TrainedModel
from rad_jax.tokenizer import Tokenizer

# Index, clip, and by row the predicted frames. Its producers keep no reference to a clip while they make the next one:
# `map` or helper functions instead of loop variables.
Predictions = Iterator[tuple[int, Clip, dict[str, Video]]]


def clip_count(episodes: Episodes, config: Config) -> int:
    """How many episodes of a set are evaluated: the first `evaluate.videos`, or all."""
    return min(config.evaluate.videos or len(episodes), len(episodes))


def spans_of(episodes: Episodes, config: Config) -> list[Span]:
    """The lengths of the episodes that are evaluated, without reading their frames.

    Raises:
      DataError: the set was not made for evaluation.
    """
    return [span_of(episodes, index) for index in range(clip_count(episodes, config))]


def model_row(trained: TrainedModel) -> dict[str, Row]:
    """The row of a model, under the name of its run."""
    return {trained.config.name: Row("model", f"{trained.step:,} steps")}


def model_predictions(trained: TrainedModel, episodes: Episodes, padded: Span) -> Predictions:
    """What a model predicts for every clip of a set; ``padded``: see `predict_each`."""
    config, model, params, tokenizer = trained.config, trained.model, trained.params, trained.tokenizer

    def read(index: int) -> Clip:
        return read_clip(episodes, index, config, tokenizer)

    def named(predicted: tuple[int, Clip, Video]) -> tuple[int, Clip, dict[str, Video]]:
        index, clip, frames = predicted
        return index, clip, {config.name: frames}

    spans, batch = spans_of(episodes, config), config.evaluate.batch
    predictions = predict_each(model, params, tokenizer, config, read, spans, batch, padded)
    return map(named, predictions)


def bound_rows(episodes: Episodes) -> dict[str, Row]:
    """The rows that need no model: floors, the tokenizer's round trip, and the oracle if the data have one."""
    rows = {"repeat last": Row("floor"), "mean context": Row("floor")}
    if "frames" in episodes.spec.arrays:  # else the truth is itself decoded by the tokenizer
        rows["tokenizer round trip"] = Row("ceiling")
    if "oracle" in episodes.spec.arrays:
        rows["perfect map"] = Row("oracle", "rendered from the nearest context position")
    return rows


def bound_predictions(tokenizer: Tokenizer, episodes: Episodes, config: Config) -> Predictions:
    """What the rows of `bound_rows` predict for every clip of a set."""

    def predict(index: int) -> tuple[int, Clip, dict[str, Video]]:
        clip = read_clip(episodes, index, config, tokenizer)
        context, truth = clip.frames[: clip.context], clip.frames[clip.context :]
        rows = floors(context, len(truth))
        if "frames" in episodes.spec.arrays:
            rows["tokenizer round trip"] = _round_trip(tokenizer, truth)
        if "oracle" in episodes.spec.arrays:
            oracle = episodes.read(index, clip.context, len(clip.frames), ["oracle"])
            rows["perfect map"] = oracle["oracle"]
        return index, clip, rows

    return map(predict, range(clip_count(episodes, config)))


def _round_trip(tokenizer: Tokenizer, frames: Video) -> Video:
    """Frames encoded and decoded again, not clipped."""
    return np.asarray(tokenizer.decode(tokenizer.encode(frames.astype(np.float32) / 255)))
