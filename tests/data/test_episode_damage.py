"""A shard that is not the one that was written is an error that names the shard and the record."""

import dataclasses
import json
import os

import numpy as np
import pytest

from rad_jax.data import DataError, Episodes, write_split
from rad_jax.data.shards import SplitLayout
from rad_jax.data.writer import begin, write_shard
from tests.data import toy_episodes as toy


def _shard(data, number):
    return data.directory / f"toy-train.array_record-{number:05d}-of-{len(data._shards):05d}"


def _patch(path, position, value):
    with open(path, "r+b") as file:
        file.seek(position)
        file.write(value)


def _readable(data):
    """Returns the (episode, first frame) of all chunks that can be read."""
    readable = []
    for episode, length in enumerate(data.lengths.tolist()):
        for start in range(0, length, toy.SPEC.chunk):
            try:
                data.read(episode, start, start + 1)
                readable.append((episode, start))
            except DataError:
                pass
    return readable


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_is_found_in_its_record_and_the_others_can_be_read(tmp_path, bit):
    data = toy.write(tmp_path)
    path, chunk = _shard(data, 1), toy.episode(4)["frames"][8:12].tobytes()
    position = path.read_bytes().index(chunk) + 7
    _patch(path, position, bytes([chunk[7] ^ 1 << bit]))
    everything = _readable(Episodes(toy.write(tmp_path / "whole").directory, "train"))
    data = Episodes(tmp_path, "train")
    # Episodes 3 and 4 begin the shard; episode 3 has 20 frames, in records 0..4.
    with pytest.raises(DataError, match=f"{path.name}, record 7: cannot be read"):
        data.read(4, 0, 23)
    assert sorted(set(everything) - set(_readable(data))) == [(4, 8)]
    with pytest.raises(DataError, match=f"{path.name} is not the file that was written"):
        data.verify()


@pytest.mark.parametrize("keep", [0, 1, 1000, -1])
def test_a_truncated_shard_is_found_when_the_split_is_opened(tmp_path, keep):
    path = _shard(toy.write(tmp_path), 2)
    size = path.stat().st_size
    os.truncate(path, keep % size)
    with pytest.raises(
        DataError, match=rf"{path.name} has {keep % size} bytes, written were {size} \(records 0..7\)"
    ):
        Episodes(tmp_path, "train")


def test_a_truncated_shard_of_the_old_size_is_found_when_it_is_read(tmp_path):
    data = toy.write(tmp_path)
    path = _shard(data, 0)
    size = path.stat().st_size
    os.truncate(path, size // 2)
    os.truncate(path, size)
    data = Episodes(tmp_path, "train")
    with pytest.raises(DataError, match=f"{path.name}, record 0"):
        data.read(0)
    np.testing.assert_array_equal(data.read(3)["frames"], toy.episode(3)["frames"])


def test_a_missing_shard_is_found_when_the_split_is_opened_or_read(tmp_path):
    data = toy.write(tmp_path)
    path = _shard(data, 1)
    path.unlink()
    with pytest.raises(DataError, match=f"{path.name} is missing .records 0..1"):
        Episodes(tmp_path, "train")
    with pytest.raises(DataError, match=f"{path.name}, record 0"):
        data.read(3)


def test_a_shard_of_another_data_set_is_found_although_it_looks_alike(tmp_path):
    def other(indices):
        for index in indices:
            yield {**toy.episode(index), "pose": toy.episode(index)["pose"][::-1].copy()}

    data = toy.write(tmp_path / "this")
    write_split(tmp_path / "that", "train", toy.SPEC, other, 7, episodes_per_shard=3)
    path = _shard(data, 1)
    os.replace(tmp_path / "that" / path.name, path)
    data = Episodes(tmp_path / "this", "train")
    with pytest.raises(DataError, match=f"{path.name}, record 5: holds chunk 0 of episode 'train-000004'"):
        data.read(4, 1, 3)
    with pytest.raises(DataError, match=f"{path.name} is not the file"):
        data.verify()


def test_exchanged_shards_are_found(tmp_path):
    data = toy.write(tmp_path, 6)
    first, second = _shard(data, 0), _shard(data, 1)
    assert first.stat().st_size == second.stat().st_size
    os.replace(first, tmp_path / "aside")
    os.replace(second, first)
    os.replace(tmp_path / "aside", second)
    data = Episodes(tmp_path, "train")
    with pytest.raises(DataError, match="record 0: holds chunk 0 of episode 'train-000003'"):
        data.read(0)
    # Shard 1 now has fewer records than the index counts on.
    with pytest.raises(DataError, match=f"{second.name}, record 17: cannot be read"):
        data.read(5, 24, 26)


def test_records_of_another_size_are_found(tmp_path):
    data = toy.write(tmp_path)
    index = json.loads((tmp_path / "index.json").read_text())
    index["splits"]["train"]["episodes"][0]["num_frames"] = 12
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="record 2: array 'frames' has 54 bytes, expected 72"):
        Episodes(tmp_path, "train").read(0)
    assert data.spec == dataclasses.replace(toy.SPEC)


