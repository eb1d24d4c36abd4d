"""Encoded data sets: the right numbers, everything else kept, and the same bytes however they came about."""

import errno
import fcntl
import json
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import jax
import numpy as np
import pytest
from einops import rearrange

from data_prep import encode_latents
from data_prep.latents import job
from data_prep.latents.job import encode_frames, rebatch
from data_prep.latents.source import split_source
from rad_jax import tokenizer as tokenizers
from rad_jax.data import Episodes
from rad_jax.data.index import write_index
from rad_jax.data.shards import claim, finished_shards
from rad_jax.tokenizer import patch_pca
from tests.data_prep import commands
from tests.data_prep.commands import contents

BATCH = 7  # does not divide the 24 frames of an episode

run = partial(commands.run, encode_latents.main)


def arguments(src, dst, *more):
    return ["--src", src, "--dst", dst, "--batch", BATCH, "--shard-episodes", 1, *more]


def encode(*args) -> Path:
    assert run(*arguments(*args)) == 0
    return args[1]


def assert_refused(capsys, message, *args):
    capsys.readouterr()
    assert run(*arguments(*args)) == 2
    line = capsys.readouterr().err.splitlines()[-1]  # behind the progress bar, where it was shown
    assert "encode_latents: error: " in line and message in line


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
    """The training episodes encoded in one go by one process."""
    return encode(toy.rooms, tmp_path_factory.mktemp("encoded") / "latents")


def literal_latents(frames, path):
    """Of the file alone: patches minus their mean, times the basis, times the scale, in float64."""
    with np.load(path) as file:
        stored = {name: np.float64(file[name]) for name in ("mean", "basis", "scale")}
    patches = rearrange(frames / 255.0, "t (rows y) (cols x) c -> t rows cols (y x c)", y=8, x=8)
    return (patches - stored["mean"]) @ stored["basis"] * stored["scale"]


def test_frames_become_their_latents_and_the_rest_is_kept(whole, toy):
    source, encoded = Episodes(toy.rooms, "train"), Episodes(whole, "train")
    assert encoded.ids == source.ids and encoded.lengths.tolist() == source.lengths.tolist()
    arrays = dict(source.spec.arrays)
    del arrays["frames"]
    assert dict(encoded.spec.arrays) == {"latents": ((2, 2, 8), "float16"), **arrays}
    assert encoded.spec.statics == source.spec.statics and encoded.spec.chunk == source.spec.chunk
    about = dict(encoded.spec.info)
    how = about.pop("encoded")
    assert about == source.spec.info
    assert how["frame_size"] == [16, 16] and how["batch"] == BATCH and how["tokenizer"] == "patch_pca"
    for number in range(len(source)):
        before, after = source.read(number), encoded.read(number)
        expected = literal_latents(before.pop("frames"), toy.rooms / "tokenizer.npz")
        found = after.pop("latents")
        assert found.dtype == np.float16
        np.testing.assert_allclose(found, expected, rtol=2**-10, atol=2e-6)
        assert np.std(expected) > 0.1
        before |= source.static(number)
        after |= encoded.static(number)
        assert before.keys() == after.keys()
        for name, array in before.items():
            np.testing.assert_array_equal(after[name], array, strict=True)
    encoded.verify()


def test_the_tokenizer_goes_along_when_it_lay_in_the_source(whole, toy, tmp_path):
    recorded = Episodes(whole, "train").tokenizer
    assert recorded == Episodes(toy.rooms, "train").tokenizer | {"path": "tokenizer.npz"}
    assert (whole / "tokenizer.npz").read_bytes() == (toy.rooms / "tokenizer.npz").read_bytes()
    elsewhere = shutil.copy(toy.rooms / "tokenizer.npz", tmp_path / "pca.npz")
    named = encode(toy.rooms, tmp_path / "named", "--tokenizer", "patch_pca", "--weights", elsewhere)
    assert Episodes(named, "train").tokenizer == recorded | {"path": str(tmp_path / "pca.npz")}
    assert not (named / "pca.npz").exists()
    found, expected = contents(named), contents(whole)
    assert all(found[name] == expected[name] for name in expected if "array_record" in name)


def test_a_data_set_of_another_kind_is_left_as_it_is(toy, tmp_path, capsys):
    other = shutil.copytree(toy.mazes, tmp_path / "other")
    before = contents(other)
    for _ in range(2):  # the second time says what the first one did
        assert encode_latents.main([str(word) for word in arguments(toy.rooms, other)]) == 2
        assert "was written with name" in capsys.readouterr().err
        assert contents(other) == before


def test_another_tokenizer_in_the_way_is_named_and_stays(toy, tmp_path, capsys):
    (tmp_path / "tokenizer.npz").write_bytes(b"mine")
    assert encode_latents.main([str(word) for word in arguments(toy.rooms, tmp_path)]) == 2
    assert f"{tmp_path / 'tokenizer.npz'} is another tokenizer" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.npz"]


