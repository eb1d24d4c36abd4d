"""Configurations from texts, mappings and JSON: names of keys that there are not, and what is read."""

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
    file = tmp_path / "experiment.py"
    file.write_text(f"def get_config(variant):\n    return {own}")
    config = load_config(str(file), overrides)
    assert (config.data.auto_make, config.evaluate.auto_make) == (data, evaluation)
    assert override(load_config(str(file)), overrides) == config


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