def test_records_that_are_no_examples_are_found(tmp_path):
    from array_record.python.array_record_module import ArrayRecordWriter

    data = toy.write(tmp_path)
    path = _shard(data, 2)
    size = path.stat().st_size
    for record in (b"", b"\x0a\x03abc", b"\x0a\x7f"):
        writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
        for _ in range(8):
            writer.write(record)
        writer.close()
        assert path.stat().st_size == size
        with pytest.raises(DataError, match=f"{path.name}, record 0: not a record of this data set"):
            Episodes(tmp_path, "train").read(6)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"format": 0}', '{"format": 1}', '{"format": 1, "splits": [3]}']
)
def test_a_damaged_index_is_named(tmp_path, text):
    toy.write(tmp_path)
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(DataError, match=r"index\.json (is damaged|has format 0)"):
        Episodes(tmp_path, "train")


UNSAFE_NAMES = [
    "../a",
    "a/b",
    "/a",
    "..",
    ".a",
    "",
    "a\\b",
    "a\0",
    "a\nb",
    "\x1b[2J",
    "a" * 201,
    "\ud800",
    None,
    7,
]


@pytest.mark.parametrize("name", UNSAFE_NAMES)
@pytest.mark.parametrize("what", ["shard", "episode"])
def test_an_index_with_names_that_lead_elsewhere_is_refused(tmp_path, what, name):
    toy.write(tmp_path)
    path = tmp_path / "index.json"
    index = json.loads(path.read_text())
    index["splits"]["train"][f"{what}s"][1]["file" if what == "shard" else "id"] = name
    path.write_text(json.dumps(index))
    with pytest.raises(DataError, match=rf"index\.json: {what} .* is not allowed") as error:
        Episodes(tmp_path, "train")
    assert "\n" not in str(error.value) and str(error.value).isprintable()


@pytest.mark.parametrize("name", UNSAFE_NAMES)
def test_an_episode_with_a_name_that_leads_elsewhere_is_not_written(tmp_path, name):
    episode = {**toy.episode(0), "episode_id": name}
    with pytest.raises(DataError, match=r"episode_id .* is not allowed"):
        write_split(tmp_path, "train", toy.SPEC, lambda _: [episode], 1, episodes_per_shard=1)
    assert not list(tmp_path.glob("*toy*"))


def test_names_of_files_of_any_language_are_kept(tmp_path):
    names = ["Ein Film (2)..", "走る-01", "a" * 200, "é" * 100]
    episodes = [{**toy.episode(number), "episode_id": name} for number, name in enumerate(names)]
    write_split(tmp_path, "train", toy.SPEC, lambda _: episodes, 4, episodes_per_shard=4)
    assert Episodes(tmp_path, "train").ids == names


def test_an_unfinished_shard_that_names_another_file_is_refused(tmp_path):
    layout = SplitLayout(tmp_path, "train", toy.SPEC, 7, 3)
    begin(layout)
    write_shard(layout, 0, toy.make_episodes)
    path = layout.entry_path(0)
    path.write_text(json.dumps({**json.loads(path.read_text()), "file": "../elsewhere"}))
    with pytest.raises(DataError, match=r"00000\.json is damaged.*elsewhere"):
        begin(layout)


def test_an_intact_data_set_verifies(tmp_path):
    toy.write(tmp_path).verify()
