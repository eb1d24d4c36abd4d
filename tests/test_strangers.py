"""A run, an export and a data set of a stranger: nothing of them runs, nothing is written outside, no reading hangs."""

import hashlib
import json
import shutil
import signal

import pytest

from data_prep import fit_tokenizer, look
from rad_jax.comparison import compare as comparison
from rad_jax.comparison import worker
from rad_jax.comparison.jobs import JobFailed
from rad_jax.data import DataError, Episodes
from rad_jax.data.index import write_index
from rad_jax.errors import UserError
from rad_jax.evaluation.evaluate import evaluate
from rad_jax.files.folders import UnsafeFolder
from rad_jax.main import main
from rad_jax.runs import load_pretrained, load_trained
from rad_jax.runs.datasets import open_sets
from rad_jax.runs.export import export
from rad_jax.runs.initial import _read_run
from rad_jax.runs.training_run import open_training_run
from rad_jax.training.loop import train
from tests.data_prep.commands import run
from tests.evaluation.toy_scores import predict_truth
from tests.stranger_folders import (
    COMMAND,
    MODES,
    SHORT,
    change,
    change_info,
    hostile,
    refused,
    replace_by_link,
    replace_by_pipe,
    snapshot,
)
from tests.toy_run import STEPS

LONGEST = 300  # seconds after which a reader is said to wait for ever


@pytest.fixture(autouse=True)
def bystander(tmp_path, monkeypatch):
    """What lies beside the stranger's folders, and where commands start, is afterwards what it was before."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    (outside / "folder").mkdir()
    (outside / "folder" / "file").write_text("precious")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = snapshot(tmp_path)
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(LONGEST)
    yield outside
    signal.alarm(0)
    assert snapshot(tmp_path) == before


def _give_up(*_):
    raise AssertionError("a reader waits for ever")


@pytest.fixture
def workdir(toy, tmp_path):
    """A run of a stranger, which holds everything that a run can."""
    return shutil.copytree(toy.written(), tmp_path / "stranger")


@pytest.fixture(scope="module")
def exported(toy, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("exported") / "run"
    return export(shutil.copytree(toy.written(), workdir))


@pytest.fixture
def model(exported, tmp_path):
    """An export of a stranger."""
    return shutil.copytree(exported, tmp_path / "stranger export")


@pytest.fixture
def rooms(toy, tmp_path):
    return shutil.copytree(toy.rooms, tmp_path / "stranger rooms")


@pytest.fixture
def mazes(toy, tmp_path):
    return shutil.copytree(toy.mazes, tmp_path / "stranger mazes")


# What runs


@pytest.fixture
def armed(workdir, toy, bystander):
    hostile(workdir / "config.json", bystander / "mark")
    return workdir


def makes_anything(config):
    data, evaluation = config.data, config.evaluate
    return any((data.make, data.auto_make, evaluation.make, evaluation.more_make, evaluation.auto_make))


def test_a_run_that_goes_on_or_is_read_runs_nothing(armed, toy, tmp_path, monkeypatch, capsys):
    """Nor does it look for the training data, which the user's own command would make."""
    predict_truth(monkeypatch)
    own = shutil.copytree(toy.written(), tmp_path / "stranger own")
    trained = load_trained(armed)
    assert not makes_anything(trained.config)
    short = SHORT | {"data__path": "none", "data__make": "touch mark", "data__auto_make": True}
    for mode in ("evaluate", "rollout", "export"):
        assert main(toy.arguments(armed, "--mode", mode, **short)) == 0, capsys.readouterr().err
    assert main(toy.arguments(own, "--mode", "evaluate", "--baseline", str(armed), **short)) == 0
    capsys.readouterr()
    assert worker.main(["run", *toy.arguments(armed, **short)]) == 0
    assert _read_run(armed)[0] == trained.config.model
    description = json.loads((armed / "export" / "config.json").read_text())
    assert (description["config"]["data"]["make"], description["config"]["evaluate"]["make"]) == ("", "")
    assert main(toy.arguments(armed)) == 2  # it was begun with train.init_from
    refused(capsys, "train.init_from", armed)


def test_a_run_that_is_resumed_runs_nothing(workdir, toy, bystander, capsys):
    values = json.loads((workdir / "config.json").read_text())
    values["data"]["make"] = values["evaluate"]["make"] = COMMAND.format(bystander / "mark")
    values["data"]["auto_make"] = values["evaluate"]["auto_make"] = True
    (workdir / "config.json").write_text(json.dumps(values))
    assert main(toy.arguments(workdir)) == 0
    assert f"finished at step {STEPS}" in capsys.readouterr().out


