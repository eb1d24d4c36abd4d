"""What is written is what is read, and only what fits the schema is written."""

import pickle

import numpy as np
import pytest

from rad_jax.data import DataError, Episodes, EpisodeSpec, reader, record_tokenizer, write_split
from rad_jax.data.spec import DTYPES
from tests.data import toy_episodes as toy


def test_every_window_of_every_episode_is_the_slice_that_was_written(tmp_path):
    data = toy.write(tmp_path, 3)
    assert data.lengths.tolist() == [11, 14, 17] and data.lengths.dtype == np.int64
    assert data.ids == ["train-000000", "train-000001", "train-000002"] and len(data) == 3
    for number, length in enumerate(data.lengths):
        original = toy.episode(number)
        for start in range(length):
            for stop in range(start + 1, length + 1):
                found = data.read(number, start, stop)
                assert list(found) == list(toy.SPEC.arrays)
                for name, array in found.items():
                    np.testing.assert_array_equal(array, original[name][start:stop], strict=True)
        for name, array in data.static(number).items():
            np.testing.assert_array_equal(array, original[name])


def test_every_dtype_comes_back(tmp_path):
    spec = EpisodeSpec(
        name="types",
        arrays={f"a_{dtype}": ((2,), dtype) for dtype in DTYPES},
        statics={f"s_{dtype}": ((3,), dtype) for dtype in DTYPES},
        chunk=2,
    )
    rng = np.random.default_rng(0)

    def values(shape, dtype):
        dtype = np.dtype(dtype)
        if dtype.kind == "f":
            return rng.standard_normal(shape).astype(dtype)
        whole = rng.integers(0, 256, (*shape, dtype.itemsize), np.uint8)
        return whole.view(dtype)[..., 0] if dtype.kind != "b" else whole[..., 0] > 127

    episode = {f"a_{dtype}": values((5, 2), dtype) for dtype in DTYPES}
    episode |= {f"s_{dtype}": values((3,), dtype) for dtype in DTYPES}
    write_split(tmp_path, "train", spec, lambda indices: [episode], 1, episodes_per_shard=1)
    data = Episodes(tmp_path, "train")
    for name, array in {**data.read(0), **data.static(0)}.items():
        np.testing.assert_array_equal(array, episode[name], strict=True)


def test_arrays_that_are_not_contiguous_or_big_endian_are_stored_by_value(tmp_path):
    spec = EpisodeSpec("odd", {"a": ((3, 2), "float32")})
    base = np.arange(42, dtype=np.float32).reshape(2, 3, 7).T
    for number, array in enumerate((np.asfortranarray(base), base.astype(">f4")[::-1])):
        write_split(
            tmp_path, f"s{number}", spec, lambda _, array=array: [{"a": array}], 1, episodes_per_shard=1
        )
        np.testing.assert_array_equal(Episodes(tmp_path, f"s{number}").read(0)["a"], array)


def test_reading_decodes_only_the_records_a_window_touches(tmp_path):
    data = toy.write(tmp_path, 2, 1)
    asked = []
    records = data._records
    data._records = lambda entry, first, stop: (
        asked.append((entry["shard"], first, stop)) or records(entry, first, stop)
    )
    data.read(1, 4, 8)
    data.read(1, 7, 9)
    data.static(0)
    assert asked == [(1, 1, 2), (1, 1, 3), (0, 0, 1)]


def test_no_more_shards_are_open_than_allowed_and_those_last_used_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "OPEN_FILES", 2)
    data = toy.write(tmp_path, 5, 1)
    opened, open_file = [], reader._open
    monkeypatch.setattr(reader, "_open", lambda path: opened.append(path.name[-14:-9]) or open_file(path))
    for number in (0, 1, 0, 2, 0, 1, 4, 3, 4):
        np.testing.assert_array_equal(data.read(number)["pose"], toy.episode(number)["pose"])
    assert opened == ["00000", "00001", "00002", "00001", "00004", "00003"]


def test_what_is_read_belongs_to_the_reader(tmp_path):
    data = toy.write(tmp_path, 1)
    first = data.read(0, 0, 5)
    first["frames"][:] = 0
    assert data.read(0, 0, 5)["frames"].any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda data: data.read(0, 0, 12), "episode 'train-000000'.*has 11 frames, asked for 0..12"),
        (lambda data: data.read(0, 5, 5), "asked for 5..5"),
        (lambda data: data.read(0, -1, 3), "asked for -1..3"),
        (lambda data: data.read(2), "episodes 0..1, asked for 2"),
        (lambda data: data.static(-1), "episodes 0..1, asked for -1"),
        (lambda data: data.read(0, 0, 3, ["depth"]), "no array 'depth'; there are: frames, actions, pose"),
        (lambda data: data.read(0, 0, 3, ["layout"]), "no array 'layout'"),
        (lambda data: Episodes(data.directory, "test"), "split 'test'.*there are: train"),
        (lambda data: Episodes(data.directory / "other", "train"), "no data set at .*other"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, call, message):
    with pytest.raises(DataError, match=message):
        call(toy.write(tmp_path, 2))


