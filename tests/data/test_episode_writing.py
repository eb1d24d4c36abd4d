"""A split that was begun is finished, not begun again: same bytes wherever the run was stopped; never another content."""

import dataclasses
import functools
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from rad_jax.data import DataError, Episodes, write_split
from rad_jax.data import index as index_file
from rad_jax.data.index import index_locked
from rad_jax.data.shards import SplitLayout
from rad_jax.data.writer import begin, finish, write_shard
from tests.data import toy_episodes as toy


def test_a_run_killed_around_any_rename_is_continued_to_the_same_bytes(tmp_path):
    # In a process of its own, which forks: this one has threads by now. See `_killed_everywhere` below.
    paths = [os.fspath(Path(toy.__file__).parent), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = f"import test_episode_writing as t; t._killed_everywhere({os.fspath(tmp_path)!r})"
    run = subprocess.run([sys.executable, "-c", command], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    # plan.json, 3 shards and what is kept of each, features.json, dataset_info.json, index.json, and the directory of what is
    # kept, which is set aside: each before and after its rename.
    assert run.stdout.split()[-1] == "22"


def _killed_everywhere(tmp_path: str) -> None:
    """Kills a writer just before and just after its n-th rename, for every n, and lets another one finish."""
    import signal

    import array_record.python.array_record_module  # noqa: F401  (loaded once, not in every child)
    import tensorflow_datasets  # noqa: F401

    replace = os.replace

    def write_in_child(directory, kill_at=None, after=False):
        child = os.fork()
        if child == 0:
            count = 0

            def replace_or_die(source, target):
                nonlocal count
                count += 1
                if count == kill_at and not after:
                    os.kill(os.getpid(), signal.SIGKILL)
                replace(source, target)
                if count == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

            os.replace = replace_or_die
            toy.write(directory)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    reference = Path(tmp_path, "reference")
    assert write_in_child(reference) == 0
    assert not list(reference.glob("*.tmp")) and not list(reference.glob("*progress*"))
    kills = 0
    for number in range(1, 100):
        for after in (False, True):
            directory = Path(tmp_path, f"{number}-{after}")
            if write_in_child(directory, number, after) == 0:
                print(kills)
                return
            kills += 1
            if not (directory / "index.json").exists() and (directory / "train.progress").exists():
                try:
                    Episodes(directory, "train")
                    raise AssertionError("an unfinished split was opened")
                except DataError as error:
                    assert "it has no index.json" in str(error)
            assert write_in_child(directory) == 0
            assert toy.content(directory) == toy.content(reference), directory


def test_finished_shards_are_kept_and_only_the_rest_is_made(tmp_path):
    asked = []

    def fails_in_the_third_shard(indices):
        asked.append(indices)
        yield toy.episode(indices.start)
        if indices.start == 6:
            raise RuntimeError("the renderer broke")
        yield from map(toy.episode, indices[1:])

    with pytest.raises(RuntimeError, match="renderer broke"):
        write_split(tmp_path, "train", toy.SPEC, fails_in_the_third_shard, 8, episodes_per_shard=3)
    assert asked == [range(3), range(3, 6), range(6, 8)]
    shards = sorted(tmp_path.glob("toy-*"))
    assert [path.name[-14:] for path in shards] == ["00000-of-00003", "00001-of-00003"]
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in shards]
    seen = []

    def rest(indices):
        asked.append(indices)
        return toy.make_episodes(indices)

    count = {"episodes_per_shard": 3, "progress": lambda done, total: seen.append((done, total))}
    write_split(tmp_path, "train", toy.SPEC, rest, 8, **count)
    assert asked[3:] == [range(6, 8)] and seen == [(6, 8), (7, 8), (8, 8)]
    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in shards] == before
    assert Episodes(tmp_path, "train").lengths.tolist() == [11 + 3 * i for i in range(8)]


