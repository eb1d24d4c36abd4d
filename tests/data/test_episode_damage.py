"""What is not as it was written is an error that names the file and the record or field, and says what to do."""

import errno
import functools
import json
import operator
import os
import resource
import threading

import numpy as np
import pytest

from rad_jax.data import DataError, Episodes, reader, record_tokenizer, write_split
from rad_jax.data.shards import SplitLayout
from rad_jax.data.writer import begin, write_shard
from tests.data import toy_episodes as toy


@pytest.fixture
def data(tmp_path):
    """Seven episodes of 11 to 29 frames, three in a shard."""
    return toy.write(tmp_path)


def _shard(data, number):
    return data.directory / f"toy-train.array_record-{number:05d}-of-{len(data.checksums):05d}"


@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit_is_found_in_its_record_and_the_others_can_be_read(data, bit):
    data.verify()
    path, chunk = _shard(data, 1), toy.episode(4)["frames"][8:12].tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(chunk) + 7] ^= 1 << bit
    path.write_bytes(content)
    data = Episodes(data.directory, "train")
    # Episodes 3 and 4 begin the shard; episode 3 has 20 frames, in records 0..4.
    with pytest.raises(DataError, match=rf"{path.name}, record 7: .*delete the file"):
        data.read(4, 0, 23)
    np.testing.assert_array_equal(data.read(4, 0, 8)["frames"], toy.episode(4)["frames"][:8])
    np.testing.assert_array_equal(data.read(4, 12)["frames"], toy.episode(4)["frames"][12:])
    with pytest.raises(DataError, match=rf"{path.name} .*sha256"):
        data.verify()


@pytest.mark.parametrize("keep", [0, 1000, -1])
def test_a_truncated_shard_is_found_when_the_split_is_opened(data, keep):
    path = _shard(data, 2)
    size = path.stat().st_size
    os.truncate(path, keep % size)
    with pytest.raises(DataError, match=rf"{path.name} has {keep % size} bytes, 8 records of {size} bytes"):
        Episodes(data.directory, "train")


def test_a_truncated_shard_of_the_old_size_is_found_when_it_is_read(data):
    path = _shard(data, 0)
    size = path.stat().st_size
    os.truncate(path, size // 2)
    os.truncate(path, size)
    data = Episodes(data.directory, "train")
    with pytest.raises(DataError, match=f"{path.name}, record 0: .*delete the file"):
        data.read(0)
    np.testing.assert_array_equal(data.read(3)["frames"], toy.episode(3)["frames"])


def test_a_missing_shard_is_found_when_the_split_is_opened_or_read(data):
    path = _shard(data, 1)
    path.unlink()
    with pytest.raises(DataError, match=f"{path.name} is missing"):
        Episodes(data.directory, "train")
    with pytest.raises(DataError, match=f"{path.name}, record 0: .*run the command"):
        data.read(3)


def test_a_process_that_may_open_few_files_reads_many_shards(tmp_path):
    """And one that may open no more is told so; nothing is to be deleted."""
    toy.write(tmp_path, 40, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)  # the lowest number that is free
    os.close(free)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 12, hard))
        data, wrong = Episodes(tmp_path, "train"), []

        def read(offset):
            for number in range(40):
                index = (number + offset) % 40
                if not np.array_equal(data.read(index)["frames"], toy.episode(index)["frames"]):
                    wrong.append(index)

        threads = [threading.Thread(target=read, args=(10 * part,)) for part in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong and data._reader.cache_info().currsize <= (free + 12) // 4
        data = Episodes(tmp_path, "train")
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        with pytest.raises(DataError, match=r"record 0: .*Too many open files.*ulimit -n") as info:
            data.read(0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "delete" not in str(info.value)


@pytest.mark.parametrize(
    ("error", "words"), [(errno.EMFILE, "Too many open files"), (errno.EACCES, "denied"), (None, "ulimit")]
)
def test_a_shard_that_is_intact_is_not_to_be_deleted(data, monkeypatch, error, words):
    """Array_record reports a full table of files as it reports damage; only the hash tells them apart."""

    def refuse(path):
        raise RuntimeError("open() failed")

    def no_file(*args):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(reader, "_open", refuse)
    if error:
        monkeypatch.setattr("builtins.open", no_file)
    with pytest.raises(DataError, match=rf"record 0: .*{words}") as info:
        data.read(0)
    monkeypatch.undo()
    assert "keep" in str(info.value) and "delete" not in str(info.value)
    data.read(0)


def test_a_shard_of_another_data_set_is_found_although_it_looks_alike(data, tmp_path):
    def other(indices):
        for index in indices:
            yield {**toy.episode(index), "pose": toy.episode(index)["pose"][::-1].copy()}

    write_split(tmp_path / "that", "train", toy.SPEC, other, 7, episodes_per_shard=3)
    path = _shard(data, 1)
    os.replace(tmp_path / "that" / path.name, path)
    data = Episodes(tmp_path, "train")
    with pytest.raises(DataError, match=f"{path.name}, record 5: holds chunk 0 of episode 'train-000004'"):
        data.read(4, 1, 3)


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


def _refused(directory, index, change):
    """Writes index.json with a change, and returns what it says when all of the split is read."""
    content = json.loads(index)
    change(content)
    content.pop("sha256", None)  # which would say that something has changed, not what
    (directory / "index.json").write_text(json.dumps(content))
    with pytest.raises(DataError) as info:
        data = Episodes(directory, "train")
        for number in range(len(data)):
            data.read(number)
        data.verify()
    message = str(info.value)
    assert message.isprintable() and len(message) < 1000
    return message


def test_records_of_another_size_are_found(tmp_path):
    def shorten(index):
        index["splits"]["train"]["episodes"][0]["num_frames"] = 10

    assert toy.write(tmp_path).spec == toy.SPEC
    message = _refused(tmp_path, (tmp_path / "index.json").read_text(), shorten)
    assert "record 2: array 'frames' has 54 bytes, expected 36" in message
    assert "index.json" in message and "delete" not in message  # the shard is intact


def test_records_that_are_no_examples_are_found(data):
    from array_record.python.array_record_module import ArrayRecordWriter

    path = _shard(data, 2)
    size = path.stat().st_size
    for record in (b"", b"\x0a\x03abc", b"\x0a\x7f"):
        writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
        for _ in range(8):
            writer.write(record)
        writer.close()
        assert path.stat().st_size == size
        with pytest.raises(DataError, match=f"{path.name}, record 0: not a record of this data set"):
            Episodes(data.directory, "train").read(6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "damaged"),
        (b"{", "damaged"),
        (b"\xff", "damaged"),
        (b"[" * 100_000, "nested"),
        (b"[]", r"content is \[\]"),
        (b"{}", "format is missing"),
        (b'{"format": 0}', "format 0"),
        (b'{"format": 1}', "name is missing"),
    ],
)
def test_an_index_that_is_none_is_named(data, text, words):
    (data.directory / "index.json").write_bytes(text)
    with pytest.raises(DataError, match=rf"index\.json .*{words}"):
        Episodes(data.directory, "train")


