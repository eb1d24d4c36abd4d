"""The shipped experiments in all their variants."""

import dataclasses
import importlib
import shlex
from pathlib import Path

import pytest

from data_prep import encode_latents, make_maze, make_voxel
from data_prep.recordings import conversion
from data_prep.recordings.actions import ACTIONS
from data_prep.worlds.maze.recipe import Recipe as MazeRecipe
from data_prep.worlds.recipe import recipe_from
from data_prep.worlds.voxel.recipe import Recipe as VoxelRecipe
from experiments import base
from rad_jax.config import always_needs_pose, config_from_json, load_config, modes, window_starts
from rad_jax.data import EpisodeSpec
from rad_jax.data.condition import condition_dim
from rad_jax.runs.datasets import further_sets
from rad_jax.weights import oasis_dit
from tests.config.refusals import assert_refused

SHIPPED = {  # with the stride of the strided variants
    "base": 10,
    "maze": 10,
    "maze_memory": 2,
    "maze_small": 10,
    "maze_toy": 4,
    "minecraft": 10,
    "minecraft_debug": 2,
    "minecraft_voxel": 4,
    "quickstart": 2,
    "voxel_memory": 2,
}


@pytest.fixture(autouse=True)
def at_the_root(root, monkeypatch):
    monkeypatch.chdir(root)


def test_all_files_are_listed_here(root):
    files = {file.stem for file in (root / "experiments").glob("*.py")} - {"__init__"}
    assert files == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_docstring_says_command_hardware_time_and_metric(name):
    """Or which of them are not known because the experiment was not run."""
    text = importlib.import_module(f"experiments.{name}").__doc__
    assert f"--config experiments/{name}.py" in text or "\n    make " in text
    assert "Hardware" in text and "time" in text.lower()
    assert any(word in text for word in ("not run", "PSNR", "Metric"))


@pytest.mark.parametrize("name", SHIPPED)
def test_variants_differ_in_the_memory_alone(name):
    """What a comparison compares: the same model, data, noise and optimizer, but for the number of windows that fit.

    What is trained (`train.freeze`) and how much at once (`train.accumulate`) follows from the memory.
    """
    posed = load_config(f"experiments/{name}.py").data.condition != "action"
    variants = base.variants(SHIPPED[name], posed)
    configs = {variant: load_config(f"experiments/{name}.py:{variant}") for variant in variants}
    df = configs["df"]
    assert configs["lstm-f"] == load_config(f"experiments/{name}.py")
    memories = [memory for memory in base.MEMORIES if posed or not always_needs_pose(memory)]
    assert len(configs) == 1 + sum(len(modes(memory)) for memory in memories)
    for variant, config in configs.items():
        assert config.name == f"{name}:{variant}"
        assert config_from_json(config.to_json()) == config
        memory, train = config.memory, config.train
        kind, _, mode = variant.rpartition("-")
        stride = {"f": 1, "c": config.model.window}.get(mode, SHIPPED[name]) if kind else 1
        slides = (kind or "none", stride, "shared" if variant == "df" or mode == "f" else "rollout")
        assert (memory.kind, memory.stride, memory.window) == slides
        same = {"model": dataclasses.replace(df.model, memory=memory), "train": train, "name": config.name}
        assert dataclasses.replace(df, **same) == config
        free = {key: getattr(df.train, key) for key in ("freeze", "accumulate", "windows", "window_batch")}
        assert dataclasses.replace(train, **free) == df.train
        assert memory.prefetch_segment % memory.stride == 0
        starts = window_starts(config.data.clip, config.model.window, memory.stride, train.first_start)
        assert train.windows <= min(df.train.windows, len(starts))
        assert train.windows == df.train.windows or mode != "f"


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        ("lstm", "lstm-f?"),
        ("none-f", "lstm"),
        ("lstm-s0", "lstm-s"),
        ("DF", "df?"),
        ("lstm-s5", "memory.stride=5"),
        ("bank-c", "bank-f"),
    ],
)
def test_variants_that_cannot_be_are_named(variant, words):
    assert_refused(load_config, f"experiments/quickstart.py:{variant}", words=[words], lines=1)


def commands(section):
    """The programs that a section's command runs, with their arguments."""
    calls = [shlex.split(call) for call in section.command.split("&&")]
    assert all(call[:2] == ["python", "-m"] for call in calls)
    return [(call[2].removeprefix("data_prep."), call[3:]) for call in calls]