def test_two_processes_that_are_killed_and_one_that_continues_make_the_bytes_of_one(
    whole, toy, tmp_path, root
):
    words = [str(word) for word in arguments(toy.rooms, tmp_path, "--workers", 2)]
    (begun,) = encode_latents.make_jobs(encode_latents.parse("x", "", words))
    with claim(begun.layout, 5, wait=False):  # so that they do not come to an end
        process = subprocess.Popen(
            [sys.executable, "-m", "data_prep.encode_latents", *words], cwd=root, stderr=subprocess.PIPE
        )
        while len(finished_shards(begun.layout)) < 7:
            assert process.poll() is None, process.stderr.read().decode()
            time.sleep(0.01)
        process.kill()
        process.communicate()  # until its processes, too, have closed it
    assert not (tmp_path / "index.json").exists()
    assert contents(encode(toy.rooms, tmp_path)) == contents(whole)


@pytest.mark.parametrize(("devices", "workers"), [(1, 1), (1, 3), (8, 1), (8, 3), (7, 2), (8, 8), (2, 5)])
def test_processes_have_equal_shares_of_the_devices(devices, workers, monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: list(range(devices)))
    shares = []
    for number in range(4, 4 + workers):  # whatever was started before
        monkeypatch.setattr(
            job, "current_process", lambda n=number: SimpleNamespace(name=f"SpawnProcess-{n}")
        )
        shares.append(job.local_devices(workers))
    assert {len(share) for share in shares} == {max(1, devices // workers)}
    assert len({device for share in shares for device in share}) == min(devices, workers * len(shares[0]))


def test_a_batch_that_the_devices_of_a_process_cannot_share_is_refused(toy, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(encode_latents, "local_devices", lambda workers: [None] * 2)
    assert_refused(capsys, f"--batch {BATCH}", toy.rooms, tmp_path / "latents")


def test_the_shares_of_hosts_make_the_same_data_set_in_any_order(whole, toy, tmp_path, capsys):
    for done, share in enumerate(("2/3", "0/3", "1/3")):
        assert not (tmp_path / "index.json").exists()
        encode(toy.rooms, tmp_path, "--shard", share)
        said = capsys.readouterr().out
        assert ("this share is done" if done < 2 else "8 episodes, latents 2x2x8 float16") in said
    assert contents(tmp_path) == contents(whole)
    encode(toy.rooms, tmp_path, "--shard", "0/3")
    assert contents(tmp_path) == contents(whole)


@pytest.mark.filterwarnings("ignore:the file system of")
def test_without_locks_the_bytes_are_the_same(whole, toy, tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=OSError(errno.ENOLCK, "no locks")))
    assert contents(encode(toy.rooms, tmp_path)) == contents(whole)


def test_another_source_or_other_settings_are_refused_and_nothing_changes(whole, toy, tmp_path, capsys):
    src, other = tmp_path / "rooms", tmp_path / "other.npz"
    patch_pca.fit(np.random.default_rng(0).integers(0, 256, (50, 16, 16, 3), np.uint8), 8, 8).save(other)
    shutil.copytree(toy.rooms, src)
    index = json.loads((src / "index.json").read_text())
    index["splits"]["train"]["shards"][0]["sha256"] = "0" * 64
    write_index(src, index)
    before = contents(whole)
    for message, source, *more in (
        ("info.encoded.batch = 7, not 8", toy.rooms, "--batch", 8),
        ("arrays.frames = 'absent', not [[16, 16, 3], 'uint8']", toy.rooms, "--keep-frames"),
        ("episodes_per_shard = 1, not 2", toy.rooms, "--shard-episodes", 2),
        ("tokenizer.fingerprint = ", toy.rooms, "--tokenizer", "patch_pca", "--weights", other),
        ("info.encoded.source = ", src),
    ):
        assert_refused(capsys, message, source, whole, *more)
    assert contents(whole) == before


def test_what_cannot_be_encoded_is_one_line(whole, toy, tmp_path, capsys):
    dst, wide, pca = tmp_path / "latents", tmp_path / "wide.npz", ["--tokenizer", "patch_pca"]
    patch_pca.fit(np.zeros((1, 24, 24, 3), np.uint8), 12, 1).save(wide)
    for message, *words in (
        ("--dst", toy.rooms, toy.rooms),
        (str(tmp_path / "none"), tmp_path / "none", dst),
        ("split 'test'", toy.rooms, dst, "--split", "test"),
        ("no array 'frames'", whole, dst),
        (str(toy.mazes), toy.mazes, dst),
        ("--weights", toy.rooms, dst, *pca),
        ("'x'", toy.rooms, dst, "--tokenizer", "x", "--weights", "y"),
        ("no tokenizer at", toy.rooms, dst, *pca, "--weights", "y"),
        ("16 x 16", toy.rooms, dst, *pca, "--weights", wide),
        ("--shard", toy.rooms, dst, "--shard", "2/2"),
        ("--shard", toy.rooms, dst, "--shard", "1"),
        ("--workers", toy.rooms, dst, "--workers", "0"),
        ("--batch", toy.rooms, dst, "--batch", "x"),
        ("--sh", toy.rooms, dst, "--sh", "0/1"),
    ):
        assert run(*arguments(*words)) == 2
        assert message in commands.refused(capsys, "encode_latents")
    assert not dst.exists()


def test_a_damaged_source_is_named_and_its_shard_is_not_written(toy, tmp_path, capsys):
    src = tmp_path / "rooms"
    shutil.copytree(toy.rooms, src)
    (path,) = src.glob("*-train.array_record-*")
    blob = bytearray(path.read_bytes())
    episodes = Episodes(src, "train")
    chunk = episodes.read(5)["frames"][: episodes.spec.chunk].tobytes()  # a part of it others may have too
    assert blob.count(chunk) == 1
    blob[blob.index(chunk)] ^= 1
    path.write_bytes(blob)
    assert_refused(capsys, f"shard {path}, record", src, tmp_path / "latents")
    assert not list((tmp_path / "latents").glob("*-00005-of-*"))
    assert not (tmp_path / "latents" / "index.json").exists()


def test_evaluation_episodes_keep_the_frames_they_are_compared_with(toy, tmp_path):
    named = ["--tokenizer", "patch_pca", "--weights", str(toy.rooms / "tokenizer.npz")]
    kept = Episodes(encode(toy.mazes, tmp_path / "kept", *named), "test")
    source = Episodes(toy.mazes, "test")
    assert (
        list(kept.spec.arrays)[:2] == ["latents", "frames"]
        and kept.spec.arrays.keys() >= source.spec.arrays.keys()
    )
    for number in range(3):
        for name, array in source.read(number).items():
            np.testing.assert_array_equal(kept.read(number)[name], array, strict=True)
    without = Episodes(encode(toy.mazes, tmp_path / "without", "--no-keep-frames", *named), "test")
    assert "frames" not in without.spec.arrays and "oracle" in without.spec.arrays
    np.testing.assert_array_equal(without.read(1)["latents"], kept.read(1)["latents"])


@pytest.mark.parametrize("lengths", [[24], [1] * 24, [5, 0, 16, 3], [7, 7, 7, 3]])
def test_latents_do_not_depend_on_how_frames_are_cut(lengths, toy):
    tokenizer = tokenizers.load("patch_pca", toy.rooms / "tokenizer.npz")
    frames = Episodes(toy.rooms, "train").read(0)["frames"]
    pieces = np.split(frames, np.cumsum(lengths)[:-1])
    batches = list(rebatch(iter(pieces), BATCH))
    assert [len(batch) for batch in batches] == [7, 7, 7, 3]
    np.testing.assert_array_equal(np.concatenate(batches), frames)
    encoded = list(encode_frames(tokenizer, pieces, BATCH, jax.local_devices()))
    assert [len(part) for part in encoded] == [7, 7, 7, 3]
    whole = np.concatenate(list(encode_frames(tokenizer, [frames], BATCH, jax.local_devices())))
    np.testing.assert_array_equal(np.concatenate(encoded), whole, strict=True)


def test_an_episode_is_read_record_by_record_and_never_as_a_whole(toy, monkeypatch):
    source, asked, read = split_source(toy.mazes, "test"), [], Episodes.read
    episode, chunks = source.read(0)
    assert "frames" not in episode and episode["episode_id"] == "test-000000"
    expected = Episodes(toy.mazes, "test").read(0)
    monkeypatch.setattr(Episodes, "read", lambda *args: asked.append(args[2:]) or read(*args))
    np.testing.assert_array_equal(np.concatenate(list(chunks)), expected.pop("frames"))
    for name, array in expected.items():
        np.testing.assert_array_equal(episode[name], array, strict=True)
    chunk = source.spec.chunk
    assert len(asked) > 1 and all(start % chunk == 0 and stop - start <= chunk for start, stop in asked)


def test_a_latent_that_float16_cannot_hold_is_refused(toy, tmp_path, capsys):
    tokenizer, loud = patch_pca.load(toy.rooms / "tokenizer.npz"), tmp_path / "loud.npz"
    patch_pca.PatchPCA(tokenizer.patch, tokenizer.mean, tokenizer.basis, 1e6).save(loud)
    named = "--tokenizer", "patch_pca", "--weights", loud
    assert_refused(capsys, "'latents'", toy.rooms, tmp_path / "latents", *named)


def test_beam_writes_the_same_bytes(whole, toy, tmp_path):
    pytest.importorskip("apache_beam", reason="the beam extra")
    from data_prep import encode_latents_beam

    assert commands.run(encode_latents_beam.main, *arguments(toy.rooms, tmp_path)) == 0
    assert contents(tmp_path) == contents(whole)