def test_a_comparison_of_runs_runs_its_own_jobs_alone(armed, toy, monkeypatch, capsys):
    jobs = []
    monkeypatch.setattr(comparison, "find_devices", lambda: (True, 1))
    monkeypatch.setattr(comparison, "run_jobs", lambda *given: jobs.append(given) or stop())
    folder = armed.parent / "stranger comparison"
    folder.mkdir()
    shutil.move(armed, folder / "lstm-f")
    change(
        folder / "lstm-f" / "config.json",
        train=json.loads((toy.written() / "config.json").read_text())["train"],
    )
    assert MODES["compare"](toy, folder) == 1
    assert "stopped" in capsys.readouterr().err
    assert "touch" not in str(jobs) and "rad_jax.comparison.worker" in str(jobs)


def stop():
    raise JobFailed("stopped")


@pytest.mark.parametrize("form", ["config.json", "model.safetensors", "orbax/manifest/manifest.json"])
def test_an_export_runs_nothing(form, model, bystander):
    path = model / "config.json"
    hostile(path, bystander / "mark", lambda values: values["config"])
    if form.startswith("orbax"):
        change(model / form, metadata=json.loads(path.read_text()))
        (model / "model.safetensors").unlink()
        path.unlink()
    assert not makes_anything(load_pretrained(model).config)


def test_a_data_set_runs_nothing(rooms, mazes, toy, bystander, monkeypatch, capsys, tmp_path):
    predict_truth(monkeypatch)
    for directory in (rooms, mazes):
        change_info(directory, command=COMMAND.format(bystander / "mark"), source="$(touch mark)")
    assert run(look.main, rooms) == 0
    workdir = shutil.copytree(toy.written(), tmp_path / "stranger run")
    assert main(toy.arguments(workdir, data__path=rooms)) == 0
    assert main(toy.arguments(workdir, "--mode", "rollout", evaluate__path=mazes)) == 0
    capsys.readouterr()


# Links that lead outside

FOLDERS = [
    "checkpoints",
    "evaluation",
    "rollout",
    "samples",
    "scores",
    "export",
    "tensorboard",
    "profile",
    "new",
]
FILES = [".lock", "config.json", "metrics.jsonl", "trained_on.json", "tokenizer.npz"]


@pytest.mark.parametrize("name", [*FOLDERS, *FILES, f"checkpoints/{STEPS}/state/d"])
def test_nothing_is_written_to_a_run_with_a_link_that_leads_outside(name, workdir, toy, bystander, capsys):
    target = bystander / ("folder" if name in FOLDERS else "file")
    replace_by_link(workdir / name, target)
    before = sorted(path.name for path in workdir.iterdir())
    for do in MODES.values():
        assert do(toy, workdir) == 1
        refused(capsys, workdir / name, target)
    assert sorted(path.name for path in workdir.iterdir()) == before


def test_the_functions_of_the_library_write_nothing_there_either(workdir, toy, bystander):
    replace_by_link(workdir / "evaluation", bystander / "none")
    config = toy.config()
    for do in (lambda: train(config, workdir), lambda: evaluate(config, workdir), lambda: export(workdir)):
        with pytest.raises(UnsafeFolder):
            do()


def test_a_folder_may_be_a_link_itself_and_have_links_within(workdir, toy, tmp_path, capsys):
    (workdir / "newest").symlink_to(f"checkpoints/{STEPS}")
    (tmp_path / "stranger link").symlink_to(workdir)
    assert main(toy.arguments(tmp_path / "stranger link")) == 0
    assert load_trained(tmp_path / "stranger link").step == STEPS
    capsys.readouterr()


def test_nothing_is_written_to_a_data_set_with_a_link_that_leads_outside(rooms, bystander, capsys):
    """One that is only read may have its shards elsewhere, as a cache of downloads does."""
    (shard,) = rooms.glob("*.array_record*")
    (rooms.parent / "stranger shards").mkdir()
    elsewhere = shutil.move(shard, rooms.parent / "stranger shards")
    shard.symlink_to(elsewhere)
    assert len(Episodes(rooms, "train").read(0)["frames"]) == 24
    (rooms / "look").symlink_to(bystander / "folder")
    assert run(look.main, rooms) == 2
    assert "look: error: " in capsys.readouterr().err
    assert run(look.main, rooms, "--out", rooms.parent / "stranger pictures") == 0
    capsys.readouterr()
    (rooms / ".lock").unlink(missing_ok=True)
    (rooms / ".lock").symlink_to(bystander / "file")
    assert run(fit_tokenizer.main, "--data", rooms, "--frames", 64) == 2
    assert ".lock" in capsys.readouterr().err


# Pipes and devices


MANIFEST = f"checkpoints/{STEPS}/manifest/manifest.json"


@pytest.mark.parametrize("name", [*FILES, "new", MANIFEST])
def test_a_pipe_in_a_run_holds_nobody_up(name, workdir, toy, capsys):
    replace_by_pipe(workdir / name)
    for do in MODES.values():
        assert do(toy, workdir) == 1
        refused(capsys, workdir / name)
    with pytest.raises(UserError):
        load_trained(workdir)


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.npz", "orbax/manifest/manifest.json"]
)
def test_a_pipe_in_an_export_holds_nobody_up(name, model):
    if name.startswith("orbax"):
        (model / "config.json").unlink()
        (model / "model.safetensors").unlink()
    replace_by_pipe(model / name)
    if name in ("config.json", "model.safetensors"):  # the other form is whole
        assert load_pretrained(model).step == STEPS
    else:
        with pytest.raises(UserError, match=str(model)):
            load_pretrained(model)


