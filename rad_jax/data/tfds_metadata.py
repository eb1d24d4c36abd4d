"""Writes the files that TensorFlow Datasets needs to read a data set.

`tfds.builder_from_directory(directory).as_data_source()` reads it. Neither writing nor reading needs TensorFlow itself.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from rad_jax.data.spec import BOOKKEEPING, EpisodeSpec
from rad_jax.files import write_bytes


def write_tfds_metadata(directory: Path, spec: EpisodeSpec, splits: dict[str, Any]) -> None:
    """Replaces `features.json` and `dataset_info.json` of a data set; `splits` are the entries of its index."""
    import tensorflow_datasets as tfds

    def feature(shape: tuple[int | None, ...], dtype: str) -> tfds.features.Tensor:
        return tfds.features.Tensor(shape=shape, dtype=np.dtype(dtype), encoding="bytes")

    features = {name: feature((None, *shape), dtype) for name, (shape, dtype) in spec.arrays.items()}
    features |= {name: feature(*form) for name, form in {**spec.statics, **BOOKKEEPING}.items()}
    features["episode_id"] = tfds.features.Text()
    template = tfds.core.ShardedFileTemplate(
        data_dir=directory, dataset_name=spec.name, filetype_suffix="array_record"
    )
    with tempfile.TemporaryDirectory() as temporary:
        identity = tfds.core.dataset_info.DatasetIdentity(
            name=spec.name, version=tfds.core.Version("1.0.0"), data_dir=temporary, module_name=""
        )
        info = tfds.core.DatasetInfo(
            builder=identity,
            description="Chunks of consecutive frames of episodes; see index.json.",
            features=tfds.features.FeaturesDict(features),
        )
        info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
        infos = [
            tfds.core.SplitInfo(
                name=name,
                shard_lengths=[shard["records"] for shard in split["shards"]],
                num_bytes=sum(shard["bytes"] for shard in split["shards"]),
                filename_template=template.replace(split=name),
            )
            for name, split in splits.items()
        ]
        info.set_splits(tfds.core.splits.SplitDict(infos))
        info.write_to_directory(temporary)
        for path in sorted(Path(temporary).iterdir()):
            write_bytes(directory / path.name, path.read_bytes())
