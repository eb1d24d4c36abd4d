"""A small evaluation whose names are hostile."""

import functools

import numpy as np

from rad_jax import media
from rad_jax.evaluation.scores import floors
from rad_jax.reports.episodes import EpisodeFrames
from tests.evaluation.toy_scores import Predicted, metrics_of

NASTY = """<script>alert('a & b')</script> "quoted" """


@functools.cache
def rooms(videos=3, context=5, predicted=7):
    """True videos of coloured blocks with a good and a bad prediction: their metrics, and the episodes to show."""
    rng = np.random.default_rng(0)
    blocks = rng.random((videos, context + predicted, 2, 2, 3), dtype=np.float32)
    whole = np.repeat(np.repeat(blocks, 8, axis=2), 8, axis=3)
    contexts, truth = [video[:context] for video in whole], [video[context:] for video in whole]
    good = [0.8 * t + 0.1 for t in truth]
    bad = [1 - t for t in truth]
    trivial = [floors(c, predicted) for c in contexts]
    rows = {
        "lstm-f": Predicted("model", good),
        NASTY: Predicted("baseline", bad, "no <b>memory</b>"),
        "repeat last": Predicted("floor", [t["repeat last"] for t in trivial]),
        "mean context": Predicted("floor", [t["mean context"] for t in trivial]),
        "tokenizer": Predicted("ceiling", [0.9 * t + 0.05 for t in truth]),
        "perfect map": Predicted("oracle", truth),
    }
    metrics = metrics_of(rows, truth, [context] * videos)
    episodes = [
        EpisodeFrames(f"room {i} {NASTY}", media.to_uint8(c), t, {"lstm-f": g, NASTY: b})
        for i, (c, t, g, b) in enumerate(zip(contexts, truth, good, bad, strict=True))
    ]
    return metrics, episodes


def lone_model():
    """A single frame of a single video: no standard error is defined, and metrics of motion are not either."""
    truth = np.full((1, 16, 16, 3), 0.5, np.float32)
    metrics = metrics_of(
        {"df": Predicted("model", [truth + 0.1]), "repeat last": Predicted("floor", [truth + 0.2])},
        [truth],
        [1],
    )
    return metrics, [EpisodeFrames("only", truth, truth, {"df": truth + 0.1})]
