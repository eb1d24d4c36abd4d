"""Sizes at paper scale, from shapes alone: the base is that of Oasis, the branch that of the paper's Table 3."""

import math

import pytest

from rad_jax.config import MemoryConfig, ModelConfig
from rad_jax.model.names import is_memory, parameter_shapes

OASIS = 607_943_744  # trainable parameters of Oasis 500M, with its 25-wide action
WIDTH, DEPTH, ACTION = 1024, 16, 128


def config(kind, action_dim=25, **memory):
    memory = MemoryConfig(kind=kind, action_width=ACTION, **memory)
    return ModelConfig(latent=(18, 32, 16), action_dim=action_dim, memory=memory)


def count(config):
    """Parameters of the base and of the memory branches."""
    sizes = {name: math.prod(shape) for name, shape in parameter_shapes(config).items()}
    memory = sum(size for name, size in sizes.items() if is_memory(name))
    return sum(sizes.values()) - memory, memory


def lstm():
    """One bias where torch has two."""
    return 4 * WIDTH * (WIDTH + ACTION + WIDTH) + 4 * WIDTH + ACTION * (WIDTH + 1)


def mamba2():
    """Expansion 2, states of 64, kernel 4, heads of 64, one group; no action feature."""
    inner, state, heads = 2 * WIDTH, 64, 32
    convolved = inner + 2 * state
    return WIDTH * (inner + convolved + heads) + 5 * convolved + 3 * heads + inner + inner * WIDTH


def ttt():
    """16 heads, mini-batches of 1; no action feature."""
    heads, e = 16, 64
    maps, inner = 4 * WIDTH * (WIDTH + 1), heads * e * (e + 1)
    rates, norms, coefficient = heads * (WIDTH + 1), 2 * WIDTH + 2 * WIDTH, 1
    return maps + inner + rates + norms + coefficient


@pytest.mark.parametrize("mixer, millions", [(lstm, 195), (mamba2, 153), (ttt, 118)])
def test_a_branch_has_the_size_of_the_paper(mixer, millions):
    base, memory = count(config(mixer.__name__))
    assert (base, memory) == (OASIS, DEPTH * (mixer() + 3 * WIDTH * (WIDTH + 1)))
    assert memory == pytest.approx(millions * 1e6, rel=0.01)


def test_the_base_has_the_size_of_oasis():
    assert count(config("none")) == (OASIS, 0)
    assert count(config("none", action_dim=26)) == (OASIS + WIDTH, 0)


def test_an_action_feature_costs_its_projection_and_its_columns():
    without = count(config("lstm", action=False))[1]
    assert count(config("lstm"))[1] - without == DEPTH * ACTION * (WIDTH + 1 + 4 * WIDTH)
