"""What ``--mode export`` writes: complete without the training data, whole or not at all, readable by others."""

import json
import os
import shutil
import stat

import pytest

from rad_jax.main import main
from rad_jax.runs import export, trained_on
from rad_jax.runs.export import load_pretrained
from rad_jax.runs.training_run import open_training_run
from tests.toy_run import assert_same, read_state


@pytest.fixture
def workdir(toy, tmp_path):
    """A run with a memory, to be exported."""
    return shutil.copytree(toy.written("lstm-f", "action+pose"), tmp_path / "run")


def test_the_description_says_what_was_trained_on_what(workdir):
    description = json.loads((export.export(workdir) / "config.json").read_text())
    assert description["parameters"] == "ema" and description["step"] == 24
    assert description["tokenizer"]["name"] == "patch_pca"
    assert description["tokenizer"]["file"] == "tokenizer.npz"
    assert len(description["data"]["actions"]) and len(description["data"]["pose"])
    assert description["frame_size"] == [16, 16]
    run = json.loads((workdir / "config.json").read_text())
    assert run["data"]["make"] and run["evaluate"]["make"]
    for section in ("data", "evaluate"):
        run[section] |= {key: "" for key in ("make", "more_make") if key in run[section]}
    assert description["config"] == run


def test_the_command_writes_it_and_can_take_the_last_steps_parameters(toy, tmp_path, capsys):
    workdir = shutil.copytree(toy.written("lstm-f"), tmp_path / "run")
    before = {p.name for p in workdir.iterdir()}  # other tests roll out the run
    for part in ("ema", "params"):
        arguments = toy.arguments(workdir, "--mode", "export", "--parameters", part)
        assert main(arguments) == 0
        assert capsys.readouterr().out.splitlines()[-1] == f"export: {workdir / 'export'}"
        state = read_state(workdir, open_training_run(toy.config()))[0]
        assert_same(load_pretrained(workdir / "export").params, getattr(state, part))
        assert {p.name for p in workdir.iterdir()} == before | {"export"}
    assert main(toy.arguments(tmp_path / "none", "--mode", "export")) == 2
    assert "holds no run" in capsys.readouterr().err
    assert main(toy.arguments(workdir, "--mode", "export", variant="ttt-f")) == 2
    assert "memory.kind=ttt" in capsys.readouterr().err


def test_a_large_tokenizer_is_left_out(workdir, monkeypatch, caplog):
    monkeypatch.setattr(trained_on, "SMALL", 100)
    directory = export.export(workdir)
    assert "patch_pca" in caplog.text and str(workdir / "tokenizer.npz") in caplog.text
    assert not (directory / "tokenizer.npz").exists()
    description = json.loads((directory / "config.json").read_text())
    assert description["tokenizer"]["file"] is None and description["tokenizer"]["fingerprint"]


def test_a_failed_export_leaves_the_one_before(workdir, monkeypatch):
    export.export(workdir)
    before = {p.name: p.stat().st_mtime_ns for p in (workdir / "export").iterdir()}

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(export, "save", fail)
    with pytest.raises(OSError, match="no space"):
        export.export(workdir)
    assert {p.name: p.stat().st_mtime_ns for p in (workdir / "export").iterdir()} == before
    assert [p.name for p in workdir.iterdir() if p.name.startswith(".export")] == []


def test_whoever_may_read_the_directory_may_read_its_files(workdir):
    """The files have the mode that the umask gives, also those that a library writes."""
    before = os.umask(0o022)
    try:
        directory = export.export(workdir)
    finally:
        os.umask(before)
    for path in directory.rglob("*"):
        expected = 0o755 if path.is_dir() else 0o644
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_an_export_leaves_that_of_another_process_alone(workdir):
    """Also if both have the same number, as in containers."""
    other = workdir / f".export.{os.getpid()}.tmp"
    other.mkdir()
    export.export(workdir)
    assert other.exists()
