"""Configurations: what is accepted, what is refused and in which words, and the way to JSON and back."""

import dataclasses
import json
import re
import textwrap

import pytest

from rad_jax.config import (
    Config,
    ConfigError,
    MemoryConfig,
    ModelConfig,
    TrainConfig,
    config_from_dict,
    config_from_json,
    diff_configs,
    flatten,
    format_config,
    load_config,
    override,
    window_starts,
)
from rad_jax.config.keys import Section, keys

# Overrides of a sound configuration; every word must be in the message: the key, what was given, what is allowed.
MISTAKES = [
    # names
    (["train.stpes=3"], ["train.stpes", "unknown key", "train.steps?"]),
    (["modle.width=64"], ["modle.width", "unknown key", "model.width?"]),
    (["width=64"], ["width", "unknown key", "model.width?"]),
    (["steps=3"], ["steps", "unknown key", "train.steps or sample.steps?"]),
    (["model.memory.kind=lstm"], ["model.memory.kind", "unknown key", "memory.kind?"]),
    (["foo=3"], ["foo", "unknown key", "sections are data, tokenizer, model"]),
    (["train=3"], ["train is a section", "train.steps", "train.init_from"]),
    (["train.steps.now=3"], ["train.steps.now", "unknown key", "train.steps?"]),
    (["nonsense"], ["'nonsense'", "section.key=value"]),
    (["=3"], ["'=3'", "section.key=value"]),
    (["seed=1", "seed=2"], ["seed=2", "given twice", "1"]),
    # types
    (["train.steps=1.5"], ["train.steps=1.5", "an integer >= 1"]),
    (["train.steps=1e3"], ["train.steps=1000.0", "an integer >= 1"]),
    (["train.steps=ten"], ["train.steps=ten", "an integer >= 1"]),
    (["train.steps=true"], ["train.steps=true", "an integer"]),
    (["train.steps=True"], ["train.steps=true", "an integer"]),
    (["train.steps="], ["train.steps=:", "an integer"]),
    (["train.steps=none"], ["train.steps=none", "an integer"]),
    (["train.steps='3'"], ["train.steps='3'", "an integer"]),
    (["train.steps=__import__('os').getcwd()"], ["train.steps=__import__", "an integer"]),
    (["train.steps=99999999999"], ["train.steps=99999999999", "32 bits"]),
    (["optimizer.learning_rate=fast"], ["optimizer.learning_rate=fast", "a number > 0"]),
    (["optimizer.learning_rate=nan"], ["optimizer.learning_rate=nan", "a number > 0"]),
    (["optimizer.learning_rate=1e999"], ["optimizer.learning_rate=inf", "a number > 0"]),
    (["optimizer.learning_rate=(1,2)"], ["optimizer.learning_rate=(1,2)", "a number > 0"]),
    (["data.auto_make=yes"], ["data.auto_make=yes", "true or false"]),
    (["data.auto_make=1"], ["data.auto_make=1", "true or false"]),
    (["model.latent=8"], ["model.latent=8", "three integers >= 1", "or none"]),
    (["model.latent=(8,8)"], ["model.latent=(8,8)", "three integers"]),
    (["model.latent=(8,8,1.5)"], ["model.latent=(8,8,1.5)", "three integers"]),
    (["model.latent=(8,8,0)"], ["model.latent=(8,8,0)", ">= 1"]),
    (["data.path="], ["data.path=", "not empty"]),
    # ranges
    (["train.steps=0"], ["train.steps=0", ">= 1"]),
    (["train.batch=-8"], ["train.batch=-8", ">= 1"]),
    (["seed=-1"], ["seed=-1", ">= 0"]),
    (["train.ema=1"], ["train.ema=1", ">= 0 and < 1"]),
    (["optimizer.b1=1.0"], ["optimizer.b1=1.0", "< 1"]),
    (["optimizer.learning_rate=0"], ["optimizer.learning_rate=0", "> 0"]),
    (["data.heading_harmonics=9"], ["data.heading_harmonics=9", "<= 8"]),
    (["diffusion.shift=0"], ["diffusion.shift=0", "> 0"]),
    (["mesh.data=0"], ["mesh.data=0", "-1"]),
    (["mesh.data=-2"], ["mesh.data=-2", ">= -1"]),
    (["checkpoint.keep=0"], ["checkpoint.keep=0", ">= 1"]),
    (["evaluate.fps=1000"], ["evaluate.fps=1000", "<= 120"]),
    # choices
    (["memory.kind=lstn"], ["memory.kind=lstn", "none, lstm", "lstm?"]),
    (["memory.window=share"], ["memory.window=share", "shared, rollout", "shared?"]),
    (["diffusion.schedule=cosin"], ["diffusion.schedule=cosin", "sigmoid, cosine, linear", "cosine?"]),
    (["diffusion.predict=epsilon"], ["diffusion.predict=epsilon", "v, eps, x0"]),
    (["diffusion.weighting=snr"], ["diffusion.weighting=snr", "uniform, min_snr, fused_snr"]),
    (["data.condition=pose"], ["data.condition=pose", "action, action+pose"]),
    (["model.dtype=float16"], ["model.dtype=float16", "bfloat16, float32", "float"]),
    (["tokenizer.name=pca"], ["tokenizer.name=pca", "patch_pca"]),
    (["train.freeze=memory"], ["train.freeze=memory", "none, base"]),
    # combinations
    (["model.heads=7"], ["model.width=1024", "model.heads (7)", "1022"]),
    (["model.width=96", "model.heads=16"], ["model.heads=16", "multiple of 4"]),
    (["memory.stride=2"], ["memory.window=shared", "memory.stride=1, not 2", "rollout"]),
    (
        ["memory.stride=40", "memory.window=rollout", "memory.prefetch_segment=40"],
        ["memory.stride=40", "1 .. 20"],
    ),
    (["memory.stride=3", "memory.window=rollout"], ["memory.prefetch_segment=20", "memory.stride (3)", "21"]),
    (
        ["memory.bptt=truncated", "memory.bptt_frames=50"],
        ["memory.bptt_frames=50", "memory.prefetch_segment (20)"],
    ),
    (["memory.gates=slots", "memory.action=false"], ["memory.gates=slots", "memory.action=true"]),
    (
        ["memory.kind=none", "train.freeze=base"],
        ["train.freeze=base", "memory.kind=none", "train.freeze=none"],
    ),
    (["memory.frames=noised", "memory.noised_levels=2000"], ["memory.noised_levels=2000", "1 .. 1000"]),
    (["model.latent=(9,8,16)"], ["model.patch=2", "9 x 8"]),
    (["model.mlp_ratio=0.0001"], ["model.mlp_ratio=0.0001", "model.width=1024"]),
    (["data.clip=10"], ["data.clip=10", "at least 20", "model.window (20)"]),
    (["train.first_start=90"], ["data.clip=100", "at least 110", "train.first_start (90)"]),
    (["train.windows=82"], ["train.windows=82", "at most 81"]),
    (["train.windows=7", "train.window_batch=2"], ["train.windows=7", "train.window_batch (2)", "nearest"]),
    (["train.accumulate=5"], ["train.batch=24", "train.accumulate (5)", "25"]),
    (["mesh.fsdp=5"], ["train.batch=24", "mesh devices (5)"]),
    (["model.context_level=1000"], ["model.context_level=1000", "0 .. 999"]),
    (["diffusion.levels=40"], ["sample.steps=50", "1 .. 40"]),
    (["checkpoint.keep_every=750"], ["checkpoint.keep_every=750", "checkpoint.every (500)"]),
    (["data.auto_make=true"], ["data.auto_make=true", "data.make"]),
]


