"""One bad record of a thousand: training stops there, or goes on without its episode, with the same batches in every way."""

import hashlib
import json
import logging
import shutil
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from rad_jax.config import DataConfig
from rad_jax.data import DamagedRecord, DataError, Episodes, EpisodeSpec, example, write_split
from rad_jax.data.windows import Windows, train_batches, train_dataset
from rad_jax.files.json_files import sealed

EPISODES, FRAMES, CLIP, BATCH, STEPS, SEED = 50, 80, 64, 8, 6, 1
BAD, RECORD = 19, 19 * 20 + 10  # an episode, and the record of the thousand that has its frames 40 to 43
SPEC = EpisodeSpec(
    "toy",
    {"frames": ((1, 1, 3), "uint8"), "actions": ((2,), "float32")},
    {},
    {"actions": ["a", "b"]},
    chunk=4,
)


def episode(number: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(number)
    frames = rng.integers(0, 256, (FRAMES, 1, 1, 3), np.uint8)
    return {"frames": frames, "actions": rng.random((FRAMES, 2), np.float32)}


def flipped(directory, record: int = RECORD) -> None:
    """A bit of the pictures of a record."""
    path, number, first = directory / "toy-train.array_record-00000-of-00001", record // 20, record % 20 * 4
    content = bytearray(path.read_bytes())
    content[content.index(episode(number)["frames"][first : first + 4].tobytes())] ^= 1
    path.write_bytes(content)


def with_fields(**changes: bytes):
    """Another content of the record, in a data set whose writer took it for right."""

    def damage(directory) -> None:
        path, index = directory / "toy-train.array_record-00000-of-00001", directory / "index.json"
        records = ArrayRecordReader(str(path)).read_all()
        assert len(records) == 1000
        fields = {name: bytes(value) for name, value in example.decode(records[RECORD]).items()}
        records[RECORD] = example.encode({**fields, **changes})
        writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
        for record in records:
            writer.write(record)
        writer.close()
        content, data = json.loads(index.read_text()), path.read_bytes()
        entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        content["splits"]["train"]["shards"][0].update(entry)
        index.write_text(json.dumps(sealed(content)))

    return damage


ROWS = np.random.default_rng(0).random((4, 2))
DAMAGES = {
    "a flipped bit": flipped,
    "cut off": with_fields(frames=bytes(7)),
    "actions of another length": with_fields(actions=ROWS[:3].astype(np.float32).tobytes()),
    "actions of another dtype": with_fields(actions=ROWS.tobytes()),
    "no frames": with_fields(frames=b"", actions=b""),
    "another episode": with_fields(episode_id=b"other"),
}


def write(directory, count: int = EPISODES) -> Episodes:
    def make(indices: range) -> Iterator[dict[str, np.ndarray]]:
        return map(episode, indices)

    write_split(directory, "train", SPEC, make, count, episodes_per_shard=count)
    return Episodes(directory, "train")


def batches_of(episodes, allowed, first=0, count=STEPS, threads=2, processes=1):
    """The batches of some steps, each put together from the shares of all processes."""
    config = DataConfig(clip=CLIP, max_damaged=allowed, threads=threads)
    taken = []
    for process in range(processes):
        share = {"process_index": process, "process_count": processes}
        dataset = train_dataset(episodes, config, batch=BATCH // processes, seed=SEED, **share)
        batches = train_batches(dataset, first, config)
        taken.append([next(batches) for _ in range(count)])
        batches.close()
    return [
        {name: np.concatenate([part[name] for part in step]) for name in step[0]}
        for step in zip(*taken, strict=True)
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write(tmp_path_factory.mktemp("written"))


@pytest.fixture(scope="module")
def whole(written):
    """The batches of a whole data set."""
    return batches_of(written, 0)


@pytest.fixture
def data(written, tmp_path):
    """The directory of a data set to damage."""
    return shutil.copytree(written.directory, tmp_path / "data")


@pytest.mark.parametrize("kind", DAMAGES)
def test_one_bad_record_of_a_thousand_stops_training_or_costs_its_episode(kind, whole, data, caplog):
    DAMAGES[kind](data)
    episodes = Episodes(data, "train")
    named = rf"00000-of-00001, record {RECORD}: .*episode 'train-0000{BAD}'"
    with pytest.raises(DamagedRecord, match=named):
        batches_of(episodes, 0)
    with pytest.raises(
        DamagedRecord, match=named
    ):  # what no training reads is never left out: evaluation is an example
        episodes.read(BAD)
    assert not caplog.records
    found = batches_of(episodes, 1)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and "1 of at most 1 (data.max_damaged)" in record.getMessage()
    replaced = 0
    for step, clean in zip(found, whole, strict=True):
        assert list(step) == list(clean)
        for row, (number, start) in enumerate(step["clip_id"].tolist()):
            assert number != BAD
            np.testing.assert_array_equal(
                step["frames"][row], episode(number)["frames"][start : start + CLIP]
            )
            hit = clean["clip_id"][row, 0] == BAD
            replaced += hit
            assert hit or step["clip_id"][row].tolist() == clean["clip_id"][row].tolist()
    assert replaced >= 2, "the seed draws too few windows of the episode"


def test_batches_without_a_damaged_episode_depend_on_seed_and_step_alone(data):
    for record in (RECORD, 20 * 3 + 9, 20 * 41 + 10):
        flipped(data, record)
    episodes = Episodes(data, "train")
    expected = batches_of(episodes, 3, threads=1)
    ways = [{"threads": 4}, {"processes": 2}, *({"first": first, "count": 1} for first in (1, 5))]
    for way in ways:
        first, count = way.get("first", 0), way.get("count", STEPS)
        for found, step in zip(batches_of(episodes, 3, **way), expected[first : first + count], strict=True):
            for name in step:
                np.testing.assert_array_equal(found[name], step[name], strict=True)


def test_more_damaged_episodes_than_allowed_end_training_at_the_same_step(data, caplog):
    numbers = (3, 9, BAD, 27, 22)
    for number in numbers:
        flipped(data, number * 20 + 10)
    episodes, ends = Episodes(data, "train"), set()
    order = [n for step in batches_of(episodes, len(numbers)) for n in step["clip_id"][:, 0].tolist()]
    assert not {*order} & {*numbers} and len(caplog.records) == 4, "each is named"
    for threads in (1, 4):
        caplog.clear()
        config = DataConfig(clip=CLIP, max_damaged=2, threads=threads)
        batches, steps = train_batches(train_dataset(episodes, config, batch=BATCH, seed=SEED), 0, config), 0
        with pytest.raises(DamagedRecord, match=r"record \d+: .*episode 'train-"):
            for _ in range(STEPS):
                next(batches)
                steps += 1
        ends.add((steps, *(record.getMessage() for record in caplog.records)))
        assert len(caplog.records) == 2
    assert len(ends) == 1


def test_a_data_set_with_nothing_but_damage_ends_training(tmp_path):
    write(tmp_path, 2)
    for record in (10, 30):
        flipped(tmp_path, record)
    with pytest.raises(DamagedRecord):
        batches_of(Episodes(tmp_path, "train"), 100)


def test_what_is_no_damage_ends_training_whatever_is_allowed(written, monkeypatch):
    """An intact shard that cannot be opened now, and whatever a reading thread raises; no thread waits for ever."""
    episodes = Episodes(written.directory, "train")

    def refuse(path):
        raise RuntimeError("open() failed")

    with monkeypatch.context() as patch:
        patch.setattr("rad_jax.data.reader._open", refuse)
        with pytest.raises(DataError, match="keep the file") as info:
            batches_of(episodes, 100)
        assert not isinstance(info.value, DamagedRecord)
    for error in (MemoryError, OSError, SystemExit):

        def crash(windows, index, error=error):
            raise error

        before = set(threading.enumerate())
        monkeypatch.setattr(Windows, "__getitem__", crash)
        with pytest.raises(error):
            batches_of(episodes, 100)
        for thread in set(threading.enumerate()) - before:
            thread.join(timeout=10)
            assert not thread.is_alive()
