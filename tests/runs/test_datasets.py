"""Data sets that are there, missing, made on demand, or cannot be made."""

import dataclasses
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from rad_jax.config import ConfigError, DataConfig, EvaluateConfig
from rad_jax.data import DataError, EpisodeSpec, record_tokenizer, write_split
from rad_jax.runs.datasets import open_episodes, open_sets, run_command


def write(directory, tokenizer=True):
    spec = EpisodeSpec(name="toy", arrays={"actions": ((2,), "float32")}, statics={}, chunk=2, info={})
    episodes = [{"actions": np.full((3, 2), i, np.float32)} for i in range(2)]
    write_split(
        directory, "train", spec, lambda chosen: [episodes[i] for i in chosen], 2, episodes_per_shard=2
    )
    if tokenizer:
        record_tokenizer(directory, "patch_pca", "0" * 64, "tokenizer.npz")


def command(directory, code=""):
    """A shell command that writes the toy data set, with the python that the shell finds."""
    here = [str(Path(__file__).parents[2])]
    return "python -c " + shlex.quote(
        f"import sys; sys.path[:0] = {here}; {code}from tests.runs.test_datasets import write; write({str(directory)!r})"
    )


def test_what_is_there_is_opened_and_nothing_runs(tmp_path):
    write(tmp_path / "toy")
    config = DataConfig(path=str(tmp_path / "toy"), make=f"touch {tmp_path / 'ran'}", auto_make=True)
    assert len(open_episodes(config)) == 2
    assert not (tmp_path / "ran").exists()


def test_what_is_missing_is_an_error_with_its_command(tmp_path):
    config = DataConfig(path=str(tmp_path / "toy"), make="make the toy")
    with pytest.raises(DataError) as caught:
        open_episodes(config)
    first, second = str(caught.value).splitlines()
    assert str(tmp_path / "toy") in first
    assert second == "make it with: make the toy"
    with pytest.raises(DataError, match="no data set"):
        open_episodes(DataConfig(path=str(tmp_path / "toy")))
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_made_when_wanted(tmp_path):
    toy = tmp_path / "toy"
    assert len(open_episodes(DataConfig(path=str(toy), make=command(toy), auto_make=True))) == 2


def test_processes_that_miss_the_same_data_make_them_once(tmp_path):
    toy, log = tmp_path / "made" / "toy", tmp_path / "log"
    make = f"sleep 0.2; echo made >> {log}; {command(toy)}"
    config = DataConfig(path=str(toy), make=make, auto_make=True)
    with ThreadPoolExecutor() as pool:  # every opened file has a lock of its own, as in two processes
        assert [len(one) for one in pool.map(open_episodes, [config] * 2)] == [2, 2]
    assert log.read_text() == "made\n"


def test_training_data_without_tokenizer_count_as_missing(tmp_path):
    write(tmp_path / "toy", tokenizer=False)
    path = str(tmp_path / "toy")
    with pytest.raises(DataError, match="no tokenizer\nmake it with: fit it"):
        open_episodes(DataConfig(path=path, make="fit it"))
    assert len(open_episodes(EvaluateConfig(path=path, split="train"))) == 2


def test_a_command_that_fails_is_named(tmp_path):
    with pytest.raises(DataError, match=r"status 3: exit 3"):
        open_episodes(DataConfig(path=str(tmp_path / "toy"), make="exit 3", auto_make=True))


def test_python_is_this_python(tmp_path):
    run_command(f"python -c 'import sys; print(sys.prefix)' > {tmp_path / 'prefix'}")
    assert (tmp_path / "prefix").read_text().strip() == sys.prefix


def test_evaluation_sets_are_named_after_their_protocol_and_made_when_wanted(toy, tmp_path):
    again = tmp_path / "again"
    config = EvaluateConfig(
        path=str(toy.mazes),
        more=f"same={toy.mazes}, other={again}",
        make="unused",
        more_make=f"cp -r {toy.mazes} {{path}} && touch {tmp_path}/{{name}}",
        auto_make=True,
    )
    sets = open_sets(config)
    assert list(sets) == ["return", "same", "other"]
    assert sets["other"].directory == again and (tmp_path / "other").exists()
    assert not (tmp_path / "same").exists()  # it was there
    taken = dataclasses.replace(config, more=f"return={again}")
    assert list(open_sets(taken)) == [toy.mazes.name, "return"]


@pytest.mark.parametrize("more", ["loop", "loop=", "=x", "a=x,a=y", "a b=x", "a=x,,b"])
def test_further_sets_need_names_and_directories(more):
    with pytest.raises(ConfigError, match=r"evaluate\.more="):
        EvaluateConfig(more=more)
