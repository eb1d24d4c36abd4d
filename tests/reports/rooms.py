"""A small evaluation whose names are hostile."""

import functools

import numpy as np

from rad_jax.evaluation.bounds import floors
from rad_jax.media import to_uint8
from rad_jax.reports.episodes import EpisodeFrames
from tests.evaluation.toy_scores import Predicted, scores_of

NASTY = """<script>alert('a & b')</script> "quoted" """


@functools.cache
def rooms(videos=3, context=5, predicted=7):
    """True videos of coloured blocks with a good and a bad prediction: their scores, and the episodes to show."""
    rng = np.random.default_rng(0)
    blocks = rng.random((videos, context + predicted, 2, 2, 3), dtype=np.float32)
    whole = to_uint8(np.repeat(np.repeat(blocks, 8, axis=2), 8, axis=3))
    truth = [video[context:] / np.float32(255) for video in whole]
    good, bad = [0.8 * t + 0.1 for t in truth], [1 - t for t in truth]
    trivial = [floors(video[:context], predicted) for video in whole]
    rows = {
        "lstm-f": Predicted("model", good),
        "lstm-f, memory emptied": Predicted("emptied", [0.5 * t + 0.25 for t in truth]),
        NASTY: Predicted("baseline", bad, "no <b>memory</b>"),
        "repeat last": Predicted("floor", [t["repeat last"] for t in trivial]),
        "mean context": Predicted("floor", [t["mean context"] for t in trivial]),
        "tokenizer": Predicted("ceiling", [0.9 * t + 0.05 for t in truth]),
        "perfect map": Predicted("oracle", truth),
    }
    episodes = [
        EpisodeFrames(
            f"{i:02d}", f"room {i} {NASTY}", w, context, {"lstm-f": to_uint8(g), NASTY: to_uint8(b)}
        )
        for i, (w, g, b) in enumerate(zip(whole, good, bad, strict=True))
    ]
    return scores_of(rows, truth, [context] * videos), episodes


def lone_model():
    """A single frame of a single video: no standard error is defined, and metrics of motion are not either."""
    truth = np.full((1, 16, 16, 3), 128, np.uint8)
    rows = {"df": Predicted("model", [truth + 25]), "repeat last": Predicted("floor", [truth + 50])}
    episode = EpisodeFrames("00", "only", np.concatenate([truth] * 2), 1, {"df": truth + 25})
    return scores_of(rows, [truth], [1]), [episode]
