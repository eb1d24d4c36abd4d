"""The shipped experiments in all their variants."""

import dataclasses
import re
import shlex

import pytest

from data_prep import make_maze
from experiments import base, quickstart
from rad_jax.config import Config, ConfigError, config_from_dict, config_from_json, load_config, window_starts
from rad_jax.mixers import NAMES
from rad_jax.prepare import further_sets

SHIPPED = {
    "base": 10,
    "maze": 10,
    "maze_small": 10,
    "maze_toy": 4,
    "minecraft": 10,
    "quickstart": quickstart.STRIDED,
}
MEMORIES = [name for name in NAMES if name != "none"]
CASES = [(name, variant) for name, stride in SHIPPED.items() for variant in base.variants(stride)]


@pytest.fixture(autouse=True)
def at_the_root(root, monkeypatch):
    monkeypatch.chdir(root)


def test_all_files_are_listed_here(root):
    files = {file.stem for file in (root / "experiments").glob("*.py")} - {"__init__", "twins"}
    assert files == set(SHIPPED)


def test_base_names_every_key_with_its_default():
    """The experiment that documents all keys and the classes that declare them agree."""
    written = base.defaults().to_dict()
    assert config_from_dict(written) == Config()
    assert written == Config().to_dict()


def test_base_explains_every_key_once(root):
    """Each key has one line, with a comment."""
    source = (root / "experiments/base.py").read_text()
    for section, values in base.defaults().to_dict().items():
        for key in values if isinstance(values, dict) else ():
            assert len(re.findall(rf"^    {section}\.{key} = .+  # .{{4,}}$", source, re.MULTILINE)) == 1, (
                section,
                key,
            )


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_loads_and_survives_json(name, variant):
    config = load_config(f"experiments/{name}.py:{variant}")
    assert config.name == f"{name}:{variant}"
    assert config_from_json(config.to_json()) == config


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("name", SHIPPED)
def test_variants_differ_in_the_memory_alone(name, memory):
    """What a comparison compares: the same model, data, noise and optimizer, but for the number of windows that fit.

    What is trained (`train.freeze`) and how much at once (`train.accumulate`) follows from the memory.
    """
    stride = SHIPPED[name]
    modes = ("f", "c", f"s{stride}")
    df, frame, chunk, strided = (
        load_config(f"experiments/{name}.py:{v}") for v in ("df", *(f"{memory}-{mode}" for mode in modes))
    )
    window = frame.model.window
    seen = [(c.memory.kind, c.memory.stride, c.memory.window) for c in (df, frame, chunk, strided)]
    assert seen == [
        ("none", 1, "shared"),
        (memory, 1, "shared"),
        (memory, window, "rollout"),
        (memory, stride, "rollout"),
    ]
    for config in (frame, chunk, strided):
        same = {"memory", "name", "train"}
        assert {k: v for k, v in config.to_dict().items() if k not in same} == {
            k: v for k, v in df.to_dict().items() if k not in same
        }
        assert config.memory.prefetch_segment % config.memory.stride == 0
        assert config.train.windows <= df.train.windows
        assert config.train.windows <= len(
            window_starts(config.data.clip, window, config.memory.stride, config.train.first_start)
        )
    follows = {"freeze": df.train.freeze, "accumulate": df.train.accumulate}
    assert dataclasses.replace(frame.train, **follows) == df.train


def test_a_variant_need_not_be_named():
    assert load_config("experiments/maze.py") == load_config("experiments/maze.py:lstm-f")


@pytest.mark.parametrize(
    ("variant", "nearest"),
    [
        ("lstm", "lstm-f?"),
        ("lstm-g", "lstm-"),
        ("none-f", "lstm"),
        ("lstm-s0", "lstm-s"),
        ("DF", "df?"),
        ("-f", "lstm"),
        ("xyz", "lstm"),
    ],
)
def test_unknown_variants_are_named(variant, nearest):
    with pytest.raises(ConfigError) as caught:
        load_config(f"experiments/quickstart.py:{variant}")
    message = str(caught.value)
    assert repr(variant) in message and "expected df or <memory>-f" in message and nearest in message
    assert len(message.splitlines()) == 1


def test_a_stride_longer_than_the_window_is_refused():
    with pytest.raises(ConfigError, match=r"memory.stride=10: expected 1 .. 4 \(model.window\)"):
        load_config("experiments/quickstart.py:lstm-s10")


@pytest.mark.parametrize("name", [name for name in SHIPPED if name not in ("base", "minecraft")])
def test_commands_that_make_the_data_are_understood(name):
    """Every make_maze call in a configuration is one that its command line accepts, into the path that will be read."""
    config = load_config(f"experiments/{name}.py")
    for section in (config.data, config.evaluate, *further_sets(config.evaluate).values()):
        calls = [shlex.split(call) for call in section.make.split("&&")]
        for call in calls:
            assert call[:2] == ["python", "-m"]
            assert section.path in call
        maze = calls[0]
        assert maze[2] == "data_prep.make_maze"
        ((directory, recipe, episodes),) = make_maze._jobs(make_maze._parser().parse_args(maze[3:]))
        assert (directory, recipe.split) == (section.path, section.split)
        assert episodes >= 64
    assert config.data.clip <= recipe_frames(config.data.make)


def recipe_frames(command):
    """Frames of an episode that a make_maze command writes."""
    arguments = shlex.split(command.partition("&&")[0])[3:]
    ((_, recipe, _),) = make_maze._jobs(make_maze._parser().parse_args(arguments))
    return recipe.num_frames
