"""What needs no trained model: trivial predictors (floors), the tokenizer's round trip (ceiling) and the perfect map (oracle).

A PSNR means nothing without them: one constant frame scores 18 dB in a maze, and where a data set has poses, looking up the
context frame that was seen from the nearest one beats many a trained memory.
"""

from collections.abc import Iterator

import numpy as np

from rad_jax.axes import Float
from rad_jax.config import Config
from rad_jax.data import Episodes
from rad_jax.data.condition import has_pose, pose_features
from rad_jax.evaluation.scores import Prediction, Predictor, clip_count, nearest
from rad_jax.metrics.video import Video, unit_range
from rad_jax.rollout.predict import read_clip
from rad_jax.tokenizer import Tokenizer

BOUNDS = {
    "repeat last": Predictor("floor"),
    "mean context": Predictor("floor"),
    "nearest earlier view": Predictor(
        "floor", "the context frame seen from the nearest true pose; needs the pose"
    ),
    "tokenizer round trip": Predictor("ceiling"),
    "perfect map": Predictor("oracle", "rendered from the nearest context position"),
}

# How much positions count beside the heading when poses are compared: a quarter of the world's extent (1 after `pose_scale`)
# as much as a turn by 60 degrees. On 5x5 mazes the look-up scores within 0.1 dB of its best from 2 to 5.
POSITION_WEIGHT = 4.0


def bound_predictions(tokenizer: Tokenizer, config: Config, episodes: Episodes) -> Iterator[Prediction]:
    """What `BOUNDS` predict for every clip of a set, as far as its data allow."""

    def predict(index: int) -> Prediction:
        clip = read_clip(episodes, index, config, tokenizer, conditioned=False)
        context, truth = np.split(clip.frames, [clip.context])
        rows = floors(context, len(truth))
        if has_pose(episodes.spec):
            pose = episodes.read(index, 0, len(clip.frames), ["pose"])["pose"]
            position, heading = pose_features(episodes.spec, pose)
            features = np.concatenate([POSITION_WEIGHT * position, heading], axis=-1)
            rows["nearest earlier view"] = context[
                nearest(features[clip.context :], features[: clip.context])
            ]
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
