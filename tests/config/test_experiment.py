"""Experiment files: run from anywhere, and refused in one line that says what is wrong where."""

import textwrap

import pytest

from rad_jax.config import load_config
from tests.config.refusals import assert_refused


def write(directory, text):
    file = directory / "experiment.py"
    file.write_text(textwrap.dedent(text))
    return str(file)


def test_a_file_from_anywhere(tmp_path):
    path = write(
        tmp_path,
        """
        from ml_collections import ConfigDict
        def get_config(variant=None):
            return ConfigDict({"name": f"mine:{variant}", "train": {"steps": 3}, "data": {"make": "make"}})
        """,
    )
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
