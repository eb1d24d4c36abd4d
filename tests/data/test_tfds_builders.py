"""Data sets open by name in TensorFlow Datasets; those of another kind do not."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

import rad_jax.data.tfds_builders  # noqa: F401
from data_prep import convert
from rad_jax.data import DataError
from tests.data_prep.recordings import format_files as files


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A data set of each kind."""
    directory, recorded = tmp_path_factory.mktemp("sets"), tmp_path_factory.mktemp("recorded")
    files.vrag(recorded / "vrag")
    files.memory_maze(recorded / "memory_maze")
    for name in ("vrag", "memory_maze"):
        assert (
            convert.main(["--format", name, "--src", str(recorded / name), "--dst", str(directory / name)])
            == 0
        )
    return directory


@pytest.mark.parametrize(("name", "directory"), [("rad_minecraft", "vrag"), ("rad_maze", "memory_maze")])
def test_a_data_set_opens_by_name(name, directory, sets):
    builder = tfds.builder(name, data_dir=sets / directory)
    source = builder.as_data_source("train")
    assert len(source) == 2 and builder.info.splits["train"].num_examples == 2
    same = tfds.builder_from_directory(sets / directory).as_data_source("train")
    for record, other in zip(source, same, strict=True):
        assert record.keys() == other.keys()
        np.testing.assert_array_equal(record["actions"], other["actions"])
    shown = np.concatenate([record["frames"] for record in source])
    assert files.numbers(shown) == list(range(24))
    again = pickle.loads(pickle.dumps(builder))
    assert len(again.as_data_source("train")) == 2
    assert tfds.builder_cls(name).name == name


@pytest.mark.parametrize(
    ("name", "directory", "message"),
    [
        ("rad_minecraft", "memory_maze", r"with actions of shape \[6\], expected Minecraft with \[25\]"),
        ("rad_maze", "vrag", r"with actions of shape \[25\], expected a maze with \[6\]"),
        ("rad_maze", "nothing", "no data set at"),
        ("rad_minecraft", None, "say where the data set is"),
    ],
)
def test_what_cannot_be_opened_says_why(name, directory, message, sets):
    options = {} if directory is None else {"data_dir": sets / directory}
    with pytest.raises((DataError, RuntimeError), match=message):
        tfds.builder(name, **options)


def test_tensorflow_is_not_imported(sets, tmp_path):
    trap = tmp_path / "tensorflow"
    trap.mkdir()
    (trap / "__init__.py").write_text("raise SystemExit('tensorflow was imported')")
    script = f"""
import sys
import tensorflow_datasets as tfds
import rad_jax.data.tfds_builders
source = tfds.builder("rad_minecraft", data_dir={os.fspath(sets / "vrag")!r}).as_data_source("train")
assert len(source[0]["frames"]) == 20 and "tensorflow" not in sys.modules
print("done")
"""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])]),
    }
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], env=environment, capture_output=True, text=True
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "done\n", "")
