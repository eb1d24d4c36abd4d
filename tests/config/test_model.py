"""The model's sections: which combinations of keys are refused, also by the check of a memory, and what follows from them."""

import pytest

from rad_jax.config import NAMES, MemoryConfig, ModelConfig
from rad_jax.config.memories import MEMORIES
from tests.config.refusals import assert_refused


@pytest.mark.parametrize(
    ("model", "memory", "words"),
    [
        ({"heads": 7}, {}, ["model.width=1024", "model.heads (7)", "1022"]),
        ({"width": 96, "heads": 16}, {}, ["model.heads=16", "multiple of 4"]),
        ({"latent": (9, 8, 16)}, {}, ["model.patch=2", "9 x 8"]),
        ({"latent": (8, 9, 16)}, {}, ["model.patch=2", "8 x 9"]),
        ({"latent": (9, 9, 16)}, {}, ["model.patch=2", "9 x 9"]),
        ({"mlp_ratio": 0.0001}, {}, ["model.mlp_ratio=0.0001", "model.width=1024"]),
        ({"window": 2}, {"stride": 4, "window": "rollout"}, ["memory.stride=4", "1 .. 2"]),
        ({}, {"stride": 2}, ["memory.window=shared", "memory.stride=1, not 2", "rollout"]),
        ({}, {"stride": 3, "window": "rollout"}, ["memory.prefetch_segment=20", "memory.stride (3)", "21"]),
        (
            {},
            {"bptt": "truncated", "bptt_frames": 50},
            ["memory.bptt_frames=50", "memory.prefetch_segment (20)"],
        ),
        ({}, {"gates": "slots", "action": False}, ["memory.gates=slots", "memory.action=true"]),
        ({}, {"kind": "mamba2", "conv": 1}, ["memory.conv=1", ">= 2"]),
        ({}, {"kind": "arl2", "heads": 512}, ["memory.heads=512", "multiple of 4"]),
    ],
)
def test_impossible_combinations_are_named(model, memory, words):
    assert_refused(lambda: ModelConfig(**model, memory=MemoryConfig(**memory)), words=words, lines=1)


def test_the_settings_of_one_memory_do_not_concern_another():
    odd = {"conv": 1, "heads": 5, "head_width": 60, "gates": "slots", "action": False}
    refused = {
        "lstm": ["memory.gates"],
        "mamba2": ["memory.head_width"],
        "ttt": ["memory.heads"],
        "arl2": ["memory.heads"],
    }
    assert tuple(MEMORIES) == NAMES
    for kind in NAMES:
        if kind in refused:
            assert_refused(lambda k=kind: ModelConfig(memory=MemoryConfig(k, **odd)), words=refused[kind])
        else:
            ModelConfig(memory=MemoryConfig(kind, **odd))


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
