"""Episodes on disk, in one import: `EpisodeSpec` (schema), `write_split` (writer), `Episodes` (reader).

A data set is a directory. Every split is a set of ArrayRecord shards. A record is a chunk of consecutive frames of one episode,
serialised as a `tf.train.Example` that TensorFlow Datasets can read. `index.json` says which records hold which episode, so
that reading a window of frames decodes only the chunks that it touches.

Import `rad_jax.data.windows` (the Grain pipeline of training clips) and `rad_jax.data.condition` (what a model is conditioned
on) by name, so that preparing data does not load a training pipeline.
"""

from rad_jax.data.index import record_tokenizer
from rad_jax.data.reader import Episodes
from rad_jax.data.spec import DamagedRecord, DataError, Episode, EpisodeSpec
from rad_jax.data.writer import write_split

__all__ = [
    "DamagedRecord",
    "DataError",
    "Episode",
    "EpisodeSpec",
    "Episodes",
    "record_tokenizer",
    "write_split",
]