def test_a_finished_split_is_not_made_again_but_a_deleted_shard_is(tmp_path):
    toy.write(tmp_path)
    whole = toy.content(tmp_path)

    write_split(tmp_path, "train", toy.SPEC, _never, 7, episodes_per_shard=3)
    next(tmp_path.glob("toy-*00001-of*")).unlink()
    with pytest.raises(AssertionError, match=r"range\(3, 6\)"):
        write_split(tmp_path, "train", toy.SPEC, _never, 7, episodes_per_shard=3)
    toy.write(tmp_path)
    assert toy.content(tmp_path) == whole


def _changed(**info):
    return dataclasses.replace(toy.SPEC, info={**toy.SPEC.info, **info})


ARRAYS = {**toy.SPEC.arrays, "actions": ((5,), "float32")}
OTHERS = [
    (_changed(seed=4), 7, 3, "info.seed = 3, not 4"),
    (_changed(walls="red"), 7, 3, "info.walls = 'absent', not 'red'"),
    (toy.SPEC, 8, 3, "num_episodes = 7, not 8"),
    (toy.SPEC, 7, 2, "episodes_per_shard = 3, not 2"),
    (dataclasses.replace(toy.SPEC, chunk=5), 7, 3, "chunk = 4, not 5"),
    (dataclasses.replace(toy.SPEC, name="other"), 7, 3, "name = 'toy', not 'other'"),
    (dataclasses.replace(toy.SPEC, statics={}), 7, 3, "statics.n_context = .* not 'absent'"),
    (
        dataclasses.replace(toy.SPEC, arrays=ARRAYS),
        7,
        3,
        r"arrays.actions = \[\[4\], .*\], not \[\[5\], .*\]",
    ),
]


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(("spec", "episodes", "per_shard", "message"), OTHERS)
def test_another_content_is_refused_and_nothing_changes(
    tmp_path, finished, spec, episodes, per_shard, message
):
    if finished:
        toy.write(tmp_path)
    else:
        with pytest.raises(LookupError):
            write_split(tmp_path, "train", toy.SPEC, _only_the_first_shard, 7, episodes_per_shard=3)
    before = toy.content(tmp_path)
    with pytest.raises(DataError, match=message) as error:
        write_split(tmp_path, "train", spec, toy.make_episodes, episodes, episodes_per_shard=per_shard)
    assert "\n" not in str(error.value)
    assert toy.content(tmp_path) == before


def _only_the_first_shard(indices):
    if indices.start:
        raise LookupError
    return toy.make_episodes(indices)


def test_an_unfinished_split_says_so(tmp_path):
    toy.write(tmp_path, split="test")
    with pytest.raises(LookupError):
        write_split(tmp_path, "train", toy.SPEC, _only_the_first_shard, 7, episodes_per_shard=3)
    with pytest.raises(DataError, match=r"split 'train' .* was not finished"):
        Episodes(tmp_path, "train")
    for name in ("plan.json", "00000.json"):
        path = tmp_path / "train.progress" / name
        whole = path.read_text()
        for text in ("{", "[]", '{"format": 1}'):
            path.write_text(text)
            with pytest.raises(DataError, match=rf"{name} is damaged .*: delete .*train\.progress"):
                toy.write(tmp_path)
        path.write_text(whole)
    toy.write(tmp_path)


def test_splits_with_infos_of_their_own_share_a_directory(tmp_path):
    toy.write(tmp_path, 4, 3)
    write_split(tmp_path, "test", _changed(protocol="loop"), toy.make_episodes, 2, episodes_per_shard=1)
    assert Episodes(tmp_path, "test").spec.info["protocol"] == "loop"
    assert Episodes(tmp_path, "train").spec == toy.SPEC


def test_an_index_that_is_being_changed_is_waited_for_but_not_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(index_file, "PATIENCE", 0.1)
    with index_locked(tmp_path), pytest.raises(DataError, match=f"process {os.getpid()} on .* is writing to"):
        toy.write(tmp_path)
    toy.write(tmp_path)


