"""Sizes at paper scale, from shapes alone: the base is that of Oasis, the branch that of the paper's Table 3."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import pytest

from rad_jax.config import MemoryConfig, ModelConfig
from rad_jax.model import RAD
from rad_jax.model.names import named_leaves

OASIS = 607_943_744  # trainable parameters of Oasis 500M, with its 25-wide action
WIDTH, DEPTH, ACTION = 1024, 16, 128


def config(kind, **changes):
    return ModelConfig(
        latent=(18, 32, 16),
        patch=2,
        width=WIDTH,
        depth=DEPTH,
        heads=16,
        action_dim=25,
        memory=MemoryConfig(kind=kind, action_width=ACTION, **changes),
    )


def count(config):
    """Parameters of the base and of the memory branches."""
    shapes = (
        jax.ShapeDtypeStruct((1, 2, *config.latent), jnp.float32),
        jax.ShapeDtypeStruct((1, 2), jnp.int32),
        jax.ShapeDtypeStruct((1, 2, config.action_dim), jnp.float32),
    )
    leaves = named_leaves(jax.eval_shape(RAD(config).init, jax.random.key(0), *shapes)["params"])
    assert {leaf.dtype for leaf in leaves.values()} == {jnp.dtype("float32")}
    sizes = {name: math.prod(leaf.shape) for name, leaf in leaves.items()}
    memory = sum(size for name, size in sizes.items() if name.startswith("block/memory/"))
    return sum(sizes.values()) - memory, memory


def test_the_base_has_the_size_of_oasis():
    assert count(config("none")) == (OASIS, 0)
    wider = dataclasses.replace(config("none"), action_dim=26)
    assert count(wider) == (OASIS + WIDTH, 0)


def test_the_lstm_branch_has_the_size_of_the_paper():
    base, memory = count(config("lstm"))
    cell = 4 * WIDTH * (WIDTH + ACTION + WIDTH) + 4 * WIDTH  # one bias where torch has two
    modulation, action = 3 * WIDTH * (WIDTH + 1), ACTION * (WIDTH + 1)
    assert base == OASIS
    assert memory == DEPTH * (cell + modulation + action)
    assert memory == pytest.approx(195e6, rel=0.01)


def test_the_mamba2_branch_has_the_size_of_the_paper():
    """Expansion 2, states of 64, kernel 4, heads of 64, one group; no action feature."""
    inner, state, heads = 2 * WIDTH, 64, 32
    convolved = inner + 2 * state
    mixer = WIDTH * (inner + convolved + heads) + 5 * convolved + 3 * heads + inner + inner * WIDTH
    base, memory = count(config("mamba2"))
    assert (base, memory) == (OASIS, DEPTH * (mixer + 3 * WIDTH * (WIDTH + 1)))
    assert memory == pytest.approx(153e6, rel=0.01)


def test_the_ttt_branch_has_the_size_of_the_paper():
    """16 heads, mini-batches of 1; no action feature."""
    heads, e = 16, 64
    maps, inner = 4 * WIDTH * (WIDTH + 1), heads * e * (e + 1)
    rates, norms, coefficient = heads * (WIDTH + 1), 2 * WIDTH + 2 * WIDTH, 1
    base, memory = count(config("ttt"))
    mixer = maps + inner + rates + norms + coefficient
    assert (base, memory) == (OASIS, DEPTH * (mixer + 3 * WIDTH * (WIDTH + 1)))
    assert memory == pytest.approx(118e6, rel=0.01)


def test_an_action_feature_costs_its_projection_and_its_columns():
    with_action, without = (count(config("lstm", action=action))[1] for action in (True, False))
    assert with_action - without == DEPTH * ACTION * (WIDTH + 1 + 4 * WIDTH)
