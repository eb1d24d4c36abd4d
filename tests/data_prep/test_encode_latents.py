"""Encoded data sets: the right numbers, everything else kept, and the same bytes however they came about."""

import errno
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from einops import rearrange

from data_prep import encode_latents
from data_prep.latents import workers
from data_prep.latents.job import encode_frames, rebatch
from data_prep.latents.source import SplitSource
from data_prep.latents.workers import encode_share
from rad_jax import tokenizer as tokenizers
from rad_jax.data import Episodes, record_tokenizer, write_split
from rad_jax.data.writer import begin
from rad_jax.tokenizer import patch_pca

ROOT = Path(__file__).parents[2]
BATCH = 7  # does not divide the 24 frames of an episode


def arguments(src, dst, *more):
    return [
        "--src",
        str(src),
        "--dst",
        str(dst),
        "--batch",
        str(BATCH),
        "--shard-episodes",
        "1",
        *map(str, more),
    ]


def encode(*args) -> Path:
    assert encode_latents.main(arguments(*args)) == 0
    return args[1]


def content(directory):
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


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
    assert _shards(named) == _shards(whole)


def _shards(directory):
    return {name: value for name, value in content(directory).items() if "array_record" in name}


def test_copies_write_the_bytes_of_one_process(whole, toy, tmp_path):
    assert content(encode(toy.rooms, tmp_path / "two", "--workers", "2")) == content(whole)


def test_the_shares_of_hosts_make_the_same_data_set_in_any_order(whole, toy, tmp_path, capsys):
    for done, share in enumerate(("2/3", "0/3", "1/3")):
        assert not (tmp_path / "shares" / "index.json").exists()
        encode(toy.rooms, tmp_path / "shares", "--shard", share)
        said = capsys.readouterr().out
        assert ("this share is done" if done < 2 else "8 episodes, latents 2x2x8 float16") in said
    assert content(tmp_path / "shares") == content(whole)
    encode(toy.rooms, tmp_path / "shares", "--shard", "0/3")
    assert content(tmp_path / "shares") == content(whole)


def test_without_locks_copies_begin_with_different_shards_and_the_bytes_are_the_same(
    whole, toy, tmp_path, monkeypatch
):
    def fail(descriptor, operation):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", fail)
    dst, asked = tmp_path / "latents", []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (job,) = encode_latents.make_jobs(encode_latents.parse("x", "", arguments(toy.rooms, dst)))
        begin(job.layout)
        with monkeypatch.context() as patch:
            patch.setattr(workers, "encode_shard", lambda job, n, *_, wait: asked.append((n, wait)))
            encode_share([job], [range(8)], 1, 3)
        assert content(encode(toy.rooms, dst)) == content(whole)
    assert asked == [(n, wait) for wait in (False, True) for n in (1, 4, 7, 2, 5, 0, 3, 6)]


KILLED_SHARDS = 24  # many more than are finished between three kills on a fast machine


def test_killed_three_times_at_random_it_ends_with_the_same_bytes(toy, tmp_path):
    rooms = Episodes(toy.rooms, "train")

    def repeated(indices):
        for index in indices:
            yield rooms.static(index % 8) | rooms.read(index % 8) | {"episode_id": f"room-{index}"}

    write_split(
        tmp_path / "rooms", "train", rooms.spec, repeated, KILLED_SHARDS, episodes_per_shard=KILLED_SHARDS
    )
    shutil.copy(toy.rooms / "tokenizer.npz", tmp_path / "rooms")
    record_tokenizer(tmp_path / "rooms", **rooms.tokenizer)
    # In a process of its own, which forks before JAX has threads. See `_killed_at_random` below.
    directories = str(tmp_path / "rooms"), str(tmp_path)
    command = f"import tests.data_prep.test_encode_latents as t; t._killed_at_random{directories!r}"
    run = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    moments = json.loads(run.stdout.splitlines()[-1])
    assert len(moments) == 3 and moments[0] > 0 and moments[-1] < KILLED_SHARDS, moments
    assert content(tmp_path / "killed") == content(encode(tmp_path / "rooms", tmp_path / "whole")), moments


