"""An export: complete without the training data, whole or not at all, the same bits in both forms; damage is noticed."""

import dataclasses
import json
import os
import shutil
import stat
import subprocess
import sys
import textwrap

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from rad_jax.main import main
from rad_jax.model.names import named_leaves
from rad_jax.runs import trained_on
from rad_jax.runs.export import export, load_pretrained
from rad_jax.runs.restore import load_trained
from rad_jax.runs.training_run import open_training_run
from rad_jax.tokenizer import TokenizerError, patch_pca
from rad_jax.weights import WeightsError
from tests.toy_run import ROOT, assert_same, read_state


@pytest.fixture
def workdir(toy, tmp_path):
    """A run with a memory, to be exported."""
    return shutil.copytree(toy.written("lstm-f", "action+pose"), tmp_path / "run")


def test_the_description_says_what_was_trained_on_what(workdir):
    description = json.loads((export(workdir) / "config.json").read_text())
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
    directory = export(workdir)
    assert "patch_pca" in caplog.text and str(workdir / "tokenizer.npz") in caplog.text
    assert not (directory / "tokenizer.npz").exists()
    description = json.loads((directory / "config.json").read_text())
    assert description["tokenizer"]["file"] is None and description["tokenizer"]["fingerprint"]


def test_a_failed_export_leaves_the_one_before(workdir, monkeypatch):
    export(workdir)
    before = {p.name: p.stat().st_mtime_ns for p in (workdir / "export").iterdir()}

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("rad_jax.runs.export.save", fail)
    with pytest.raises(OSError, match="no space"):
        export(workdir)
    assert {p.name: p.stat().st_mtime_ns for p in (workdir / "export").iterdir()} == before
    assert [p.name for p in workdir.iterdir() if p.name.startswith(".export")] == []


def test_whoever_may_read_the_directory_may_read_its_files(workdir):
    """The files have the mode that the umask gives, also those that a library writes."""
    before = os.umask(0o022)
    try:
        directory = export(workdir)
    finally:
        os.umask(before)
    for path in directory.rglob("*"):
        expected = 0o755 if path.is_dir() else 0o644
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_an_export_leaves_that_of_another_process_alone(workdir):
    """Also if both have the same number, as in containers."""
    other = workdir / f".export.{os.getpid()}.tmp"
    other.mkdir()
    export(workdir)
    assert other.exists()


@pytest.fixture(scope="module")
def run(toy, tmp_path_factory):
    """A run with a memory, which was exported."""
    workdir = tmp_path_factory.mktemp("exported") / "run"
    shutil.copytree(toy.written("lstm-f", "action+pose"), workdir)
    export(workdir)
    return workdir


@pytest.fixture(scope="module")
def trained(run):
    """What an evaluation of the run would take."""
    return load_trained(run)


@pytest.fixture
def copy(run, tmp_path):
    """The exported directory, away from the run, to be damaged."""
    return shutil.copytree(run / "export", tmp_path / "given away")


@pytest.fixture
def no_data(toy):
    """The data sets are not where the configuration says."""
    toy.rooms.rename(toy.rooms.with_name("hidden"))
    yield
    toy.rooms.with_name("hidden").rename(toy.rooms)


def test_both_forms_give_the_averaged_parameters_bit_for_bit_without_data(run, trained, copy, no_data):
    alone = shutil.move(copy / "orbax", copy.parent / "alone")
    shutil.copyfile(copy / "tokenizer.npz", alone / "tokenizer.npz")
    for directory in (copy, alone):
        found = load_pretrained(directory)
        assert_same(found.params, trained.params)
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(found.params))
        assert found.model.config == found.config.model == trained.config.model
        assert found.config.tokenizer.path == str(directory / "tokenizer.npz")
        assert dataclasses.replace(found.config, tokenizer=trained.config.tokenizer) == trained.config
        assert found.tokenizer.fingerprint == trained.tokenizer.fingerprint
        assert found.step == trained.step
        assert found.trained_on.info == trained.trained_on.info
        assert found.trained_on.frame_size == trained.trained_on.frame_size == (16, 16)