def test_shards_are_written_in_any_order_by_anybody_and_the_last_one_completes_the_split(tmp_path):
    toy.write(tmp_path / "one")
    layout = SplitLayout(tmp_path / "many", "train", toy.SPEC, 7, 3)
    for number in (2, 0, 1):
        begin(layout)
        assert not finish(layout)
        assert write_shard(layout, number, toy.make_episodes)
        assert not write_shard(layout, number, _never)
    assert finish(layout) and finish(layout)
    assert not write_shard(layout, 0, _never, wait=True)
    assert toy.content(tmp_path / "many") == toy.content(tmp_path / "one")


def test_a_shard_that_another_process_writes_is_left_to_it_or_waited_for(tmp_path):
    layout = SplitLayout(tmp_path, "train", toy.SPEC, 7, 3)
    begin(layout)
    path = os.fspath(layout.progress_directory / "00001.claim")
    code = f"f = open({path!r}, 'a'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
    command = [sys.executable, "-c", f"import fcntl; {code}"]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    assert not write_shard(layout, 1, _never)
    written = []
    job = functools.partial(write_shard, layout, 1, toy.make_episodes, wait=True)
    waiting = threading.Thread(target=lambda: written.append(job()))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    holder.kill()  # and gives back what it held
    waiting.join(60)
    holder.communicate()
    assert written == [True]
    toy.write(tmp_path).verify()


def _never(indices):
    raise AssertionError(f"asked for {indices}")


def test_another_split_that_is_being_written_is_of_the_same_data_set(tmp_path):
    begin(SplitLayout(tmp_path, "train", toy.SPEC, 7, 3))
    other = dataclasses.replace(toy.SPEC, chunk=5)
    with pytest.raises(DataError, match=r"the unfinished split 'train' .* chunk = 4, not 5"):
        begin(SplitLayout(tmp_path, "test", other, 2, 1))
    toy.write(tmp_path, 2, split="test")
    toy.write(tmp_path)


def test_the_tokenizer_of_a_layout_becomes_that_of_the_data_set(tmp_path):
    first, second = ({"name": "n", "fingerprint": f * 64, "path": "p"} for f in "ab")
    layouts = [SplitLayout(tmp_path, "train", toy.SPEC, 7, 7, t) for t in (first, second)]
    begin(layouts[0])
    with pytest.raises(DataError, match=r"unfinished split 'train' .* tokenizer\.fingerprint = 'aaaa"):
        begin(layouts[1])
    write_shard(layouts[0], 0, toy.make_episodes)
    finish(layouts[0])
    assert Episodes(tmp_path, "train").tokenizer == first
    with pytest.raises(DataError, match=r"the data set .* tokenizer\.fingerprint = 'aaaa"):
        begin(dataclasses.replace(layouts[1], split="test"))
    assert toy.write(tmp_path, 2, split="test").tokenizer == first


@pytest.mark.parametrize("same_size", [True, False])
def test_a_shard_that_was_mended_differently_is_what_the_index_says(tmp_path, same_size):
    """Whatever the run that mends it is stopped at: the index never describes bytes that are not there."""
    toy.write(tmp_path)
    path = tmp_path / "toy-train.array_record-00001-of-00003"
    path.unlink()
    layout = SplitLayout(tmp_path, "train", toy.SPEC, 7, 3)
    begin(layout)

    def mended(indices):
        for index in indices:
            yield toy.episode(index if same_size else index + 1) | {"n_context": np.int32(9)}

    assert write_shard(layout, 1, mended)
    assert not write_shard(layout, 0, _never)
    begin(layout)  # as a run does that was stopped here
    assert finish(layout)
    data = Episodes(tmp_path, "train")
    data.verify()
    assert data.static(4)["n_context"] == 9


@pytest.mark.parametrize(("split", "episodes"), [("train/1", 2), ("train", 0)])
def test_splits_that_cannot_be_are_refused(tmp_path, split, episodes):
    with pytest.raises(DataError, match="split"):
        toy.write(tmp_path, episodes, split=split)
