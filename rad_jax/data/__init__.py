"""Episodes on disk, in one import: `EpisodeSpec` (schema), `write_split` (writer), `Episodes` (reader).

A data set is a directory. Every split is a set of ArrayRecord shards; a record is a chunk of consecutive frames of
one episode, serialised as a `tf.train.Example` that TensorFlow Datasets can read. `index.json` says which records hold
which episode, so that a window of frames is read by decoding only the chunks it touches.

The Grain pipelines are in `rad_jax.data.windows`, what a model is conditioned on in `rad_jax.data.condition`;
both are imported by name, so that preparing data does not load a training pipeline.
"""

from rad_jax.data.index import record_tokenizer
from rad_jax.data.reader import Episodes
from rad_jax.data.spec import DataError, Episode, EpisodeSpec
from rad_jax.data.writer import write_split

__all__ = ["DataError", "Episode", "EpisodeSpec", "Episodes", "record_tokenizer", "write_split"]