@pytest.mark.parametrize(
    ("name", "replace"),
    [
        *((name, replace_by_pipe) for name in ("index.json", "shard", "tokenizer.npz")),
        *((name, lambda path: replace_by_link(path, "/dev/zero")) for name in ("shard", "tokenizer.npz")),
    ],
)
def test_a_pipe_or_a_device_in_a_data_set_holds_nobody_up(name, replace, rooms, toy):
    path = next(rooms.glob("*.array_record*")) if name == "shard" else rooms / name
    replace(path)
    with pytest.raises(UserError, match=path.name):
        open_training_run(toy.config(changes={"data.path": str(rooms)}))


# Names that lead outside

NAMES = ["../outside/file", "/etc/passwd", "..", "", "a\0b", "\x1b[2J", "a/b", "\ud800"]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_names_no_file_outside(name, workdir, toy, capsys):
    change(workdir / "trained_on.json", file=name)
    status = main(toy.arguments(workdir, "--mode", "rollout", **SHORT))
    # A large tokenizer stays where it is, so an absolute path is read, and what it leads to is no tokenizer of this run.
    assert status == (1 if name == "/etc/passwd" else 2)
    refused(capsys, name if name == "/etc/passwd" else workdir / "trained_on.json")


@pytest.mark.parametrize("name", NAMES)
def test_an_export_names_no_file_outside(name, model):
    description = json.loads((model / "config.json").read_text())
    change(model / "config.json", tokenizer=description["tokenizer"] | {"file": name})
    with pytest.raises(UserError, match=r"tokenizer\.file") as info:
        load_pretrained(model)
    assert str(info.value).isprintable()


@pytest.mark.parametrize("name", NAMES)
def test_a_data_set_names_no_shard_and_no_episode_outside(name, mazes, toy, tmp_path, capsys):
    index = json.loads((mazes / "index.json").read_text())
    for group, key in (("shards", "file"), ("episodes", "id")):
        changed = json.loads(json.dumps(index))
        changed["splits"]["test"][group][0][key] = name
        write_index(mazes, changed)
        assert run(look.main, mazes, "--split", "test") == 2
        error = capsys.readouterr().err.rstrip("\n")
        assert "index.json" in error and error.isprintable()


@pytest.mark.parametrize("name", NAMES)
def test_the_scores_of_a_data_set_are_not_named_outside(name, mazes, toy):
    """They are stored under the protocol that the set names."""
    index = json.loads((mazes / "index.json").read_text())
    index["splits"]["test"]["info"]["protocol"] = name
    write_index(mazes, index)
    with pytest.raises(DataError, match=r"info\.protocol"):
        open_sets(toy.config(changes={"evaluate.path": str(mazes)}).evaluate)


@pytest.mark.parametrize("name", ["../outside/file", "/etc/passwd", "a\0b", "", ".."])
def test_a_tokenizer_outside_of_a_data_set_is_the_recorded_one_or_refused(name, rooms, toy):
    index = json.loads((rooms / "index.json").read_text())
    write_index(rooms, index | {"tokenizer": index["tokenizer"] | {"path": name}})
    with pytest.raises(UserError):
        open_training_run(toy.config(changes={"data.path": str(rooms)}))
    write_index(rooms, index | {"tokenizer": index["tokenizer"] | {"path": str(toy.rooms / "tokenizer.npz")}})
    open_training_run(toy.config(changes={"data.path": str(rooms)}))


@pytest.mark.parametrize(
    "name", ["../outside/file", "../../../../outside/file", "/etc/passwd", "state/../../x", "a\0b", ""]
)
def test_a_checkpoint_names_no_file_outside(name, workdir, toy, capsys):
    for path in (workdir / "checkpoints").glob("*/manifest/manifest.json"):
        files = json.loads(path.read_text())["files"]
        change(path, files=files | {name: [8, hashlib.sha256(b"precious").hexdigest()]})
    assert main(toy.arguments(workdir, "--mode", "rollout")) == 1
    refused(capsys, "none of the checkpoints")


def test_a_folder_that_cannot_be_written_to_is_one_line_or_shown_elsewhere(
    workdir, rooms, toy, tmp_path, monkeypatch, capsys
):
    """Whoever runs the tests: a file is where a folder has to be made."""
    predict_truth(monkeypatch)
    (workdir / "rollout").write_text("")
    (rooms / "look").write_text("")
    assert main(toy.arguments(workdir, "--mode", "rollout")) == 1
    refused(capsys, workdir / "rollout")
    assert run(look.main, rooms) == 2
    assert str(rooms / "look") in capsys.readouterr().err
    assert run(look.main, rooms, "--out", tmp_path / "stranger pictures") == 0
    capsys.readouterr()
