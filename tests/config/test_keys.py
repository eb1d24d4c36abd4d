"""One key: the values it accepts, and the messages about those it refuses."""

import dataclasses
import os

import pytest

from rad_jax.config import Config, ConfigError, ModelConfig, TrainConfig, config_from_json, flatten, override
from rad_jax.config.keys import Section, keys
from rad_jax.config.load import KEYS
from rad_jax.config.show import SOURCES
from tests.config.refusals import assert_refused

# An override of a sound configuration; every word must be in the message: the key, what was given, what is allowed.
MISTAKES = [
    # types
    ("train.steps=1e3", ["train.steps=1000.0", "an integer >= 1 and <= 2147483647"]),
    ("train.steps=ten", ["train.steps=ten", "an integer >= 1"]),
    ("train.steps=True", ["train.steps=true", "an integer"]),
    ("train.steps=", ["train.steps=:", "an integer"]),
    ("train.steps=none", ["train.steps=none", "an integer"]),
    ("train.steps='3'", ["train.steps='3'", "an integer"]),
    ("train.steps=__import__('os').getcwd()", ["train.steps=__import__", "an integer"]),
    ("train.steps=99999999999", ["train.steps=99999999999", "<= 2147483647"]),
    ("optimizer.learning_rate=fast", ["optimizer.learning_rate=fast", "a number > 0 and <= 10"]),
    ("optimizer.learning_rate=nan", ["optimizer.learning_rate=nan", "a number > 0"]),
    (f"optimizer.learning_rate={10**400}", ["optimizer.learning_rate=1000", "a number > 0"]),
    ("optimizer.learning_rate=(1,2)", ["optimizer.learning_rate=(1,2)", "a number > 0"]),
    ("data.auto_make=yes", ["data.auto_make=yes", "true or false"]),
    ("model.latent=(8,8)", ["model.latent=(8,8)", "3 integers >= 1", "or none"]),
    ("model.latent=(8,8,1.5)", ["model.latent=(8,8,1.5)", "3 integers"]),
    ("data.path=", ["data.path=", "not empty"]),
    # ranges
    ("train.steps=0", ["train.steps=0", ">= 1"]),
    ("mesh.data=-2", ["mesh.data=-2", ">= -1"]),
    ("memory.conv=1", ["memory.conv=1", ">= 2"]),
    ("model.width=2000000", ["model.width=2000000", ">= 4 and <= 1048576"]),
    ("model.latent=(8,8,0)", ["model.latent=(8,8,0)", ">= 1"]),
    ("train.ema=1", ["train.ema=1", ">= 0 and < 1"]),
    ("optimizer.b1=0.999999999", ["optimizer.b1=0.999999999", "< 1"]),  # 1 in float32
    ("optimizer.learning_rate=1e-50", ["optimizer.learning_rate=1e-50", "> 0"]),  # 0 in float32
    ("data.heading_harmonics=9", ["data.heading_harmonics=9", "<= 8"]),
    # choices
    ("memory.kind=lstn", ["memory.kind=lstn", "none, lstm", "lstm?"]),
    ("memory.kind=my.lstm", ["memory.kind=my.lstm", "or package.module:Class"]),
    ("memory.kind=lstm:", ["memory.kind=lstm:", "or package.module:Class", "lstm?"]),
    ("memory.kind=../a:B", ["memory.kind=../a:B", "or package.module:Class"]),
    ("memory.kind=a.b:C()", ["memory.kind=a.b:C()", "or package.module:Class"]),
    ("memory.kind=a..b:C", ["memory.kind=a..b:C", "or package.module:Class"]),
    ("memory.kind=a.b:C.d", ["memory.kind=a.b:C.d", "or package.module:Class"]),
    ("memory.kind=é:C", ["memory.kind=é:C", "or package.module:Class"]),
    ("diffusion.schedule=cosin", ["diffusion.schedule=cosin", "sigmoid, cosine, linear", "cosine?"]),
    ("model.dtype=float16", ["model.dtype=float16", "bfloat16, float32", "float"]),
]
FLOATS = [path for path, declared in KEYS.items() if declared.kind is float]
PLACES = [path for path, declared in KEYS.items() if declared.place]
SETS = ("evaluate.more",)  # places behind names


@pytest.mark.parametrize(("text", "words"), MISTAKES, ids=lambda p: p[:40] if isinstance(p, str) else "")
def test_a_wrong_value_is_named_with_what_is_allowed(text, words):
    assert_refused(override, Config(), [text], words=words, lines=1)


@pytest.mark.parametrize("path", FLOATS)
def test_every_number_is_bounded_on_both_sides_so_that_float32_holds_it(path):
    for value in ("1e39", "-1e39", "1e30", "-1e30"):
        found = f"{path}={float(value)}"
        assert_refused(override, Config(), [f"{path}={value}"], words=[found, "expected a number >"], lines=1)


def test_every_text_is_a_place_or_known_to_be_none():
    texts = {path for path, declared in KEYS.items() if declared.kind is str and not declared.choices}
    evaluation = {f"evaluate.{name}" for name in ("make", "more_make", "split", "variants")}
    assert texts - set(PLACES) == {"name", "memory.own", "data.make", "data.split", *evaluation}


@pytest.mark.parametrize("path", PLACES)
def test_a_place_is_of_this_machine_and_a_home_is_written_out(path):
    before = "loop=here,return=" if path in SETS else ""
    sound = override(Config(), ["tokenizer.name=sd_vae"])
    for scheme in ("gs", "s3", "hf", "http", "HTTPS"):
        place = f"{scheme}://bucket/a"
        assert_refused(override, sound, [f"{path}={before}{place}"], words=[f"{path}={place}:"], lines=1)
    home = f"{before}{os.path.expanduser('~')}/a"
    config = override(sound, [f"{path}={before}~/a"])
    assert config == override(sound, {path: home}) == config_from_json(config.to_json())
    assert home in config.to_json()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("model.latent=4,4,16", (4, 4, 16)),
        ("model.latent=none", None),
        ("model.action_dim=6", 6),
        ("optimizer.learning_rate=1", 1.0),
        ("evaluate.figure3=False", False),
        ("data.make='make it'", "make it"),
        ("data.path=a=b", "a=b"),
        ("train.steps=1_000", 1000),
        ("memory.kind=none", "none"),
        ("memory.kind=my_memories.ema:EMA", "my_memories.ema:EMA"),
    ],
)
def test_values_are_read_as_declared(text, value):
    found = flatten(override(Config(), [text]))[text.partition("=")[0]]
    assert found == value and type(found) is type(value)


def test_sections_are_frozen_hashable_and_checked_when_made():
    config = Config()
    assert hash(config) == hash(Config()) and config == Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 3
    with pytest.raises(ConfigError, match=r"train\.steps=0"):
        TrainConfig(steps=0)
    with pytest.raises(ConfigError, match=r"model\.width=32"):
        dataclasses.replace(ModelConfig(width=32, heads=8), heads=3)


def test_every_field_is_declared_with_a_meaning_and_a_known_source():
    """A field that is not declared by `key` would be neither checked nor shown."""
    for section in Config().sections().values():
        declared = keys(type(section))
        for field in dataclasses.fields(section):
            assert field.name in declared or isinstance(getattr(section, field.name), Section)
        for one in declared.values():
            assert len(one.help) > 5, one.path
            assert one.source.replace(",", " ").replace(":", " ").replace(";", " ").split()[0] in SOURCES
