"""What is scored on an evaluation set, predicted clip by clip: a model, and the floors, ceilings and oracle beside it."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from rad_jax.axes import Float
from rad_jax.config import Config
from rad_jax.data import Episodes
from rad_jax.evaluation.scores import Prediction
from rad_jax.metrics.video import Video, unit_range
from rad_jax.rollout.predict import Clip, Span, predict_each, read_clip, span_of
from rad_jax.runs.restore import TrainedModel
from rad_jax.tokenizer import Tokenizer

# Producers of predictions keep no reference to a clip while they make the next one: `map` instead of loop variables.


class Predictor(NamedTuple):
    """What stands behind a row of the tables.

    Attributes:
        kind: "model", "floor", "ceiling" (tokenizer round trip) or "oracle" (perfect map).
        note: a few words that the report shows below the name.
    """

    kind: str
    note: str = ""


# Those that need no model.
BOUNDS = {
    "repeat last": Predictor("floor"),
    "mean context": Predictor("floor"),
    "tokenizer round trip": Predictor("ceiling"),
    "perfect map": Predictor("oracle", "rendered from the nearest context position"),
}


def clip_count(episodes: Episodes, config: Config) -> int:
    """How many episodes of a set are evaluated: the first `evaluate.videos`, or all."""
    return min(config.evaluate.videos or len(episodes), len(episodes))


def spans_of(episodes: Episodes, config: Config) -> list[Span]:
    """The lengths of the episodes that are evaluated, without reading their frames.

    Raises:
      DataError: the set was not made for evaluation.
    """
    return [span_of(episodes, index) for index in range(clip_count(episodes, config))]


def model_predictions(trained: TrainedModel, episodes: Episodes, padded: Span) -> Iterator[Prediction]:
    """What a model predicts, in a row of its name, for every clip of a set; ``padded``: see `predict_each`."""
    config = trained.config
    read = partial(read_clip, episodes, config=config, tokenizer=trained.tokenizer)

    def named(predicted: tuple[int, Clip, Video]) -> Prediction:
        index, clip, frames = predicted
        return index, clip, {config.name: frames}

    spans, batch = spans_of(episodes, config), config.evaluate.batch
    return map(named, predict_each(trained, trained.params, read, spans, batch, padded))


def bound_predictions(tokenizer: Tokenizer, episodes: Episodes, config: Config) -> Iterator[Prediction]:
    """What `BOUNDS` predict for every clip of a set, as far as its data allow."""

    def predict(index: int) -> Prediction:
        clip = read_clip(episodes, index, config, tokenizer)
        context, truth = np.split(clip.frames, [clip.context])
        rows = floors(context, len(truth))
        if "frames" in episodes.spec.arrays:  # else the truth is itself decoded by the tokenizer
            latents = tokenizer.encode(truth.astype(np.float32) / 255)
            rows["tokenizer round trip"] = np.asarray(tokenizer.decode(latents))
        if "oracle" in episodes.spec.arrays:
            oracle = episodes.read(index, clip.context, len(clip.frames), ["oracle"])
            rows["perfect map"] = oracle["oracle"]
        return index, clip, rows

    return map(predict, range(clip_count(episodes, config)))


def floors(context: Video, frames: int) -> dict[str, Float[np.ndarray, "_ H W 3"]]:
    """Trivial predictions of ``frames`` frames from the context alone, float32 in [0, 1]."""
    context = unit_range(context)
    predictions = {"repeat last": context[-1], "mean context": context.mean(axis=0)}
    return {name: np.repeat(frame[None], frames, axis=0) for name, frame in predictions.items()}
