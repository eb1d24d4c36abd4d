"""Data sets open by name in TensorFlow Datasets; those of another kind do not."""

import pickle

import numpy as np
import pytest
import tensorflow_datasets as tfds

import rad_jax.data.tfds_builders  # noqa: F401
from rad_jax.data import DataError, EpisodeSpec, write_split

ACTIONS = {"minecraft": 25, "maze": 6}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A data set of each kind, of two episodes of 12 frames in records of 20."""
    directory = tmp_path_factory.mktemp("sets")
    for kind, size in ACTIONS.items():
        spec = EpisodeSpec(kind, {"actions": ((size,), "float32")})
        episodes = [{"actions": np.full((12, size), number, np.float32)} for number in range(2)]
        write_split(directory / kind, "train", spec, lambda _, e=episodes: e, 2, episodes_per_shard=2)
    return directory


@pytest.mark.parametrize("kind", ACTIONS)
def test_a_data_set_opens_by_name(kind, sets):
    builder = tfds.builder(f"rad_{kind}", data_dir=sets / kind)
    source = builder.as_data_source("train")
    assert len(source) == 2 and builder.info.splits["train"].num_examples == 2
    for number, record in enumerate(source):
        np.testing.assert_array_equal(record["actions"], np.full((12, ACTIONS[kind]), number))
    again = pickle.loads(pickle.dumps(builder))
    assert len(again.as_data_source("train")) == 2
    assert tfds.builder_cls(f"rad_{kind}").name == f"rad_{kind}"


@pytest.mark.parametrize(
    ("name", "directory", "message"),
    [
        ("rad_minecraft", "maze", r"\[6\], expected Minecraft with \[25\]"),
        ("rad_maze", "minecraft", r"\[25\], expected a maze with \[6\]"),
        ("rad_maze", "nothing", "no data set at"),
        ("rad_minecraft", None, "data_dir"),
    ],
)
def test_what_cannot_be_opened_says_why(name, directory, message, sets):
    options = {} if directory is None else {"data_dir": sets / directory}
    with pytest.raises((DataError, RuntimeError), match=message):
        tfds.builder(name, **options)
