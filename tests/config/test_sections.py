"""Data sets in a configuration: the commands that make them, and further evaluation sets."""

import dataclasses

import pytest

from rad_jax.config import Config, EvaluateConfig, config_from_dict, config_from_json, override


@pytest.mark.parametrize("section", ["data", "evaluate"])
def test_a_command_has_the_path_that_the_configuration_has(section):
    """However the configuration was made, and also when the path is changed in one that was made before."""
    texts = [f"{section}.make=make --out {{path}} --log {{path}}_log", f"{section}.path=first"]
    made = override(Config(), texts)
    for config in (made, config_from_dict(made.to_dict()), config_from_json(made.to_json())):
        assert getattr(config, section).command == "make --out first --log first_log"
        moved = override(config, [f"{section}.path=some where"])
        replaced = dataclasses.replace(getattr(config, section), path="some where")
        assert getattr(moved, section) == replaced
        assert replaced.command == "make --out 'some where' --log 'some where'_log"
    # As ``config.json`` of older runs has it.
    assert override(config, [f"{section}.make=make --out a"]).to_dict()[section]["make"] == "make --out a"


def test_further_sets_by_name():
    assert EvaluateConfig(more="a=x, b=y/z,").others == {"a": "x", "b": "y/z"}
