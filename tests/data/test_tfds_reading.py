"""TensorFlow Datasets reads the data sets; TensorFlow is imported neither for that nor for anything else here."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from tests.data import toy_episodes as toy


def test_tfds_reads_every_record_of_every_split(tmp_path):
    toy.write(tmp_path, 7, 3)
    toy.write(tmp_path, 2, 1, split="test")
    builder = tfds.builder_from_directory(tmp_path)
    assert builder.info.name == "toy" and sorted(builder.info.splits) == ["test", "train"]
    for split, episodes in (("train", 7), ("test", 2)):
        source = builder.as_data_source(split)
        records = iter(source[number] for number in range(len(source)))
        for number in range(episodes):
            original, length = toy.episode(number), 11 + 3 * number
            for chunk, start in enumerate(range(0, length, toy.SPEC.chunk)):
                record = next(records)
                for name in toy.SPEC.arrays:
                    frames = original[name][start : start + 4]
                    np.testing.assert_array_equal(record[name], frames, strict=True)
                for name in toy.SPEC.statics:
                    np.testing.assert_array_equal(record[name], original[name])
                assert record["episode_id"] == f"{split}-{number:06d}".encode()
                assert (record["chunk"], record["start"], record["num_frames"]) == (chunk, start, length)
        assert next(records, None) is None


def test_tensorflow_is_never_imported(tmp_path):
    # A package of that name that cannot be imported, in case the real one is or is not installed.
    trap = tmp_path / "trap" / "tensorflow"
    trap.mkdir(parents=True)
    (trap / "__init__.py").write_text("raise SystemExit('tensorflow was imported')")
    script = f"""
import sys
import numpy as np
import tensorflow_datasets as tfds
import toy_episodes as toy
import rad_jax.data.tfds_builders
from rad_jax.config import DataConfig
from rad_jax.data import EpisodeSpec, write_split
from rad_jax.data.windows import train_batches, train_dataset
data = toy.write({os.fspath(tmp_path / "data")!r}, 3)
config = DataConfig(clip=5, condition="action+pose", heading_harmonics=2)
batches = train_batches(train_dataset(data, config, batch=2, seed=0), 0, config)
next(batches)
batches.close()
assert len(tfds.builder_from_directory(data.directory).as_data_source("train")[0]["frames"]) == 4
spec = EpisodeSpec("kind", {{"actions": ((25,), "float32")}})
episode = {{"actions": np.zeros((3, 25), np.float32)}}
write_split({os.fspath(tmp_path / "kind")!r}, "train", spec, lambda _: [episode], 1, episodes_per_shard=1)
source = tfds.builder("rad_minecraft", data_dir={os.fspath(tmp_path / "kind")!r}).as_data_source("train")
assert len(source[0]["actions"]) == 3
assert "tensorflow" not in sys.modules
print("done")
"""
    paths = [os.fspath(trap.parent), os.fspath(Path(toy.__file__).parent), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    # Warnings are errors, and nothing may be printed when the interpreter exits with threads that read ahead.
    command = [sys.executable, "-W", "error", "-c", script]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "done\n", "")