@pytest.mark.parametrize(
    ("overrides", "words"), MISTAKES, ids=lambda p: p[-1] if isinstance(p, list) else None
)
def test_mistakes_are_named_in_two_lines(overrides, words):
    with pytest.raises(ConfigError) as caught:
        override(Config(), overrides)
    message = str(caught.value)
    assert len(message.splitlines()) <= 2
    assert [word for word in words if word not in message] == [], message


def test_values_are_read_as_declared():
    config = override(
        Config(),
        [
            "model.latent=4,4,16",
            "model.action_dim=6",
            "optimizer.learning_rate=1",
            "data.auto_make=True",
            "data.make='make it'",
            "data.path=a=b",
            "train.steps=1_000",
            "memory.kind=none",
        ],
    )
    assert config.model.latent == (4, 4, 16)
    assert config.model.action_dim == 6
    assert config.optimizer.learning_rate == 1.0 and isinstance(config.optimizer.learning_rate, float)
    assert config.data.auto_make is True
    assert config.data.make == "make it"
    assert config.data.path == "a=b"
    assert config.train.steps == 1000
    assert config.memory.kind == "none" and config.memory is config.model.memory
    assert override(config, ["model.latent=none"]).model.latent is None


def test_overrides_are_texts_or_a_mapping():
    by_text = override(Config(), ["train.steps=7", "model.latent=(4,4,16)"])
    assert override(Config(), {"train.steps": 7, "model.latent": [4, 4, 16]}) == by_text
    assert override(Config(), {"train": {"steps": 7}, "model": {"latent": (4, 4, 16)}}) == by_text
    assert override(Config(), "train.steps=7") == override(Config(), ["train.steps=7"])
    with pytest.raises(ConfigError, match=r"train.steps='7': expected an integer"):
        override(Config(), {"train.steps": "7"})


def test_configs_are_frozen_hashable_and_checked_when_made():
    config = Config()
    assert hash(config) == hash(Config()) and config == Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 3
    with pytest.raises(ConfigError, match=r"train.steps=0"):
        TrainConfig(steps=0)
    with pytest.raises(ConfigError, match=r"model.width=32"):
        dataclasses.replace(ModelConfig(width=32, heads=8), heads=3)
    with pytest.raises(ConfigError, match=r"model.heads=16"):
        ModelConfig(width=32)
    with pytest.raises(ConfigError, match=r"memory.stride"):
        ModelConfig(window=2, memory=MemoryConfig(stride=4, window="rollout"))


