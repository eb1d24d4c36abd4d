"""A trained model is read from its work directory alone: without data, from anywhere, and without running anything."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest

from rad_jax.config import ConfigError
from rad_jax.main import main
from rad_jax.runs.export import export
from rad_jax.runs.restore import load_trained
from rad_jax.tokenizer import TokenizerError
from tests.toy_run import assert_same


@pytest.fixture
def workdir(toy, tmp_path):
    """A copy of a run, somewhere else than where it was trained."""
    return shutil.copytree(toy.written(), tmp_path / "run")


@contextlib.contextmanager
def hidden(toy):
    """The training data are gone."""
    away = toy.rooms.rename(toy.rooms.with_name("hidden"))
    try:
        yield
    finally:
        away.rename(toy.rooms)


def test_an_export_without_the_data_is_that_with_them(workdir, toy):
    def content():
        directory = export(workdir)
        return {
            p.name: p.read_bytes() for p in directory.iterdir() if p.is_file() and p.suffix != ".safetensors"
        }

    before = content()
    with hidden(toy):
        assert content() == before
    assert set(before) == {"config.json", "tokenizer.npz"}


def test_a_relative_work_directory_is_read_from_anywhere(workdir, monkeypatch, tmp_path):
    expected = load_trained(workdir)
    monkeypatch.chdir(workdir.parent)
    found = load_trained("run")
    monkeypatch.chdir(tmp_path.parent)
    assert found.config == expected.config and Path(found.config.tokenizer.path).is_file()
    assert_same(found.params, expected.params)


def test_a_tokenizer_that_has_moved_is_named_by_the_users_configuration(workdir, toy, tmp_path):
    moved = shutil.move(workdir / "tokenizer.npz", tmp_path / "moved.npz")
    with pytest.raises(TokenizerError, match=r"tokenizer\.path") as info:
        load_trained(workdir)
    assert str(workdir / "tokenizer.npz") in str(info.value) and len(str(info.value).splitlines()) == 1
    config = toy.config(changes={"tokenizer.path": str(moved)})
    assert load_trained(workdir, config).config.tokenizer.path == str(moved)


def test_a_run_that_does_not_keep_what_it_was_trained_on_is_one_line(toy, tmp_path, capsys):
    """And the command that the line names repairs it."""
    workdir = shutil.copytree(toy.written(), tmp_path / "run")
    (workdir / "trained_on.json").unlink()
    (workdir / "tokenizer.npz").unlink()
    for mode in ("evaluate", "rollout", "export"):
        capsys.readouterr()
        assert main(toy.arguments(workdir, "--mode", mode)) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert str(workdir) in line and "trained_on.json" in line and "training command" in line
    assert main(toy.arguments(workdir)) == 0
    assert load_trained(workdir).step == 24


def test_a_tokenizer_of_another_run_is_refused(workdir):
    path = workdir / "trained_on.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprint": "0" * 64}))
    with pytest.raises(ConfigError, match="another tokenizer than it keeps"):
        load_trained(workdir)
