"""One key: the values it accepts, and the messages about those it refuses."""

import dataclasses

import pytest

from rad_jax.config import Config, ConfigError, EvaluateConfig, ModelConfig, TrainConfig, override
from rad_jax.config.config import sections
from rad_jax.config.keys import Section, keys
from rad_jax.config.show import SOURCES
from tests.config.refusals import assert_refused

# An override of a sound configuration; every word must be in the message: the key, what was given, what is allowed.
MISTAKES = [
    # types
    ("train.steps=1.5", ["train.steps=1.5", "an integer >= 1"]),
    ("train.steps=1e3", ["train.steps=1000.0", "an integer >= 1"]),
    ("train.steps=ten", ["train.steps=ten", "an integer >= 1"]),
    ("train.steps=True", ["train.steps=true", "an integer"]),
    ("train.steps=", ["train.steps=:", "an integer"]),
    ("train.steps=none", ["train.steps=none", "an integer"]),
    ("train.steps='3'", ["train.steps='3'", "an integer"]),
    ("train.steps=__import__('os').getcwd()", ["train.steps=__import__", "an integer"]),
    ("train.steps=99999999999", ["train.steps=99999999999", "32 bits"]),
    ("optimizer.learning_rate=fast", ["optimizer.learning_rate=fast", "a number > 0"]),
    ("optimizer.learning_rate=nan", ["optimizer.learning_rate=nan", "a number > 0"]),
    ("optimizer.learning_rate=1e999", ["optimizer.learning_rate=inf", "a number > 0"]),
    (f"optimizer.learning_rate={10**400}", ["optimizer.learning_rate=1000", "a number > 0"]),
    ("optimizer.learning_rate=(1,2)", ["optimizer.learning_rate=(1,2)", "a number > 0"]),
    ("data.auto_make=yes", ["data.auto_make=yes", "true or false"]),
    ("data.auto_make=1", ["data.auto_make=1", "true or false"]),
    ("model.latent=8", ["model.latent=8", "3 integers >= 1", "or none"]),
    ("model.latent=(8,8)", ["model.latent=(8,8)", "3 integers"]),
    ("model.latent=(8,8,1.5)", ["model.latent=(8,8,1.5)", "3 integers"]),
    ("model.latent=(8,8,0)", ["model.latent=(8,8,0)", ">= 1"]),
    ("data.path=", ["data.path=", "not empty"]),
    # ranges
    ("train.steps=0", ["train.steps=0", ">= 1"]),
    ("seed=-1", ["seed=-1", ">= 0"]),
    ("train.ema=1", ["train.ema=1", ">= 0 and < 1"]),
    ("optimizer.learning_rate=0", ["optimizer.learning_rate=0", "> 0"]),
    ("data.heading_harmonics=9", ["data.heading_harmonics=9", "<= 8"]),
    # choices
    ("memory.kind=lstn", ["memory.kind=lstn", "none, lstm", "lstm?"]),
    ("diffusion.schedule=cosin", ["diffusion.schedule=cosin", "sigmoid, cosine, linear", "cosine?"]),
    ("diffusion.predict=epsilon", ["diffusion.predict=epsilon", "v, eps, x0"]),
    ("model.dtype=float16", ["model.dtype=float16", "bfloat16, float32", "float"]),
]


@pytest.mark.parametrize(("text", "words"), MISTAKES, ids=lambda p: p[:40] if isinstance(p, str) else "")
def test_a_wrong_value_is_named_with_what_is_allowed(text, words):
    assert_refused(override, Config(), [text], words=words, lines=1)


def test_text_is_no_number_outside_a_command_line():
    assert_refused(override, Config(), {"train.steps": "7"}, words=["train.steps='7'", "an integer"])


def test_values_are_read_as_declared():
    texts = {
        "model.latent": "4,4,16",
        "model.action_dim": "6",
        "optimizer.learning_rate": "1",
        "evaluate.figure3": "False",
        "data.make": "'make it'",
        "data.path": "a=b",
        "train.steps": "1_000",
        "memory.kind": "none",
    }
    config = override(Config(), [f"{path}={text}" for path, text in texts.items()])
    assert config.model.latent == (4, 4, 16)
    assert config.model.action_dim == 6
    assert config.optimizer.learning_rate == 1.0 and isinstance(config.optimizer.learning_rate, float)
    assert config.evaluate.figure3 is False
    assert (config.data.make, config.data.path) == ("make it", "a=b")
    assert config.train.steps == 1000
    assert config.memory.kind == "none" and config.memory is config.model.memory
    assert override(config, ["model.latent=none"]).model.latent is None


def test_sections_are_frozen_hashable_and_checked_when_made():
    config = Config()
    assert hash(config) == hash(Config()) and config == Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 3
    with pytest.raises(ConfigError, match=r"train\.steps=0"):
        TrainConfig(steps=0)
    with pytest.raises(ConfigError, match=r"model\.width=32"):
        dataclasses.replace(ModelConfig(width=32, heads=8), heads=3)
    with pytest.raises(ConfigError, match=r"evaluate\.fps=1000"):
        EvaluateConfig(fps=1000)


def test_every_field_is_declared_with_a_meaning_and_a_known_source():
    """A field that is not declared by `key` would be neither checked nor shown."""
    for section in sections(Config()).values():
        declared = keys(type(section))
        for field in dataclasses.fields(section):
            assert field.name in declared or isinstance(getattr(section, field.name), Section)
        for one in declared.values():
            assert len(one.help) > 5, one.path
            assert one.source.replace(",", " ").replace(":", " ").replace(";", " ").split()[0] in SOURCES
