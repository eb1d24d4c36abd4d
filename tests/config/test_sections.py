"""Configurations: combinations of keys that cannot be, what follows from keys, differences, and the way to JSON and back."""

import dataclasses
import json
import subprocess
import sys

import pytest

from rad_jax.config import (
    Config,
    EvaluateConfig,
    MemoryConfig,
    ModelConfig,
    config_from_dict,
    config_from_json,
    diff_configs,
    flatten,
    override,
    window_starts,
)
from tests.config.refusals import assert_refused

SLIDING = ("memory.window=rollout",)
PLAIN = ("memory.gates=slots", "memory.action=false")  # slots are functions of the action


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        # one section
        (["data.auto_make=true"], ["data.auto_make=true", "data.make"]),
        (["evaluate.auto_make=true"], ["evaluate.auto_make=true", "evaluate.make"]),
        (["evaluate.auto_make=true", "evaluate.make=x", "evaluate.more=a=b"], ["evaluate.more_make"]),
        (["tokenizer.preview=x"], ["tokenizer.preview=x", "sd_vae", "patch_pca"]),
        (["train.windows=7", "train.window_batch=2"], ["train.windows=7", "train.window_batch (2)"]),
        (["train.accumulate=5"], ["train.batch=24", "train.accumulate (5)", "25"]),
        (["checkpoint.keep_every=750"], ["checkpoint.keep_every=750", "checkpoint.every (500)"]),
        (["mesh.data=0"], ["mesh.data=0", "-1"]),
        # the model and its memory
        (["model.heads=7"], ["model.width=1024", "model.heads (7)", "1022"]),
        (["model.width=96"], ["model.heads=16", "multiple of 4"]),
        (["model.latent=9,8,16"], ["model.patch=2", "9 x 8"]),
        (["model.latent=8,9,16"], ["model.patch=2", "8 x 9"]),
        (["model.mlp_ratio=0.0001"], ["model.mlp_ratio=0.0001", "model.width=1024"]),
        (["model.window=2", "memory.stride=4", *SLIDING], ["memory.stride=4", "1 .. 2"]),
        (["memory.stride=2"], ["memory.window=shared", "memory.stride=1, not 2", "rollout"]),
        (["memory.stride=3", *SLIDING], ["memory.prefetch_segment=20", "memory.stride (3)", "21"]),
        (["memory.bptt=truncated", "memory.bptt_frames=50"], ["memory.bptt_frames=50", "segment (20)"]),
        ([*PLAIN], ["memory.gates=slots", "memory.action=true"]),
        (["memory.kind=mamba2", "memory.head_width=60"], ["memory.expand", "memory.head_width (60)"]),
        (["memory.kind=ttt", "memory.heads=5"], ["model.width=1024", "memory.heads (5)"]),
        (["memory.kind=arl2", "memory.heads=5"], ["model.width=1024", "memory.heads (5)"]),
        (["memory.kind=arl2", "memory.heads=512"], ["memory.heads=512", "multiple of 4"]),
        (
            ["memory.kind=arl2", "memory.block=(3,2)", "model.latent=(8,8,16)"],
            ["memory.block=(3,2)", "4 x 4 tokens", "model.latent"],
        ),
        (["memory.kind=queries", "memory.heads=512"], ["memory.heads=512", "multiple of 4"]),
        (
            ["memory.kind=ttt", "memory.block=(3,2)", "model.latent=(8,8,16)"],
            ["memory.block=(3,2)", "4 x 4 tokens"],
        ),
        (
            ["memory.kind=queries", "memory.query_width=60", "memory.heads=16"],
            ["memory.query_width=60", "memory.heads (16)"],
        ),
        # several sections
        (["memory.kind=none", "train.freeze=base"], ["train.freeze=base", "memory.kind=none"]),
        (["memory.frames=noised", "memory.noised_levels=2000"], ["memory.noised_levels=2000", "1000"]),
        (
            ["memory.frames=resampled", "memory.resample_steps=3", "memory.resample_levels=(1,9)"],
            ["memory.resample_steps=3", "level 1", "at most 2"],
        ),
        (["memory.resample_levels=(9,8)"], ["memory.resample_levels=(9,8)", "lowest"]),
        (
            ["memory.frames=resampled", "memory.resample_after=80"],
            ["memory.resample_after=80", "less than 80", "data.clip=100"],
        ),
        (
            ["memory.frames=resampled", "memory.resample_levels=(10,1000)"],
            ["memory.resample_levels=1000", "999", "diffusion.levels=1000"],
        ),
        (["train.chain=2", "memory.stride=2", *SLIDING], ["train.chain=2", "memory.stride=1, not 2"]),
        (["train.chain=21"], ["train.chain=21", "model.window (20)"]),
        (["train.chain=4", "train.windows=79"], ["train.windows=79", "at most 78", "(77)"]),
        (["train.chain=4", "train.chain_steps=1001"], ["train.chain_steps=1001", "1000"]),
        (["train.revisit=0.5"], ["train.revisit=0.5", "data.condition=action+pose or action+odometry"]),
        *(
            (
                [f"memory.kind={kind}", *setting, *PLAIN],
                [setting[-1], "data.condition=action+pose or action+odometry"],
            )
            for kind, *setting in (
                ("bank", "memory.keep=pose-bin"),
                ("bank", "memory.read=view-overlap"),
                ("convkv", "memory.align=pose"),
                ("queries", "memory.rotate=pose"),
                ("arl2", "memory.rotate=ray"),
            )
        ),
        (["model.pose=(3,1)", "model.plane=(3,4)"], ["model.plane=(3,4)", "there are 3"]),
        (["model.pose=(3,1)", "model.plane=(-3,1)"], ["model.plane=(-3,1)", "second alone"]),
        (["model.pose=(3,1)", "model.plane=(1,-1)"], ["model.plane=(1,-1)", "two positions"]),
        (
            ["train.revisit=0.5", "data.condition=action+pose", "data.clip=39"],
            ["train.revisit=0.5", "model.window (20)", "19", "data.clip=40"],
        ),
        (["data.clip=10"], ["data.clip=10", "at least 20", "model.window", "(20)"]),
        (  # no multiple of the stride would be left
            ["data.clip=30", "train.first_start=10", "memory.stride=20", *SLIDING],
            ["data.clip=30", "at least 40", "memory.stride (20)", "train.first_start (10)"],
        ),
        (["train.first_start=90"], ["data.clip=100", "at least 110", "train.first_start (90)"]),
        (["train.windows=82"], ["train.windows=82", "at most 81"]),
        (["mesh.fsdp=5"], ["train.batch=24", "mesh devices (5)"]),
        (["model.context_level=1000"], ["model.context_level=1000", "999", "diffusion.levels"]),
        (["diffusion.levels=40"], ["sample.steps=50", "40", "diffusion.levels"]),
    ],
    ids=str,
)
def test_impossible_combinations_are_named(overrides, words):
    assert_refused(override, Config(), overrides, words=words, lines=1)


