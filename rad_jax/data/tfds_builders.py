"""Registers data sets of this project with TensorFlow Datasets. Once this module is imported, it knows their names:

    import tensorflow_datasets as tfds
    import rad_jax.data.tfds_builders
    source = tfds.builder("rad_minecraft", data_dir="datasets/minecraft").as_data_source("train")

An element is a record: up to `chunk` consecutive frames of one episode. TensorFlow itself is not needed. Nothing is downloaded
or generated here; the commands of `data_prep` write the data sets.
"""

import os
from pathlib import Path

from tensorflow_datasets.core.read_only_builder import ReadOnlyBuilder

from rad_jax.data.index import FILE, load_index
from rad_jax.data.spec import DataError


class _RadBuilder(ReadOnlyBuilder, skip_registration=True):
    """A data set in the directory it was written to.

    Raises:
      DataError: no directory was named, or it holds no data set, or a data set with other actions.
    """

    action_size: int  # tells the kinds of data sets apart
    kind: str

    def __init__(self, *, data_dir: str | os.PathLike | None = None):
        registered = type(self).name
        if data_dir is None:
            raise DataError(f"{registered}: say where the data set is, data_dir=DIRECTORY")
        directory = Path(data_dir).expanduser()
        index = load_index(directory)
        if index is None:
            raise DataError(f"{registered}: no data set at {directory}: it has no {FILE}")
        shape = index["arrays"].get("actions", [None])[0]
        if shape != [self.action_size]:
            raise DataError(
                f"{registered}: {directory} holds {index['name']!r} with actions of shape {shape}, "
                f"expected {self.kind} with [{self.action_size}]"
            )
        try:
            super().__init__(builder_dir=os.fspath(directory))
        except Exception as error:  # what TFDS raises depends on the field that is wrong
            reason = (str(error).splitlines() or [""])[0][:120] or type(error).__name__
            raise DataError(
                f"{registered}: features.json or dataset_info.json in {directory} is damaged ({reason}); "
                "write the data set again, or read it with rad_jax.data.Episodes"
            ) from error
        # Arguments with which a pickle makes the builder again.
        self._original_state = {"data_dir": os.fspath(directory)}


class RadMinecraft(_RadBuilder):
    """Minecraft, and worlds like it, with the action vector of Oasis; `data_prep.convert` writes them."""

    name = "rad_minecraft"
    action_size, kind = 25, "Minecraft"


class RadMaze(_RadBuilder):
    """Memory Maze, ray-cast or real; `data_prep.make_maze`, `make_memory_maze` and `convert` write them."""

    name = "rad_maze"
    action_size, kind = 6, "a maze"