def test_sizes_that_follow_from_the_model():
    model = ModelConfig(latent=(8, 6, 4), patch=2, dtype="bfloat16")
    assert (model.grid, model.tokens) == ((4, 3), 12)
    assert (model.compute_dtype.name, model.state_dtype.name) == ("bfloat16", "float32")
    assert ModelConfig(dtype="float64").state_dtype.name in (
        "float32",
        "float64",
    )  # float32 where JAX has no 64 bits
    with pytest.raises(ConfigError, match=r"model.latent=none"):
        _ = ModelConfig().grid


@pytest.mark.parametrize(
    ("clip", "window", "stride", "first"), [(24, 4, 1, 10), (24, 4, 4, 10), (21, 20, 10, 0), (9, 9, 3, 0)]
)
def test_window_starts(clip, window, stride, first):
    expected = [j for j in range(clip) if j % stride == 0 and j >= first and j + window <= clip]
    assert list(window_starts(clip, window, stride, first)) == expected


def test_json_and_back():
    config = override(Config(), ["model.latent=(4,4,16)", "optimizer.learning_rate=0.1", "memory.kind=none"])
    assert config_from_json(config.to_json()) == config
    assert config_from_dict(config.to_dict()) == config
    assert json.loads(config.to_json())["memory"]["kind"] == "none"
    assert config_from_json("{}") == Config()


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
    with pytest.raises(ConfigError) as caught:
        config_from_json(text)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


def test_differences_are_listed():
    other = override(Config(), ["train.steps=7", "memory.kind=none"])
    assert diff_configs(Config(), other) == {"memory.kind": ("lstm", "none"), "train.steps": (5000, 7)}
    assert diff_configs(other, other) == {}


def test_shown_text_has_every_key_with_value_and_meaning():
    text = format_config(override(Config(), ["model.latent=(4,4,16)"]))
    for path in flatten(Config()):
        (line,) = (line for line in text.splitlines() if line.strip().startswith(f"{path} "))
        assert len(line.partition("#")[2].strip()) > 5
    assert re.search(r"^  model\.latent += \(4,4,16\) +# rows", text, re.MULTILINE)


def test_every_field_is_declared():
    """A field without `key` would be neither checked nor shown."""
    for section in Section.__subclasses__():
        for field in dataclasses.fields(section):
            assert field.name in keys(section) or isinstance(field.default_factory(), Section)


# Experiment files.


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
            return ConfigDict({"name": f"mine:{variant}", "train": {"steps": 3}, "data": {"make": "make --out {path}"}})
        """,
    )
    config = load_config(path, ["train.batch=48", "data.path=some where"])
    assert (config.name, config.train.steps, config.train.batch) == ("mine:None", 3, 48)
    assert config.data.make == "make --out 'some where'"
    assert load_config(f"{path}:a:b").name == "mine:a:b"
    assert load_config(f"{path}:").name == "mine:None"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def get_config(variant)\n    pass", ["experiment.py:1", "not Python"]),
        ("import nowhere_at_all", ["experiment.py:1", "ModuleNotFoundError", "nowhere_at_all"]),
        ("x = 1", ["experiment.py", "get_config(variant)"]),
        ("get_config = 3", ["experiment.py", "get_config(variant)"]),
        ("def get_config():\n    return {}", ["experiment.py", "TypeError"]),
        ("def get_config(variant):\n    return variant", ["experiment.py", "NoneType", "ConfigDict"]),
        ("def get_config(variant):\n    x = {}\n    return x[3]", ["experiment.py:3", "KeyError"]),
        (
            "def get_config(variant):\n    return {'train': {'stesp': 3}}",
            ["experiment.py", "train.stesp", "train.steps?"],
        ),
        (
            "def get_config(variant):\n    return {'train': {'steps': '3'}}",
            ["experiment.py", "train.steps='3'"],
        ),
        (
            "def get_config(variant):\n    return {'model': {'heads': 7}}",
            ["model.width=1024", "model.heads (7)"],
        ),
        (
            "def get_config(variant):\n    raise ValueError('a\\nb' * 999)",
            ["experiment.py:2", "ValueError: a ba b"],
        ),
    ],
)
def test_broken_files_are_named_in_one_line(text, words, tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text))
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and len(message) < 500
    assert [word for word in words if word not in message] == [], message


def test_a_mistake_in_the_file_can_be_overridden(tmp_path):
    """Combinations are checked once, after the overrides."""
    path = write(tmp_path, "def get_config(variant):\n    return {'model': {'heads': 7}}")
    assert load_config(path, ["model.heads=8"]).model.heads == 8


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("experiments/quikstart.py", "did you mean experiments/quickstart.py?"),
        ("experimets/maze.py:lstm-f", "did you mean experiments/maze.py?"),
        ("experiments/quickstart", "did you mean experiments/quickstart.py?"),
        ("experiments/quickstart:lstm-f", "did you mean experiments/quickstart.py?"),
        ("zzz.py", "does not exist"),
        ("", "expected FILE.py"),
        ("experiments", "expected FILE.py"),
    ],
)
def test_missing_files_name_the_nearest(path, words, root, monkeypatch):
    monkeypatch.chdir(root)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