def _killed_at_random(src: str, directory: str) -> None:
    """Kills the command three times, each time soon after it has finished another shard, and then lets it end."""
    draw, killed = random.Random(0), Path(directory, "killed")
    moments = []
    for more in ((), ("--workers", "2"), ()):
        before = _finished(killed)
        child = _command_in_child(src, killed, *more)
        while _finished(killed) == before:
            assert os.waitpid(child, os.WNOHANG) == (0, 0), "it ended by itself"
            time.sleep(0.0005)
        time.sleep(draw.uniform(0, 0.01))
        os.kill(child, signal.SIGKILL)  # processes that it has started end by themselves
        os.waitpid(child, 0)
        moments.append(_finished(killed))
    child = _command_in_child(src, killed)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    print(json.dumps(moments))


def _command_in_child(src: str, dst: Path, *more: str) -> int:
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(encode_latents.main(arguments(src, dst, *more)))
    return child


def _finished(directory):
    if (directory / "index.json").exists():
        return KILLED_SHARDS
    return len(list((directory / "train.progress").glob("0*.json")))


CHANGES = {
    "batch": (["--batch", "8"], "info.encoded.batch = 7, not 8"),
    "frames": (["--keep-frames"], "arrays.frames = 'absent', not [[16, 16, 3], 'uint8']"),
    "shards": (["--shard-episodes", "2"], "episodes_per_shard = 1, not 2"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("finished", [True, False])
def test_other_settings_are_refused_and_nothing_changes(change, finished, whole, toy, tmp_path, capsys):
    dst = tmp_path / "latents"
    if finished:
        shutil.copytree(whole, dst)
    else:
        encode(toy.rooms, dst, "--shard", "0/2")
    before = content(dst)
    more, message = CHANGES[change]
    _assert_refused(arguments(toy.rooms, dst, *more), message, capsys)
    assert content(dst) == before


def test_another_tokenizer_or_source_is_refused(whole, toy, tmp_path, capsys):
    dst, src = tmp_path / "latents", tmp_path / "rooms"
    shutil.copytree(whole, dst)
    other = patch_pca.fit(np.random.default_rng(0).integers(0, 256, (50, 16, 16, 3), np.uint8), 8, 8)
    other.save(tmp_path / "other.npz")
    named = ["--tokenizer", "patch_pca", "--weights", str(tmp_path / "other.npz")]
    before = content(dst)
    _assert_refused(arguments(toy.rooms, dst, *named), "tokenizer.fingerprint = ", capsys)
    shutil.copytree(toy.rooms, src)
    index = json.loads((src / "index.json").read_text())
    index["splits"]["train"]["shards"][0]["sha256"] = "0" * 64
    (src / "index.json").write_text(json.dumps(index))
    _assert_refused(arguments(src, dst), "info.encoded.source = ", capsys)
    assert content(dst) == before


def _assert_refused(command, message, capsys):
    capsys.readouterr()
    assert encode_latents.main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("encode_latents: error: ") and message in line


def test_what_cannot_be_encoded_is_one_line(whole, toy, tmp_path, capsys):
    dst = tmp_path / "latents"
    cases = [
        (arguments(toy.rooms, toy.rooms), "a directory of their own"),
        (arguments(tmp_path / "none", dst), "no data set at"),
        (arguments(toy.rooms, dst, "--split", "test"), "split 'test'"),
        (arguments(whole, dst), "no array 'frames'"),
        (arguments(toy.mazes, dst), "no tokenizer of its own"),
        (arguments(toy.rooms, dst, "--tokenizer", "patch_pca"), "--weights go together"),
        (arguments(toy.rooms, dst, "--tokenizer", "x", "--weights", "y"), "no tokenizer is named 'x'"),
        (arguments(toy.rooms, dst, "--tokenizer", "patch_pca", "--weights", "y"), "no tokenizer at"),
    ]
    wide = patch_pca.fit(np.zeros((1, 24, 24, 3), np.uint8), 12, 1)
    wide.save(tmp_path / "wide.npz")
    named = ["--tokenizer", "patch_pca", "--weights", str(tmp_path / "wide.npz")]
    cases.append((arguments(toy.rooms, dst, *named), "images of 16 x 16 cannot be cut into patches of 12"))
    for command, message in cases:
        _assert_refused(command, message, capsys)
    assert not dst.exists()
    for words in (
        ["--shard", "2/2"],
        ["--shard", "1"],
        ["--workers", "0"],
        ["--batch", "x"],
        ["--sh", "0/1"],
    ):
        with pytest.raises(SystemExit) as ended:
            encode_latents.main(arguments(toy.rooms, dst, *words))
        assert ended.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1


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
    for count in ("1", "2"):
        _assert_damage(arguments(src, tmp_path / "latents", "--workers", count), path, capsys)
        assert not list((tmp_path / "latents").glob("*-00005-of-*"))
    assert not (tmp_path / "latents" / "index.json").exists()


def _assert_damage(command, path, capsys):
    capsys.readouterr()
    assert encode_latents.main(command) == 2
    line = capsys.readouterr().err.splitlines()[-1]  # behind the progress bar
    assert f"encode_latents: error: shard {path}, record" in line


def test_a_process_that_is_killed_is_named(toy, tmp_path, monkeypatch, capsys):
    from multiprocessing.process import BaseProcess

    start = BaseProcess.start

    def killed(process):
        start(process)
        os.kill(process.pid, signal.SIGKILL)

    monkeypatch.setattr(BaseProcess, "start", killed)
    assert encode_latents.main(arguments(toy.rooms, tmp_path / "latents", "--workers", "2")) == 2
    line = capsys.readouterr().err.splitlines()[-1]  # behind the progress bar
    assert "encode_latents: error: a worker process died" in line and "--workers" in line


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


@pytest.mark.parametrize("lengths", [[24], [1] * 24, [5, 0, 19], [7, 7, 7, 3], [23, 1]])
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


def test_an_episode_is_read_record_by_record_and_never_as_a_whole(toy):
    source = SplitSource(toy.mazes, "test")
    episode, pieces = source.read(0)
    assert "frames" not in episode and episode["episode_id"] == "test-000000"
    expected = Episodes(toy.mazes, "test").read(0)
    asked, read = [], source._episodes.read
    source._episodes.read = lambda number, start, stop: (
        asked.append((start, stop)) or read(number, start, stop)
    )
    np.testing.assert_array_equal(np.concatenate(list(pieces)), expected.pop("frames"))
    for name, array in expected.items():
        np.testing.assert_array_equal(episode[name], array, strict=True)
    chunk = source.spec.chunk
    assert len(asked) > 1 and all(start % chunk == 0 and stop - start <= chunk for start, stop in asked)


def test_a_latent_that_float16_cannot_hold_is_refused(toy, tmp_path, capsys):
    tokenizer = patch_pca.load(toy.rooms / "tokenizer.npz")
    loud = patch_pca.PatchPCA(tokenizer.patch, tokenizer.mean, tokenizer.basis, 1e6)
    loud.save(tmp_path / "loud.npz")
    named = ["--tokenizer", "patch_pca", "--weights", str(tmp_path / "loud.npz")]
    assert encode_latents.main(arguments(toy.rooms, tmp_path / "latents", *named)) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "array 'latents' has values that are not finite" in line


def test_beam_writes_the_same_bytes(whole, toy, tmp_path):
    pytest.importorskip("apache_beam", reason="the beam extra")
    from data_prep import encode_latents_beam

    assert encode_latents_beam.main(arguments(toy.rooms, tmp_path / "beam")) == 0
    assert content(tmp_path / "beam") == content(whole)
