"""Configurations from texts, mappings and JSON: names of keys that there are not, and what is read."""

import pytest

from rad_jax.config import Config, config_from_json, override
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
        (["train.steps.now=3"], ["train.steps.now", "unknown key", "train.steps?"]),
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
    assert override(Config(), "train.steps=7") == override(Config(), ["train.steps=7"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not a JSON"),
        ("[1]", "expected an object"),
        ('{"train": {"stesp": 1}}', "train.steps?"),
        ('{"train": {"steps": "many"}}', "train.steps='many'"),
        ('{"train": {"steps": {}}}', "train.steps={}"),
        ('{"trian": {}}', "unknown key"),
        ('{"model": 3}', "model is a section"),
    ],
)
def test_damaged_json_is_refused(text, words):
    assert_refused(config_from_json, text, words=[words])


def test_keys_that_are_left_out_keep_their_defaults():
    assert config_from_json("{}") == Config()
    assert config_from_json('{"train": {}, "seed": 0}') == Config()