def test_what_is_loaded_generates_the_frames_of_its_run_in_a_process_that_knows_only_the_directories(run):
    program = """
        import sys
        import jax
        import jax.numpy as jnp
        import numpy as np
        from rad_jax import rollout
        from rad_jax.runs import load_pretrained, load_trained

        frames = []
        for load, directory in ((load_trained, sys.argv[1]), (load_pretrained, f"{sys.argv[1]}/export")):
            config, model, params, tokenizer, *_ = load(directory)
            images = np.random.default_rng(0).uniform(size=(1, 3, 16, 16, 3)).astype(np.float32)
            actions = jnp.zeros((1, 3, config.model.action_dim))
            context = tokenizer.encode(images), actions
            state = rollout.start(model, params, *context, diffusion=config.diffusion, steps=2)
            frames.append(tokenizer.decode(rollout.step(state, actions[:, 0], jax.random.key(0))[1]))
        assert frames[0].shape == (1, 16, 16, 3) and np.isfinite(frames[0]).all()
        np.testing.assert_array_equal(*frames)
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(program), str(run)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_orbax_checkpoint_alone_is_enough(copy):
    expected = load_pretrained(copy).params
    (copy / "model.safetensors").unlink()
    (copy / "config.json").unlink()
    assert_same(load_pretrained(copy).params, expected)
    # and Orbax reads it without this library
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        tree = checkpointer.metadata(copy / "orbax" / "state").item_metadata.tree
    assert named_leaves(tree).keys() == named_leaves(expected).keys()
    described = json.loads((copy / "orbax" / "manifest" / "manifest.json").read_text())
    assert described["metadata"]["config"]["model"]["width"] == 16
    assert described["leaves"]["embed_action/kernel"] == [[16, 16], "float32"]


def change_json(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def remove_parameters(directory):
    (directory / "model.safetensors").unlink()
    shutil.rmtree(directory / "orbax")


def largest(directory):
    """Of the files of the Orbax checkpoint, which is all that is left then."""
    (directory / "model.safetensors").unlink()
    files = [path for path in (directory / "orbax" / "state").rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def empty_orbax(directory):
    largest(directory).write_bytes(b"")


def flip_orbax(directory):
    flip(largest(directory), 100)


def foreign(values):
    values["tokenizer"]["file"] = "../tokenizer.npz"


DAMAGE = {
    "a flipped bit": (lambda d: flip(d / "model.safetensors", -1), "has other values than were exported"),
    "cut": (lambda d: (d / "model.safetensors").write_bytes(b"abc"), "not an intact safetensors file"),
    "no parameters": (remove_parameters, "holds no parameters: neither model.safetensors nor orbax/"),
    "an empty Orbax file": (empty_orbax, "orbax is not an intact checkpoint: state/.* has 0 bytes instead of"),
    "a flipped bit in Orbax": (flip_orbax, "orbax is not an intact checkpoint: state/.* has changed since it was written"),
    "no description": (lambda d: (d / "config.json").write_text(""), "does not describe a model of this version"),
    "brackets": (lambda d: (d / "config.json").write_text("[" * 90_000), "does not describe"),
    "a list": (lambda d: (d / "config.json").write_text("[]"), "does not describe"),
    "another version": (lambda d: change_json(d / "config.json", lambda v: v.update(format="x 2")), "does not describe"),
    "a path outside": (lambda d: change_json(d / "config.json", foreign), "does not describe"),
    "another model": (
        lambda d: change_json(d / "config.json", lambda v: v["config"]["model"].update(width=32)),
        r"as quickstart:lstm-f: \d+ of \d+ tensors match; \d+ wrong",
    ),
    "an unknown key": (
        lambda d: change_json(d / "config.json", lambda v: v["config"]["model"].update(wide=32)),
        "model.wide",
    ),
    "open sizes": (
        lambda d: change_json(d / "config.json", lambda v: v["config"]["model"].update(action_dim=None)),
        "a trained model has one",
    ),
    "no config": (lambda d: change_json(d / "config.json", lambda v: v.update(config=3)), "given away"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_refused_in_one_line(case, copy):
    damage, words = DAMAGE[case]
    damage(copy)
    with pytest.raises(WeightsError, match=words) as caught:
        load_pretrained(copy)
    assert str(copy) in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_what_is_no_export_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"there is no directory .*/nowhere; --mode export makes one"):
        load_pretrained(tmp_path / "nowhere")
    with pytest.raises(WeightsError, match=r"holds no exported model \(no readable config.json\)"):
        load_pretrained(tmp_path)


def test_commands_of_a_stranger_are_dropped(copy):
    """A configuration names the shell commands that make its data; those of an export are never run."""

    def attack(values):
        values["config"]["evaluate"] |= {"make": "touch it", "auto_make": True, "more_make": "touch it"}
        del values["config"]["data"]["make"], values["config"]["data"]["auto_make"]
        values["config"] |= {
            "data.make": "touch it",
            "data.auto_make": True,
        }  # keys may be written like this, too

    change_json(copy / "config.json", attack)
    config = load_pretrained(copy).config
    assert (config.data.make, config.evaluate.make, config.evaluate.more_make) == ("", "", "")
    assert not config.data.auto_make and not config.evaluate.auto_make


def test_an_export_of_an_earlier_version_is_read(copy):
    """It has no frame size, and no data where they were gone when it was made."""

    def age(values):
        del values["frame_size"]
        values["data"] = None

    change_json(copy / "config.json", age)
    trained_on = load_pretrained(copy).trained_on
    assert trained_on.frame_size is None and trained_on.info == {}


def test_a_tokenizer_that_is_not_included_is_given_by_its_path(copy, tmp_path):
    elsewhere = shutil.move(copy / "tokenizer.npz", tmp_path / "elsewhere.npz")
    with pytest.raises(TokenizerError, match="patch_pca") as info:
        load_pretrained(copy)
    assert str(copy) in str(info.value) and len(str(info.value).splitlines()) == 1
    assert load_pretrained(copy, elsewhere).config.tokenizer.path == str(elsewhere)
    other = patch_pca.fit(np.random.default_rng(0).integers(0, 256, (50, 16, 16, 3), np.uint8), 8, 8)
    other.save(tmp_path / "other.npz")
    with pytest.raises(TokenizerError, match="another tokenizer patch_pca"):
        load_pretrained(copy, tmp_path / "other.npz")