def test_an_opened_split_can_be_pickled(tmp_path):
    data = toy.write(tmp_path, 2)
    data.read(0)
    again = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(again.read(1)["pose"], toy.episode(1)["pose"])


def test_the_tokenizer_is_recorded_for_all_splits_and_survives_another_split(tmp_path):
    assert toy.write(tmp_path, 2).tokenizer is None
    record_tokenizer(tmp_path, "patch_pca", "ab" * 32, tmp_path / "tokenizer.npz")
    expected = {"name": "patch_pca", "fingerprint": "ab" * 32, "path": str(tmp_path / "tokenizer.npz")}
    assert toy.write(tmp_path, 2, split="test").tokenizer == expected
    assert Episodes(tmp_path, "train").tokenizer == expected
    with pytest.raises(DataError, match="no data set"):
        record_tokenizer(tmp_path / "nothing", "patch_pca", "", "")


def _with(**changes):
    return {**toy.episode(1), **changes}


def _nan(name):
    array = toy.episode(1)[name].copy()
    array[2, 1] = np.nan
    return _with(**{name: array})


@pytest.mark.parametrize(
    ("episode", "message"),
    [
        (
            _with(frames=np.zeros((14, 2, 3, 3), "f4")),
            "'train-000001': array 'frames' is float32, expected uint8",
        ),
        (_with(frames=np.zeros((14, 2, 3), np.uint8)), r"'frames' has shape .*expected \(14, 2, 3, 3\)"),
        (_with(frames=np.uint8(1)), r"'frames' has shape \(\)"),
        (_with(frames=np.zeros((13, 2, 3, 3), np.uint8)), "lengths .*'frames': 13, 'actions': 14"),
        (_with(n_context=np.int64(3)), "'n_context' is int64, expected int32"),
        (_with(layout=np.zeros((2, 3), np.uint8)), r"'layout' has shape \(2, 3\), expected \(2, 2\)"),
        (_with(depth=np.zeros(14)), "'depth' is not in the schema; known: actions, frames"),
        ({name: a for name, a in toy.episode(1).items() if name != "pose"}, "array 'pose' is missing"),
        (_with(**{name: toy.episode(1)[name][:0] for name in toy.SPEC.arrays}), "no frames"),
        (_nan("pose"), "'train-000001': array 'pose' has values that are not finite"),
    ],
)
def test_an_episode_that_does_not_fit_is_refused_and_nothing_of_its_shard_stays(tmp_path, episode, message):
    with pytest.raises(DataError, match=message):
        write_split(tmp_path, "train", toy.SPEC, lambda _: [toy.episode(0), episode], 2, episodes_per_shard=2)
    assert not list(tmp_path.glob("*toy-*")) and not list(tmp_path.glob("**/0*.json"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "Toy"}, "data set name 'Toy'"),
        ({"arrays": {}}, "no per-frame array"),
        ({"arrays": {"frames": ((2,), "complex64")}}, "array 'frames': dtype 'complex64'"),
        ({"arrays": {"frames": ((0,), "uint8")}}, r"'frames': shape \(0,\)"),
        ({"arrays": {"chunk": ((), "int32")}}, "'chunk' is taken twice or reserved"),
        ({"statics": {"frames": ((), "int32")}}, "'frames' is taken twice or reserved"),
        ({"chunk": 0}, "chunk is 0"),
        ({"info": {"pose": object()}}, "info cannot be stored as JSON"),
    ],
)
def test_a_schema_that_cannot_be_stored_is_refused(spec, message):
    with pytest.raises(DataError, match=message):
        EpisodeSpec(**{"name": "toy", "arrays": {"frames": ((2,), "uint8")}, **spec})


@pytest.mark.parametrize(("given", "message"), [(1, "ended before episode 1"), (3, "more episodes than")])
def test_the_number_of_episodes_must_be_what_was_asked_for(tmp_path, given, message):
    with pytest.raises(DataError, match=message):
        write_split(
            tmp_path, "train", toy.SPEC, lambda _: map(toy.episode, range(given)), 2, episodes_per_shard=2
        )


def test_two_episodes_of_one_name_are_refused(tmp_path):
    twins = [{**toy.episode(i), "episode_id": "same"} for i in range(2)]
    with pytest.raises(DataError, match="two episodes called 'same'"):
        write_split(tmp_path, "train", toy.SPEC, lambda r: [twins[r.start]], 2, episodes_per_shard=1)
