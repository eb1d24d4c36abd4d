"""Configurations from experiment files, texts, mappings and JSON: what is read, and what is refused in one line."""

import pytest

from rad_jax.config import Config, config_from_json, load_config, override
from tests.config.refusals import assert_refused


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.stpes=3"], ["train.stpes", "unknown key", "train.steps?"]),
        (["modle.width=64"], ["modle.width", "unknown key", "model.width?"]),
        (["width=64"], ["width", "unknown key", "model.width?"]),
        (["steps=3"], ["steps", "unknown key", "train.steps or sample.steps?"]),
        (["model.memory.kind=lstm"], ["model.memory.kind", "unknown key", "memory.kind?"]),
        (["hiden=3"], ["hiden", "unknown key", "memory.hidden?"]),
        (["step=3"], ["step", "unknown key", "train.steps or sample.steps?"]),
        (["foo=3"], ["foo", "unknown key", "sections are data, tokenizer, model, memory"]),
        (["train=3"], ["train is a section", "train.steps", "train.init_from"]),
        (["nonsense"], ["'nonsense'", "section.key=value"]),
        (["=3"], ["'=3'", "section.key=value"]),
        (["seed=1", "seed=2"], ["seed=2", "given twice", "1"]),
        ({"": 3}, ["unknown key"]),
        ({"": {}}, ["unknown key"]),
    ],
    ids=str,
)
def test_unknown_keys_are_named_with_the_nearest(overrides, words):
    assert_refused(override, Config(), overrides, words=words)


def test_overrides_are_texts_or_a_mapping():
    by_text = override(Config(), ["train.steps=7", "model.latent=(4,4,16)"])
    assert override(Config(), {"train.steps": 7, "model.latent": [4, 4, 16]}) == by_text
    assert override(Config(), {"train": {"steps": 7}, "model": {"latent": (4, 4, 16)}}) == by_text


@pytest.mark.parametrize(
    ("overrides", "data", "evaluation"),
    [
        ([], True, True),
        (["train.steps=7", "data.path=./own", "evaluate.split=train"], True, True),
        (["data.path=onw"], False, True),
        (["data.path=onw", "data.auto_make=true"], True, True),
        (["data.path=onw", "data.make=cp"], True, True),
        (["evaluate.path=own_tset"], True, False),
        (["evaluate.more=loop=typo"], True, False),
        (["evaluate.more=loop=typo", "evaluate.more_make=cp"], True, True),
        (["evaluate.path=own_tset", "data.auto_make=true", "evaluate.auto_make=true"], True, True),
    ],
    ids=str,
)
def test_data_are_made_where_the_experiment_has_them_and_elsewhere_on_demand(
    overrides, data, evaluation, tmp_path
):
    own = {
        "data": {"path": "own"},
        "evaluate": {"path": "own_test", "more": "loop=own_loop", "more_make": "x"},
    }
    for section in own.values():
        section |= {"make": "x", "auto_make": True}
    path = write(tmp_path, f"def get_config(variant):\n    return {own}")
    config = load_config(path, overrides)
    assert (config.data.auto_make, config.evaluate.auto_make) == (data, evaluation)
    assert override(load_config(path), overrides) == config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not a JSON"),
        ("[1]", "expected an object"),
        ('{"train": {"stesp": 1}}', "train.steps?"),
        ('{"train": {"steps": "many"}}', "train.steps='many'"),
        ('{"train": {"steps": {}}}', "train.steps={}"),
        ('{"model": 3}', "model is a section"),
    ],
)
def test_damaged_json_is_refused(text, words):
    assert_refused(config_from_json, text, words=[words])


def write(directory, text):
    (directory / "experiment.py").write_text(text)
    return str(directory / "experiment.py")


def test_a_file_from_anywhere(tmp_path):
    values = '{"name": f"mine:{variant}", "train": {"steps": 3}, "data": {"make": "make"}}'
    code = f"from ml_collections import ConfigDict\ndef get_config(variant=None):\n    return ConfigDict({values})"
    path = write(tmp_path, code)
    config = load_config(path, ["train.batch=48", "data.path=some where"])
    assert (config.name, config.train.steps, config.train.batch) == ("mine:None", 3, 48)
    assert (config.data.make, config.data.path) == ("make", "some where")
    assert load_config(f"{path}:a:b").name == "mine:a:b"
    assert load_config(f"{path}:").name == "mine:None"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def get_config(variant)\n    pass", ["experiment.py:1", "SyntaxError"]),
        ("import nowhere_at_all", ["experiment.py:1", "ModuleNotFoundError", "nowhere_at_all"]),
        ("import sys\nsys.exit(0)", ["experiment.py:2", "SystemExit"]),
        ("x = 1", ["experiment.py", "get_config(variant)"]),
        ("def get_config():\n    return {}", ["experiment.py", "TypeError"]),
        ("def get_config(variant):\n    return variant", ["experiment.py", "NoneType", "ConfigDict"]),
        ("def get_config(variant):\n    x = {}\n    return x[3]", ["experiment.py:3", "KeyError"]),
        ("def get_config(v):\n    return {'train': {'stesp': 3}}", ["experiment.py", "train.steps?"]),
        ("def get_config(v):\n    return {'train': {'steps': '3'}}", ["experiment.py", "train.steps='3'"]),
        ("def get_config(v):\n    raise ValueError('a\\nb' * 999)", ["experiment.py:2", "Error: a ba b"]),
    ],
)
def test_broken_files_are_named_in_one_line(text, words, tmp_path):
    assert_refused(load_config, write(tmp_path, text), words=words, lines=1)


def test_a_mistake_in_the_file_can_be_overridden(tmp_path):
    """Combinations are checked once, after the overrides."""
    path = write(tmp_path, "def get_config(variant):\n    return {'model': {'heads': 7}}")
    assert_refused(load_config, path, words=["model.width=1024", "model.heads (7)"], lines=1)
    assert load_config(path, ["model.heads=8"]).model.heads == 8


def test_an_installed_experiment_is_found_from_any_directory_unless_there_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("experiments/minecraft.py:ttt-f").name == "minecraft:ttt-f"
    for path in ("experiments/minecaft.py", "minecraft.py", "minecraft"):
        assert_refused(load_config, path, words=["did you mean experiments/minecraft.py?"], lines=1)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "minecraft.py").write_text(
        "def get_config(variant):\n    return {'name': 'own'}"
    )
    assert load_config("experiments/minecraft.py:ttt-f").name == "own"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("experiments/quikstart.py", "did you mean experiments/quickstart.py?"),
        ("experimets/maze.py:lstm-f", "did you mean experiments/maze.py?"),
        ("experiments/quickstart", "did you mean experiments/quickstart.py?"),
        ("experiments/quickstart:lstm-f", "did you mean experiments/quickstart.py?"),
        ("zzz.py", "does not exist"),
        ("experiments", "expected FILE.py"),
    ],
)
def test_missing_files_name_the_nearest(path, words, root, monkeypatch):
    monkeypatch.chdir(root)
    assert_refused(load_config, path, words=[words], lines=1)