@pytest.mark.parametrize(
    "overrides",
    [
        ["memory.noised_levels=2000", "memory.resample_levels=(10,2000)"],  # frames are clean
        ["train.revisit=0.5", "data.condition=action+pose", "data.clip=40"],
        ["memory.kind=none", "memory.drop=0.5"],  # so that a comparison may set it for all variants
        ["memory.kind=none", "memory.heads=5", "memory.head_width=60", *PLAIN],
        ["memory.kind=lstm", "memory.heads=5", "memory.head_width=60"],
        ["memory.kind=mamba2", "memory.heads=5", *PLAIN],
        ["memory.kind=ttt", "memory.head_width=60", *PLAIN],
        ["memory.kind=arl2", "memory.head_width=60", *PLAIN],
        ["memory.kind=arl2", "memory.block=(3,2)", *PLAIN],  # the grid of tokens is not known yet
        ["memory.kind=lstm", "memory.block=(3,2)", "model.latent=(8,8,16)"],
    ],
    ids=str,
)
def test_settings_that_are_not_used_need_not_fit(overrides):
    override(Config(), overrides)


@pytest.mark.parametrize(
    ("clip", "window", "stride", "first"), [(24, 4, 1, 10), (24, 4, 4, 10), (21, 20, 10, 0), (9, 9, 3, 0)]
)
def test_window_starts(clip, window, stride, first):
    expected = [j for j in range(clip) if j % stride == 0 and j >= first and j + window <= clip]
    assert list(window_starts(clip, window, stride, first)) == expected


def test_sizes_that_follow_from_the_model():
    model = ModelConfig(latent=(8, 6, 4), patch=2, dtype="bfloat16")
    assert (model.grid, model.tokens) == ((4, 3), 12)
    assert (model.compute_dtype.name, model.state_dtype.name) == ("bfloat16", "float32")
    assert ModelConfig(dtype="float64").state_dtype.name == "float64"
    assert_refused(lambda: ModelConfig().grid, words=["model.latent=none"])


@pytest.mark.parametrize(
    ("kind", "action", "features"),
    [("lstm", None, 128), ("ttt", None, 0), ("ttt", True, 128), ("lstm", False, 0)],
)
def test_the_action_feature_is_the_lstms_unless_said_otherwise(kind, action, features):
    assert MemoryConfig(kind, action=action).features == features


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


def test_json_and_back():
    config = override(Config(), ["model.latent=(4,4,16)", "optimizer.learning_rate=0.1", "memory.kind=none"])
    assert config_from_json(config.to_json()) == config
    assert config_from_dict(config.to_dict()) == config
    assert config_from_json("{}") == config_from_json('{"train": {}, "seed": 0}') == Config()
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
    """A module that is None in ``sys.modules`` cannot be imported."""
    code = (
        "import runpy, sys\n"
        "sys.modules.update(dict.fromkeys(['jax', 'jaxlib', 'flax']))\n"
        "sys.argv = ['main', '--config', 'experiments/maze.py:ttt-f', '--mode', 'show']\n"
        "runpy.run_module('rad_jax.main', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "  memory.kind = ttt" in done.stdout
