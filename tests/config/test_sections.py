"""Sections other than the model's: which combinations of their keys are refused, and the commands that make data sets."""

import dataclasses

import pytest

from rad_jax.config import (
    CheckpointConfig,
    Config,
    DataConfig,
    EvaluateConfig,
    MeshConfig,
    TokenizerConfig,
    TrainConfig,
    config_from_dict,
    config_from_json,
    load_config,
    override,
)
from tests.config.refusals import assert_refused


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (lambda: DataConfig(auto_make=True), ["data.auto_make=true", "data.make"]),
        (lambda: EvaluateConfig(auto_make=True), ["evaluate.auto_make=true", "evaluate.make"]),
        (
            lambda: EvaluateConfig(auto_make=True, make="x", more="a=b"),
            ["evaluate.auto_make=true", "evaluate.more_make"],
        ),
        (lambda: TokenizerConfig(preview="x"), ["tokenizer.preview=x", "sd_vae", "patch_pca"]),
        (lambda: TrainConfig(windows=7, window_batch=2), ["train.windows=7", "train.window_batch (2)"]),
        (lambda: TrainConfig(accumulate=5), ["train.batch=24", "train.accumulate (5)", "25"]),
        (lambda: CheckpointConfig(keep_every=750), ["checkpoint.keep_every=750", "checkpoint.every (500)"]),
        (lambda: MeshConfig(data=0), ["mesh.data=0", "-1"]),
        (lambda: MeshConfig(data=-2), ["mesh.data=-2", ">= -1"]),
    ],
)
def test_impossible_combinations_are_named(section, words):
    assert_refused(section, words=words, lines=1)


@pytest.mark.parametrize("section", ["data", "evaluate"])
def test_a_command_has_the_path_that_the_configuration_has(section, tmp_path):
    """However the configuration was made, and also when the path is changed in one that was made before."""
    file = tmp_path / "experiment.py"
    file.write_text(
        "def get_config(variant):\n"
        f"    return {{{section!r}: {{'path': 'first', 'make': 'make --out {{path}} --log {{path}}_log'}}}}"
    )
    loaded = load_config(str(file))
    texts = [f"{section}.make={getattr(loaded, section).make}", f"{section}.path=first"]
    made = [loaded, override(Config(), texts), config_from_dict(loaded.to_dict())]
    made.append(config_from_json(loaded.to_json()))
    for config in made:
        assert getattr(config, section).command == "make --out first --log first_log"
        moved = override(config, [f"{section}.path=some where"])
        replaced = dataclasses.replace(getattr(config, section), path="some where")
        assert getattr(moved, section) == replaced
        assert replaced.command == "make --out 'some where' --log 'some where'_log"
    assert getattr(load_config(str(file), moved.to_dict()), section) == replaced


def test_a_command_of_a_run_that_is_stored_with_its_path_in_it_stays():
    """As ``config.json`` of older runs has it."""
    stored = config_from_dict({"data": {"path": "a", "make": "make --out a"}})
    assert stored.data.command == "make --out a"


def test_further_sets_by_name():
    assert EvaluateConfig(more="a=x, b=y/z,").others == {"a": "x", "b": "y/z"}
