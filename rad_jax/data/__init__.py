"""Episodes on disk: schema, writer and reader.

The Grain pipelines are in `rad_jax.data.windows`, what a model is conditioned on in `rad_jax.data.condition`;
both are imported by name, so that preparing data does not load a training pipeline.
"""

from rad_jax.data.episodes import DataError, Episode, Episodes, EpisodeSpec, record_tokenizer, write_split

__all__ = ["DataError", "Episode", "EpisodeSpec", "Episodes", "record_tokenizer", "write_split"]
