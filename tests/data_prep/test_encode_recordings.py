"""Recordings that are encoded at once give what encoding their data set gives."""

import shutil

import numpy as np
import pytest

from data_prep import convert, encode_latents
from data_prep.latents.source import recorded_sources
from data_prep.recordings import conversion
from rad_jax.data import Episodes
from rad_jax.tokenizer import patch_pca
from tests.data_prep import commands
from tests.data_prep.recordings import format_files as files

LENGTHS = {"a/000000": 25, "a/000001": 41, "b/000000": 30}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Three recordings in VRAG's layout, one that is none, and a tokenizer for them."""
    directory = tmp_path_factory.mktemp("recordings")
    for name, length in LENGTHS.items():
        files.vrag(directory / "vrag", name=name, frames=length, columns=4)
    (directory / "vrag/b/000001.mp4").write_bytes(b"no video")
    shutil.copy(directory / "vrag/b/000000.npz", directory / "vrag/b/000001.npz")
    fitted = np.random.default_rng(0).integers(0, 256, (20, 16, 24, 3), np.uint8)
    patch_pca.fit(fitted, 8, 6).save(directory / "pca.npz")
    return directory


def encode(recordings, dst, *more, src="vrag") -> int:
    named = "--tokenizer", "patch_pca", "--weights", recordings / "pca.npz", "--batch", 16
    paths = "--src", recordings / src, "--dst", dst, "--shard-episodes", 1
    return commands.run(encode_latents.main, *paths, *named, *more)


def test_encoding_recordings_is_converting_and_encoding(recordings, tmp_path, capsys):
    options = ["--format", "vrag", "--size", "24x16", "--test-episodes", "1", "--context", "20"]
    raw, through, direct = tmp_path / "raw", tmp_path / "through", tmp_path / "direct"
    assert convert.main(["--src", str(recordings / "vrag"), "--dst", str(raw), *options]) == 0
    for name in ("raw", "raw_test"):
        target = tmp_path / name.replace("raw", "through")
        assert encode(recordings, target, src=tmp_path / name) == 0
    capsys.readouterr()
    assert encode(recordings, direct, *options) == 0
    assert "skipped b-000001" in capsys.readouterr().err
    for name, split, ids in (("", "train", ["a-000000", "a-000001"]), ("_test", "test", ["b-000000"])):
        one, other = (
            Episodes(directory.with_name(directory.name + name), split) for directory in (direct, through)
        )
        assert one.ids == other.ids == ids
        assert one.spec.arrays == other.spec.arrays and one.spec.statics == other.spec.statics
        assert ("frames" in one.spec.arrays) == (split == "test")
        about, expected = (dict(episodes.spec.info) for episodes in (one, other))
        how, expected_how = about.pop("encoded"), expected.pop("encoded")
        assert about == expected
        assert {**how, "source": ""} == {**expected_how, "source": ""}
        for number, name_of_episode in enumerate(ids):
            found = one.read(number) | one.static(number)
            assert len(found["latents"]) == LENGTHS[name_of_episode.replace("-", "/", 1)]
            for array, value in (other.read(number) | other.static(number)).items():
                np.testing.assert_array_equal(found[array], value, strict=True)
            assert np.std(np.float32(found["latents"])) > 0.1


def test_frames_that_an_evaluation_leaves_out_do_not_count(recordings, tmp_path):
    job = f"--format vrag --src {recordings}/vrag --dst {tmp_path}/d --size 24x16 --test-episodes 1 --test-frames 12"
    sources = [source for _, source in recorded_sources(conversion.parser().parse_args(job.split()))]
    assert [source.num_frames for source in sources] == [25 + 41, 12]
    assert sum(map(len, sources[1].read(0)[1])) == 12


def test_recordings_that_have_changed_since_are_another_source(recordings, tmp_path, capsys):
    shutil.copytree(recordings / "vrag", tmp_path / "vrag")
    shutil.copy(recordings / "pca.npz", tmp_path)
    options = ["--format", "vrag", "--size", "24x16"]
    assert encode(tmp_path, tmp_path / "latents", "--shard", "0/2", *options) == 0
    for change in (
        lambda: files.write_video(tmp_path / "vrag/a/000000.mp4", "mp4v", 25, rows=8),
        lambda: shutil.copytree(tmp_path / "vrag/a", tmp_path / "vrag/c"),
    ):
        change()
        capsys.readouterr()
        assert encode(tmp_path, tmp_path / "latents", *options) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("encode_latents: error: ") and "info.recordings = " in error
        assert "use another directory, or delete this one" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--format none", "--format"),
        ("--format vrag --size 16", "--size"),
        ("--size 24x16", "--size"),
        ("--format vrag --split a b", "--split"),
        ("--format vrag --src SRC/nothing", "nothing"),
    ],
)
def test_options_of_recordings_are_checked_in_a_line(options, message, recordings, tmp_path, capsys):
    words = options.replace("SRC", str(recordings)).split()
    assert encode(recordings, tmp_path / "latents", *words) == 2
    assert message in commands.refused(capsys, "encode_latents")