CHANGES = {
    "null": None,
    "text": " x",
    "true": True,
    "half": 0.5,
    "negative": -1,
    "huge": 10**30,
    "NaN": float("nan"),
    "list": [[]],
    "nested": {"a": {"b": [1]}},
    "deep": json.loads("[" * 500 + "]" * 500),
    "missing": ...,
}
ALLOWED = {("tokenizer", "null"), ("info", "nested")}


def _places(value, place=()):
    """Where the fields of a JSON value are; what a data set says about itself may be anything."""
    if not isinstance(value, dict | list) or place[-1:] == ("info",):
        return
    for key in value if isinstance(value, dict) else range(len(value)):
        yield (*place, key)
        yield from _places(value[key], (*place, key))


@pytest.mark.parametrize("kind", CHANGES)
def test_every_field_of_the_index_is_checked(tmp_path, kind):
    toy.write(tmp_path, 2, 1)
    record_tokenizer(tmp_path, "patch_pca", "ab" * 32, "tokenizer.npz")
    whole = (tmp_path / "index.json").read_text()
    for *outer, name in _places(json.loads(whole)):
        if (
            (name, kind) in ALLOWED
            or (kind == "text" and outer == ["tokenizer"])
            or (name == "sha256" and not outer)
        ):
            continue

        def change(index, outer=outer, name=name):
            inner = functools.reduce(operator.getitem, outer, index)
            inner[name] = CHANGES[kind]
            if kind == "missing":
                del inner[name]

        message = _refused(tmp_path, whole, change)
        assert any(word in message for word in ("index.json", "shard ", "split 'train'")), message
        field = f"[{name}]" if isinstance(name, int) else name
        assert kind in ("NaN", "missing", "text") or field in message, (outer, name, message)


def test_an_index_that_was_changed_is_refused_and_an_old_one_is_read(data):
    path = data.directory / "index.json"
    index = json.loads(path.read_text())
    index["splits"]["train"]["info"]["actions"].reverse()  # as many columns of another meaning
    path.write_text(json.dumps(index))
    with pytest.raises(DataError, match=r"index\.json is damaged .*sha256"):
        Episodes(data.directory, "train")
    del index["sha256"]
    path.write_text(json.dumps(index))
    assert Episodes(data.directory, "train").spec.info == index["splits"]["train"]["info"]
    record_tokenizer(data.directory, "patch_pca", "ab" * 32, "tokenizer.npz")
    assert "sha256" in json.loads(path.read_text())


@pytest.mark.parametrize(
    "info",
    [
        *({"fps": fps} for fps in ("fast", 0, -1, 1e300, True)),
        *({"actions": names} for names in ("go", [["go"]], [1], ["\x1b[2J"])),
        *({"pose": [1, 2]}, {"pose_scale": ["1"]}, {"pose_scale": 1}, {"protocol": 3}, {"protocol": "../a"}),
    ],
)
def test_what_a_data_set_says_about_itself_is_checked_when_it_is_opened(info, data):
    """Models, videos and the names of scores depend on it."""

    def change(index):
        index["splits"]["train"]["info"] |= info

    assert f"info.{next(iter(info))}" in _refused(
        data.directory, (data.directory / "index.json").read_text(), change
    )


UNSAFE_NAMES = ["../a", "a/b", "/a", "..", ".a", "", "a\\b", "a\0", "a\nb", "\x1b[2J", "a" * 201, "\ud800"]


@pytest.mark.parametrize(("what", "key"), [("shard", "file"), ("episode", "id")])
def test_an_index_with_names_that_lead_elsewhere_is_refused(data, what, key):
    whole = (data.directory / "index.json").read_text()
    for name in UNSAFE_NAMES:

        def change(index, name=name):
            index["splits"]["train"][f"{what}s"][1][key] = name

        message = _refused(data.directory, whole, change)
        assert "index.json" in message and ("not allowed" in message or f"s[1].{key} is '" in message)


@pytest.mark.parametrize("name", [*UNSAFE_NAMES, None, 7])
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
