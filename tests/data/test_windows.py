"""Clips are slices of episodes, every one as likely, and a step's batch depends on the seed and the step alone."""

import threading
from pathlib import Path

import grain
import numpy as np
import pytest
from grain.experimental import assert_equal_output_after_checkpoint

from rad_jax.config import DataConfig
from rad_jax.data import DataError, Episodes, EpisodeSpec, write_split
from rad_jax.data.condition import condition_features
from rad_jax.data.windows import Windows, train_batches, train_dataset
from tests.data import toy_episodes as toy

CLIP = 6
WITH_POSE = {"condition": "action+pose", "heading_harmonics": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Seven episodes of 11 to 29 frames: 105 windows of 6 frames."""
    return toy.write(tmp_path_factory.mktemp("windows"))


def _take(count, episodes, first_step=0, *, batch, seed=0, process_index=0, process_count=1, **options):
    """The batches of some steps."""
    config = DataConfig(**{"clip": CLIP, **options})
    share = {"process_index": process_index, "process_count": process_count}
    dataset = train_dataset(episodes, config, batch=batch, seed=seed, **share)
    batches = train_batches(dataset, first_step, config)
    taken = [next(batches) for _ in range(count)]
    batches.close()
    return taken


def _write(directory, length, **arrays):
    """A split of one episode of these arrays and an action of ones."""
    arrays["actions"] = np.ones((length, 1), np.float32)
    shapes = {name: (array.shape[1:], array.dtype.name) for name, array in arrays.items()}
    spec = EpisodeSpec("small", shapes, info={"actions": ["go"]})
    write_split(directory, "train", spec, lambda _: [arrays], 1, episodes_per_shard=1)
    return Episodes(directory, "train")


def _assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert list(one) == list(other)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], strict=True)


def _all_windows(data):
    lengths = enumerate(data.lengths.tolist())
    return [(episode, start) for episode, length in lengths for start in range(length - CLIP + 1)]


@pytest.mark.parametrize("options", [{}, WITH_POSE])
def test_a_batch_is_slices_of_the_episodes_and_their_conditions(data, options):
    seen = set()
    for batch in _take(35, data, batch=3, seed=1, **options):
        assert set(batch) == {"frames", "actions", "clip_id"}
        assert batch["frames"].shape == (3, CLIP, 2, 3, 3) and batch["frames"].dtype == np.uint8
        assert batch["actions"].dtype == np.float32 and batch["clip_id"].dtype == np.int64
        for row, (episode, start) in enumerate(batch["clip_id"].tolist()):
            seen.add((episode, start))
            original = {n: toy.episode(episode)[n][start : start + CLIP] for n in toy.SPEC.arrays}
            np.testing.assert_array_equal(batch["frames"][row], original["frames"])
            expected = condition_features(toy.SPEC, original, DataConfig(**options))
            np.testing.assert_array_equal(batch["actions"][row], expected)
            assert not batch["actions"][row, 0, :4].any() and batch["actions"][row, 1:, :4].any(axis=1).all()
    assert seen == set(_all_windows(data))


def test_latents_are_taken_where_the_data_set_has_them(tmp_path):
    latents = np.random.default_rng(0).standard_normal((9, 1, 2, 4)).astype(np.float16)
    episodes = _write(tmp_path, 9, frames=np.zeros((9, 2, 2, 3), np.uint8), latents=latents)
    (batch,) = _take(1, episodes, clip=4, batch=2)
    assert set(batch) == {"latents", "actions", "clip_id"} and batch["latents"].dtype == np.float16
    for row, (_, start) in enumerate(batch["clip_id"]):
        np.testing.assert_array_equal(batch["latents"][row], latents[start : start + 4])


def test_every_window_comes_once_per_epoch_in_an_order_of_its_own(data):
    """And the second epoch of one seed is not the first of the next."""
    windows, epochs = _all_windows(data), []
    assert len(windows) == 105
    for seed in range(4):
        order = [
            tuple(row) for batch in _take(6, data, batch=35, seed=seed) for row in batch["clip_id"].tolist()
        ]
        epochs += [order[:105], order[105:]]
    assert all(sorted(epoch) == windows for epoch in epochs)
    assert len({str(epoch) for epoch in [windows, *epochs]}) == 9


def test_all_windows_are_equally_likely_at_every_place_of_a_batch(data):
    windows = _all_windows(data)
    number = {window: index for index, window in enumerate(windows)}
    seeds, unread = 1050, _Unread(data.directory, data.split)
    counts = np.zeros((2, len(windows)))
    for seed in range(seeds):
        ids = train_dataset(unread, DataConfig(clip=CLIP), batch=2, seed=seed)[3]["clip_id"]
        for place, row in enumerate(ids.tolist()):
            counts[place, number[tuple(row)]] += 1
    chi_square = ((counts - seeds / 105) ** 2 / (seeds / 105)).sum(axis=1)
    # 104 degrees of freedom: mean 104, standard deviation 14.4.
    assert (np.abs(chi_square - 104) < 5 * 14.4).all(), chi_square


class _Unread(Episodes):
    """Episodes whose frames are not read."""

    def read(self, episode, start=0, stop=None, arrays=()):
        assert list(arrays) == ["frames", "actions"], "what is not needed is not asked for"
        return {name: np.zeros((stop - start, *self.spec.arrays[name][0])) for name in arrays}


def test_a_step_depends_on_seed_and_step_alone(data):
    expected = _take(20, data, batch=4, seed=7, threads=1, buffer=8)
    for threads, buffer in ((1, 1), (4, 3)):
        _assert_same(_take(20, data, batch=4, seed=7, threads=threads, buffer=buffer), expected)
    other = _take(20, data, batch=4, seed=8)
    assert not any(np.array_equal(a["clip_id"], b["clip_id"]) for a, b in zip(expected, other, strict=True))


def test_a_run_resumes_at_every_step_across_epochs(data):
    # 105 windows in batches of 8: epochs end within batches, the first in step 13.
    steps = _take(18, data, batch=8, seed=5, **WITH_POSE)
    for first in range(16):
        _assert_same(_take(2, data, first, buffer=1, batch=8, seed=5, **WITH_POSE), steps[first : first + 2])


def test_the_iterator_restores_at_every_position(data):
    dataset = train_dataset(data, DataConfig(clip=CLIP), batch=8, seed=0)
    # An epoch ends in step 13.
    assert_equal_output_after_checkpoint(dataset[11:16].to_iter_dataset(grain.ReadOptions(1, 2)))


@pytest.mark.parametrize("processes", [2, 8])
def test_the_processes_share_the_batch_of_one_process(data, processes):
    whole = _take(10, data, 5, batch=8, seed=3, **WITH_POSE)
    share = {"batch": 8 // processes, "seed": 3, "process_count": processes, **WITH_POSE}
    shares = [_take(10, data, 5, process_index=index, **share) for index in range(processes)]
    steps = zip(*shares, strict=True)
    joined = [{n: np.concatenate([part[n] for part in step]) for n in step[0]} for step in steps]
    _assert_same(joined, whole)


@pytest.mark.skipif(
    not Path("/proc/self/io").exists(), reason="the system does not count what a process reads"
)
def test_windows_of_latents_read_few_bytes_that_they_do_not_need(tmp_path):
    # Records of 20 frames: a window of 100 touches 5.95 of them on average, 1.19 times what it needs. Few windows of many
    # shards, so that what opening a shard reads counts too.
    latents = np.zeros((200, 18, 32, 16), np.float16)
    shapes = {"latents": (latents.shape[1:], "float16"), "actions": ((1,), "float32")}
    spec = EpisodeSpec("latents", shapes, info={"actions": ["go"]})
    episode = {"latents": latents, "actions": np.ones((200, 1), np.float32)}
    write_split(tmp_path, "train", spec, lambda indices: [episode] * len(indices), 6, episodes_per_shard=1)
    windows = Windows(Episodes(tmp_path, "train"), DataConfig(clip=100))

    def bytes_read():
        fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        return int(fields["rchar"])

    before, chosen = bytes_read(), np.random.default_rng(0).permutation(len(windows))[:18]
    needed = sum(windows[int(index)]["latents"].nbytes for index in chosen)
    assert 1.1 < (bytes_read() - before) / needed < 1.3


def test_short_episodes_give_no_windows_and_are_said(data, caplog):
    assert len(Windows(data, DataConfig(clip=11))) == sum(range(1, 20, 3)) and not caplog.records
    windows = Windows(data, DataConfig(clip=17))  # episodes 0 and 1 have 11 and 14 frames
    (record,) = caplog.records
    for fact in ("2 of 7 episodes", "25 of 140 frames", "17", "train-000000"):
        assert fact in record.getMessage()
    expected = [(episode, start) for episode in range(2, 7) for start in range(11 + 3 * episode - 16)]
    assert [windows.locate(index) for index in range(len(windows))] == expected


def test_a_clip_longer_than_every_episode_or_no_pictures_are_refused(data, tmp_path):
    with pytest.raises(DataError, match=r"all 7 episodes .* 30 frames, .* 29.*data\.clip"):
        _take(1, data, clip=30, batch=1)
    with pytest.raises(DataError, match="neither 'latents' nor 'frames'"):
        _take(1, _write(tmp_path, 3), clip=2, batch=1)


def test_a_damaged_record_reaches_who_asks_for_the_batch(tmp_path):
    data = toy.write(tmp_path, 2, 1)
    path = tmp_path / "toy-train.array_record-00001-of-00002"
    blob = bytearray(path.read_bytes())
    blob[blob.index(toy.episode(1)["frames"][4:8].tobytes())] ^= 1
    path.write_bytes(blob)
    with pytest.raises(DataError, match=f"{path.name}, record 1: cannot be read"):
        _take(1, data, batch=15)


def test_closing_stops_the_threads(data):
    before, config = set(threading.enumerate()), DataConfig(clip=CLIP, threads=2)
    batches = train_batches(train_dataset(data, config, batch=4, seed=0), 0, config)
    next(batches)
    readers = set(threading.enumerate()) - before
    assert len(readers) == 2
    batches.close()
    for thread in readers:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in readers)
