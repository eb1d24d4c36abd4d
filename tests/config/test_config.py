"""A whole configuration: combinations across sections, differences, and the way to JSON and back."""

import json
import subprocess
import sys

import pytest

from rad_jax.config import (
    Config,
    config_from_dict,
    config_from_json,
    diff_configs,
    flatten,
    override,
    window_starts,
)
from tests.config.refusals import assert_refused


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["memory.kind=none", "train.freeze=base"], ["train.freeze=base", "memory.kind=none"]),
        (["memory.frames=noised", "memory.noised_levels=2000"], ["memory.noised_levels=2000", "1000"]),
        (["data.clip=10"], ["data.clip=10", "at least 20", "model.window (20)"]),
        (["train.first_start=90"], ["data.clip=100", "at least 110", "train.first_start (90)"]),
        (["train.windows=82"], ["train.windows=82", "at most 81"]),
        (["mesh.fsdp=5"], ["train.batch=24", "mesh devices (5)"]),
        (["model.context_level=1000"], ["model.context_level=1000", "999", "diffusion.levels"]),
        (["diffusion.levels=40"], ["sample.steps=50", "40", "diffusion.levels"]),
    ],
)
def test_impossible_combinations_are_named(overrides, words):
    assert_refused(override, Config(), overrides, words=words, lines=1)


def test_noised_levels_count_only_where_frames_are_noised():
    assert override(Config(), ["memory.noised_levels=2000"]).memory.noised_levels == 2000


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
    nested = json.loads(config.to_json())
    assert nested["memory"]["kind"] == "none" and nested["name"] == config.name
    assert set(flatten(config)) == {
        f"{section}.{name}" if isinstance(values, dict) else section
        for section, values in nested.items()
        for name in (values if isinstance(values, dict) else [""])
    }


def test_differences_are_listed():
    other = override(Config(), ["train.steps=7", "memory.kind=none"])
    assert diff_configs(Config(), other) == {"memory.kind": ("lstm", "none"), "train.steps": (5000, 7)}
    assert diff_configs(other, other) == {}


def test_a_configuration_needs_neither_jax_nor_flax(root):
    code = "import rad_jax.config, sys; print({'jax', 'jaxlib', 'flax'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")
