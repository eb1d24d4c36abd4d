"""A run or an export of a stranger whose memory is code of the stranger's: nothing imports it that the user did not name."""

import json
import shutil
import sys

import pytest
from safetensors.numpy import load_file, save_file

from rad_jax.comparison import worker
from rad_jax.config import ConfigError
from rad_jax.config import own as kinds
from rad_jax.evaluation.evaluate import evaluate
from rad_jax.main import main
from rad_jax.runs import load_pretrained, load_trained
from rad_jax.runs.export import export
from rad_jax.runs.initial import read_source
from rad_jax.runs.manifest import FILE as MANIFEST
from rad_jax.training.loop import train
from tests.stranger_folders import MODES, SHORT, change, refused, snapshot
from tests.toy_run import STEPS

KIND = "evil_memory.module:X"
HOW = f"--config.memory.kind={KIND}"


@pytest.fixture(autouse=True)
def bystander(tmp_path, monkeypatch):
    """The stranger's module can be imported, and would leave a mark; nothing is written anywhere."""
    package = tmp_path / "evil_memory"
    package.mkdir()
    (package / "module.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(kinds, "_trusted", set())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = snapshot(tmp_path)
    yield
    assert snapshot(tmp_path) == before
    assert "evil_memory" not in sys.modules


@pytest.fixture
def workdir(toy, tmp_path):
    return armed(shutil.copytree(toy.written(), tmp_path / "stranger" / "lstm-f"))


def armed(workdir):
    config = json.loads((workdir / "config.json").read_text())
    config["memory"] |= {"kind": KIND, "own": "rank=8"}
    (workdir / "config.json").write_text(json.dumps(config))
    return workdir


def test_no_mode_imports_it(workdir, toy, tmp_path, capsys):
    before = contents(workdir.parent)
    for mode, do in MODES.items():
        assert do(toy, workdir.parent if mode == "compare" else workdir) == 2, mode
        refused(capsys, workdir, HOW)
    assert worker.main(["run", *toy.arguments(workdir, **SHORT)]) == 2
    refused(capsys, workdir, HOW)
    own = shutil.copytree(toy.written(), tmp_path / "stranger twin")
    assert main(toy.arguments(own, "--mode", "evaluate", "--baseline", str(workdir), **SHORT)) == 2
    refused(capsys, workdir, HOW)
    fresh = tmp_path / "fresh"
    assert main(toy.arguments(fresh, train__init_from=workdir)) == 2
    refused(capsys, workdir, HOW)
    assert not fresh.exists() and contents(workdir.parent) == before


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_another_kind_that_the_user_named_trusts_no_other(workdir, toy, capsys):
    for kind in ("evil_memory.module:Y", "evil_memory:X", "evil_memory.module.module:X"):
        assert main(toy.arguments(workdir, "--mode", "rollout", memory__kind=kind, **SHORT)) == 2
        refused(capsys, workdir, HOW)


def test_no_function_imports_it(workdir, toy):
    config = toy.config()
    for do in (
        lambda: load_trained(workdir),
        lambda: load_trained(workdir, config),
        lambda: train(config, workdir),
        lambda: evaluate(config, workdir),
        lambda: export(workdir),
        lambda: read_source(workdir),
    ):
        with pytest.raises(ConfigError, match=f"{KIND} is code from outside"):
            do()


def test_a_checkpoint_names_none_either(workdir, toy, capsys):
    """A run that lost its config.json has it in the manifest of its checkpoints."""
    config = json.loads((workdir / "config.json").read_text())
    (workdir / "config.json").unlink()
    path = workdir / "checkpoints" / str(STEPS) / MANIFEST
    change(path, metadata=json.loads(path.read_text())["metadata"] | {"config": config})
    assert main(toy.arguments(workdir)) == 2
    refused(capsys, path, HOW)


@pytest.mark.parametrize("form", ["config.json", "model.safetensors", "orbax/manifest/manifest.json"])
def test_an_export_names_none(form, toy, tmp_path):
    model = export(shutil.copytree(toy.written(), tmp_path / "stranger run"))
    description = json.loads((model / "config.json").read_text())
    description["config"]["memory"] |= {"kind": KIND, "own": "rank=8"}
    if form == "model.safetensors":
        with_description(model / form, json.dumps(description))
        with pytest.raises(ConfigError, match=KIND):
            read_source(model)
        return
    (model / "config.json").write_text(json.dumps(description))
    if form.startswith("orbax"):
        change(model / form, metadata=description)
        (model / "config.json").unlink()
    with pytest.raises(ConfigError, match=KIND):
        load_pretrained(model)


def with_description(path, text):
    save_file(load_file(path), path, {"rad_jax": text})
