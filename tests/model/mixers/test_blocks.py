"""States that the tokens of a block share, against the equations of a single token on sequences that loops put together."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.config import MemoryConfig
from rad_jax.model.mixers import contract
from rad_jax.model.mixers.contract import BATCH, FRAMES, distance
from tests.model.mixers import test_mamba2, test_ttt

GRID, BLOCK = (2, 4), (2, 2)
# In raster order, numbered as the tokens of a frame are.
BLOCKS = [[0, 1, 4, 5], [2, 3, 6, 7]]
SIZE = len(BLOCKS[0])
# Segments and mini-batches end in the middle of a frame.
VARIANTS = {
    "mamba2": MemoryConfig("mamba2", block=BLOCK, head_width=4, state=5, mixer_segment=7),
    "ttt": MemoryConfig("ttt", block=BLOCK, mixer_segment=5),
    "ttt, mini-batches": MemoryConfig("ttt", block=BLOCK, mini_batch=3, mixer_segment=4),
}


def subject(variant):
    s = contract.subject(VARIANTS[variant], grid=GRID)
    weights = dict(s.variables["params"])
    if s.config.kind == "ttt":  # as in its own test: no step is 0
        weights["coefficient"] = abs(weights["coefficient"])
    return dataclasses.replace(s, variables={"params": weights})


@pytest.mark.parametrize("variant", ["mamba2", "ttt, mini-batches"])
@pytest.mark.parametrize("check", contract.CHECKS)
def test_contract(check, variant, float64):
    check(subject(variant))


def lined_up(x):
    """The sequences of all blocks (b, s, blocks, f), of frames (b, t, n, f)."""
    rows = [[x[:, t, tokens[i]] for tokens in BLOCKS] for t in range(x.shape[1]) for i in range(SIZE)]
    return jnp.stack([jnp.stack(row, axis=1) for row in rows], axis=1)


def put_back(y):
    """Frames, of sequences."""
    frames = np.empty((y.shape[0], y.shape[1] // SIZE, SIZE * len(BLOCKS), y.shape[-1]))
    for t in range(frames.shape[1]):
        for number, tokens in enumerate(BLOCKS):
            for i, token in enumerate(tokens):
                frames[:, t, token] = y[:, SIZE * t + i, number]
    return frames


def literal(s, x):
    """Token after token: outputs of the sequences, and the numbers in the state after all."""
    params, sequences = s.variables["params"], lined_up(x)
    if s.config.kind == "mamba2":
        y, states = test_mamba2.frame_by_frame(params, s.state, sequences)
        return y, tuple(states[-1])
    place = np.zeros(BATCH, int) if s.state.position is None else np.asarray(s.state.position, int)[:, 0]
    y, _, (weights, pending) = test_ttt.literal(s.config, params, s.state, place, sequences)
    last = (weights, pending) if s.config.mini_batch > 1 else (weights,)
    return y, jax.tree.map(lambda leaf: leaf[:, -1], last)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_tokens_of_a_block_follow_each_other_frame_after_frame(variant, float64):
    s = subject(variant)
    wanted, last = jax.jit(lambda x: literal(s, x))(s.x)
    state, y = s("run", s.state, s.x)
    assert distance(y, put_back(wanted)) < 1e-12
    assert distance(tuple(state)[: len(last)], last) < 1e-12


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_frame_reads_from_the_one_state_its_own_tokens_in_turn(variant, float64):
    s = subject(variant)
    one = jax.jit(lambda x: literal(s, x)[0])
    y = s("read", s.state, s.x)
    for t in range(FRAMES):
        assert distance(y[:, t : t + 1], put_back(one(s.x[:, t : t + 1]))) < 1e-12


@pytest.mark.parametrize("kind", ["mamba2", "ttt"])
def test_blocks_of_one_token_are_none(kind, float64):
    settings = {"head_width": 4, "state": 5} if kind == "mamba2" else {}
    plain, single = (
        contract.subject(MemoryConfig(kind, block=block, **settings)) for block in (None, (1, 1))
    )
    found, wanted = ((s("run", s.state, s.x), s("read", s.state, s.x), s.variables) for s in (single, plain))
    assert distance(found, wanted) == 0


def test_there_is_a_state_for_every_block():
    def shapes(kind, **memory):
        mixer = contract.build(MemoryConfig(kind, **memory), 16, 2, "float32", 6, 4)
        return [leaf.shape for leaf in jax.tree.leaves(mixer.initial_state(3, 24))]

    assert shapes("mamba2", block=(2, 3), head_width=8, state=4) == [(3, 4, 3, 40), (3, 4, 4, 8, 4)]
    assert shapes("ttt", block=(4, 6), mini_batch=2) == [(3, 1, 2, 8, 8), (3, 1, 2, 8)] * 2 + [(3, 1)]
    assert shapes("ttt") == [(3, 24, 2, 8, 8), (3, 24, 2, 8)]


def test_a_frame_starts_with_the_decay_of_one_token(float64):
    """Whatever the number of tokens that decay the state."""
    steps = []
    for block in (None, BLOCK):
        mixer = contract.build(
            MemoryConfig("mamba2", block=block, head_width=4), tokens=GRID[1], rows=GRID[0]
        )
        bias = contract.init(mixer, jnp.zeros((1, 1, 8, contract.WIDTH)))["step"]["bias"]
        steps.append(np.log1p(np.exp(bias)))
    np.testing.assert_allclose(SIZE * steps[1], steps[0], rtol=1e-12)
