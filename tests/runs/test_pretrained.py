"""A model exported from a run and read back: the same bits in both forms, no data set needed, damage is noticed."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from rad_jax import rollout
from rad_jax.config import config_from_json
from rad_jax.main import main
from rad_jax.model.names import named_leaves
from rad_jax.runs import export
from rad_jax.runs.open import load_trained, open_training_run
from rad_jax.runs.pretrained import load_pretrained, load_tokenizer
from rad_jax.tokenizer import TokenizerError
from rad_jax.weights import WeightsError
from rad_jax.weights.tensors import read_tensors
from tests.toy_run import assert_same, read_state


@pytest.fixture(scope="module")
def run(toy, tmp_path_factory):
    """A run with a memory, which was exported."""
    workdir = tmp_path_factory.mktemp("exported") / "run"
    shutil.copytree(toy.written("lstm-f", "action+pose"), workdir)
    export.export(workdir)
    return workdir


@pytest.fixture(scope="module")
def trained(run):
    """What an evaluation of the run would take."""
    return load_trained(run)


@pytest.fixture(scope="module")
def other(toy):
    """Another run, which was not exported."""
    return toy.written("lstm-f")


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
        model, params, config = load_pretrained(directory)
        assert_same(params, trained.params)
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(params))
        assert model.config == config.model == trained.config.model
        assert config.tokenizer.path == str(directory / "tokenizer.npz")
        run_config = config_from_json((run / "config.json").read_text())
        assert (
            dataclasses.replace(
                config, tokenizer=run_config.tokenizer, data=run_config.data, evaluate=run_config.evaluate
            )
            == run_config
        )
        assert load_tokenizer(directory).fingerprint == trained.tokenizer.fingerprint


def test_what_is_loaded_generates(copy):
    model, params, config = load_pretrained(copy)
    tokenizer = load_tokenizer(copy)
    images = np.random.default_rng(0).uniform(size=(1, 3, 16, 16, 3)).astype(np.float32)
    latents = tokenizer.encode(images)
    actions = jnp.zeros((1, 3, config.model.action_dim))
    state = rollout.start(model, params, latents, actions, diffusion=config.diffusion, steps=2)
    _, frame = rollout.step(state, actions[:, 0], jax.random.key(0))
    assert tokenizer.decode(frame).shape == (1, 16, 16, 3) and np.isfinite(frame).all()


def test_either_form_alone_is_enough(copy):
    expected = load_pretrained(copy).params
    shutil.rmtree(copy / "orbax")
    assert_same(load_pretrained(copy).params, expected)


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


def test_the_description_says_what_was_trained_on_what(run, copy):
    description = json.loads((copy / "config.json").read_text())
    assert description["parameters"] == "ema" and description["step"] == 24
    assert (
        description["tokenizer"]["name"] == "patch_pca"
        and description["tokenizer"]["file"] == "tokenizer.npz"
    )
    assert len(description["data"]["actions"]) and len(description["data"]["pose"])
    assert description["config"] == json.loads((run / "config.json").read_text())


def test_the_command_writes_it_and_can_take_the_last_steps_parameters(toy, other, tmp_path, capsys):
    workdir = shutil.copytree(other, tmp_path / "run")
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


def test_an_export_without_the_data_says_what_is_missing(toy, other, tmp_path, no_data, caplog):
    workdir = shutil.copytree(other, tmp_path / "run")
    directory = export.export(workdir)
    assert "names of the actions are not exported" in caplog.text
    assert "tokenizer patch_pca is not exported: no tokenizer at" in caplog.text
    assert load_pretrained(directory).config.tokenizer.path == ""
    with pytest.raises(TokenizerError, match=r"does not include its tokenizer patch_pca .*give the path"):
        load_tokenizer(directory)
    hidden = toy.rooms.with_name("hidden") / "tokenizer.npz"
    assert load_tokenizer(directory, hidden).name == "patch_pca"


def test_a_large_tokenizer_is_left_out(other, tmp_path, monkeypatch, caplog):
    workdir = shutil.copytree(other, tmp_path / "run")
    monkeypatch.setattr(export, "SMALL", 100)
    directory = export.export(workdir)
    assert "tokenizer patch_pca is not exported" in caplog.text and "is larger than 0 MiB" in caplog.text
    assert not (directory / "tokenizer.npz").exists()
    description = json.loads((directory / "config.json").read_text())
    assert description["tokenizer"]["file"] is None and description["tokenizer"]["fingerprint"]


def test_a_failed_export_leaves_the_one_before(run, monkeypatch):
    before = {p.name: p.stat().st_mtime_ns for p in (run / "export").iterdir()}

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(export, "save_file", fail)
    with pytest.raises(OSError, match="no space"):
        export.export(run)
    assert {p.name: p.stat().st_mtime_ns for p in (run / "export").iterdir()} == before
    assert [p.name for p in run.iterdir() if p.name.startswith(".export")] == []


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


def test_the_file_holds_parameters_by_the_names_of_the_library(run):
    tensors = read_tensors(run / "export" / "model.safetensors")
    assert tensors.keys() == named_leaves(load_pretrained(run / "export").params).keys()
    assert "block/memory/mixer/kernel" in tensors