def evaluations(config):
    return [config.evaluate, *further_sets(config.evaluate).values()]


@pytest.mark.parametrize("name", [name for name in SHIPPED if name.startswith(("maze", "quickstart"))])
def test_commands_that_make_mazes_are_understood(name):
    """Every make_maze call in a configuration is one that its command line accepts, into the path that will be read."""
    config = load_config(f"experiments/{name}.py")
    for section in (config.data, *evaluations(config)):
        (program, arguments), *others = commands(section)
        assert program == "make_maze" and all(section.path in rest for _, rest in others)
        options = make_maze.parse(arguments)
        assert str(options.out) == section.path and options.episodes >= 32
        assert recipe_from(options, MazeRecipe).split == section.split
    assert config.data.clip <= recipe_frames(config.data.command)


def recipe_frames(command):
    """Frames of an episode that a make_maze command writes."""
    arguments = shlex.split(command.partition("&&")[0])[3:]
    return recipe_from(make_maze.parse(arguments), MazeRecipe).num_frames


@pytest.mark.parametrize("name", ["minecraft_debug", "minecraft_voxel", "voxel_memory"])
def test_commands_that_make_voxel_walks_are_understood(name):
    """Walks are recorded where they are converted from, into the path that will be read; all are as long as a clip."""
    config = load_config(f"experiments/{name}.py")
    for section in (config.data, *evaluations(config)):
        *recorded, (program, arguments) = [c for c in commands(section) if c[0] != "fit_tokenizer"]
        converted = conversion.parser().parse_args(arguments)
        assert (program, converted.format, str(converted.dst)) == ("convert", "vrag", section.path)
        assert converted.split == section.split and converted.size is not None
        workers = set()
        for program, arguments in recorded:
            options = make_voxel.parse(arguments)
            recipe = recipe_from(options, VoxelRecipe)
            assert program == "make_voxel" and options.out == converted.src and recipe.split == section.split
            assert recipe.num_frames >= config.data.clip or section is not config.data
            assert converted.context in (None, recipe.num_context) and recipe.has_context == (
                section is not config.data
            )
            assert (recipe.height, recipe.width) == (2 * converted.size[0], 2 * converted.size[1])
            workers.add(options.worker)
        assert len(workers) == len(recorded)


def test_the_commands_that_make_minecrafts_data_are_understood():
    config = load_config("experiments/minecraft.py")
    for section in (config.data, config.evaluate):
        ((program, words),) = commands(section)
        options = encode_latents.parse(program, "", words)
        assert program == "encode_latents" and str(options.dst) == str(Path(section.path).absolute())
        assert (options.tokenizer, options.recordings.size) == (config.tokenizer.name, (360, 640))
        assert (options.recordings.split, options.recordings.format) == (section.split, "vrag")
    assert config.model.latent == (18, 32, 16)


def test_minecraft_takes_the_weights_and_the_actions_of_oasis():
    """Shapes of the published base (`rad_jax.weights.oasis_dit`) and the actions of converted recordings."""
    model = load_config("experiments/minecraft.py:df").model
    assert model.action_dim == len(ACTIONS) == oasis_dit.PUBLISHED["action_dim"] == 25
    assert (model.width, model.depth, model.patch) == tuple(
        oasis_dit.PUBLISHED[key] for key in ("width", "depth", "patch")
    )
    assert model.latent[-1] == oasis_dit.PUBLISHED["channels"]
    assert model.mlp_ratio * model.width == oasis_dit.PUBLISHED["hidden"]


def test_the_size_of_the_voxel_model_is_that_of_its_data():
    config = load_config("experiments/minecraft_voxel.py")
    positions = ("x", "y", "z", "pitch")
    pose = EpisodeSpec(
        "minecraft_vrag",
        {"actions": ((25,), "float32"), "pose": ((6,), "float32")},
        info={"actions": list(ACTIONS), "pose": [*positions, "cos", "sin"], "pose_scale": [1.0] * 6},
    )
    assert config.model.action_dim == condition_dim(pose, config.data)
    assert config.model.latent == (8, 8, 16), "64 pixels in patches of 8, 16 channels"
    assert config.model.window < 18, "a whole turn does not fit into the window"
