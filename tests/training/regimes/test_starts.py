"""Windows that begin where a place is seen again: which those are, against a loop, and how often they are drawn."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.config import DiffusionConfig, TrainConfig
from rad_jax.training import objective
from rad_jax.training.regimes.starts import draw_starts, revisits
from tests.toy_model import WINDOW, toy_clip, toy_model, toy_posed

DIFFUSION = DiffusionConfig(levels=50)


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


def turns(batch, length, step=(60, 45)):
    """Conditions of toy models with a pose: a position, and a heading that turns by so many degrees per frame."""
    angle = np.radians(np.outer(np.resize(step, batch), np.arange(length)))
    place = np.random.default_rng(0).normal(0, 0.02, (batch, length))
    return jnp.asarray(np.stack([place, np.cos(angle), np.sin(angle)], axis=-1))


def posed(**memory):
    return toy_posed(**{"kind": "lstm", "radius": 0.5, "position_weight": 2.0, **memory})


def literal_revisits(config, actions, candidates):
    found = np.zeros((len(actions), len(candidates)), bool)
    for b, c in np.ndindex(*found.shape):
        start = int(candidates[c])
        pose = np.array(actions[b, :, -3:])
        pose[:, 0] *= config.memory.position_weight
        last = pose[start + config.window - 1]
        for i in range(start - config.window + 1):
            found[b, c] |= bool(np.sqrt(((pose[i] - last) ** 2).sum()) < config.memory.radius)
    return found


@pytest.mark.parametrize("candidates", [np.arange(0, 37), np.arange(3, 37, 4)])
def test_revisits_are_those_of_a_loop(candidates):
    actions, config = turns(2, 40), posed().config
    found = revisits(config, actions, candidates)
    np.testing.assert_array_equal(found, literal_revisits(config, actions, candidates))
    assert 0 < found.sum() < found.size and not found[:, candidates < WINDOW].any()
    assert (found[0] != found[1]).any()
    # Of places, as they are weighted.
    far = revisits(posed(position_weight=1000.0).config, actions, candidates)
    assert far.sum() < found.sum() / 2


def test_starts_are_drawn_as_often_as_they_should_be():
    """Of five starts two are preferred: pairs of distinct starts have the probabilities that are counted here."""
    share, candidates, preferred = 0.6, np.array([2, 4, 6, 8, 10]), np.array([0, 1, 0, 0, 1], bool)
    batch = 4000
    starts, wanted = draw_starts(
        jax.random.key(0), candidates, jnp.tile(jnp.asarray(preferred), (batch, 1)), share, 2
    )
    expected = collections.Counter()

    def choices(free):
        every = {c: (1 - share) / len(free) for c in free}
        among = [c for c in free if preferred[c]] or free
        return {c: every[c] + share * (c in among) / len(among) for c in free}

    for first, p in choices(range(5)).items():
        for second, q in choices([c for c in range(5) if c != first]).items():
            expected[int(candidates[first]), int(candidates[second])] += p * q
    found = collections.Counter(map(tuple, np.asarray(starts).tolist()))
    assert found.keys() == expected.keys()
    for pair, p in expected.items():
        assert abs(found[pair] / batch - p) < 4.5 * np.sqrt(p * (1 - p) / batch), pair
    np.testing.assert_allclose(wanted.mean(0), share, atol=0.035)
    assert set(np.asarray(starts)[np.asarray(wanted)].tolist()) == {4, 10}


def test_with_too_few_revisits_windows_start_anywhere():
    preferred = jnp.asarray([[0, 0, 0, 0], [0, 1, 0, 0]], bool)
    for seed in range(5):
        starts, wanted = draw_starts(jax.random.key(seed), np.arange(4), preferred, 1.0, 4)
        assert [sorted(row) for row in starts.tolist()] == [[0, 1, 2, 3]] * 2 and starts[1, 0] == 1
        assert wanted.tolist() == [[False] * 4, [True, False, False, False]]


def draw_of(model, share, actions, batch=2, length=24):
    frames, train = toy_clip(batch, length)[0], TrainConfig(windows=3, revisit=share)
    return objective.step_randomness(model, DIFFUSION, train, jax.random.key(1), frames, actions)


def test_a_step_draws_among_revisits_whose_memory_is_never_dropped():
    """All else that is drawn stays, and without a share the starts do."""
    model, actions = posed(drop=1.0), turns(2, 24)
    some, none, before = draw_of(model, 1.0, actions), draw_of(model, 0.0, actions), draw_of(model, 0.0, None)
    allowed = literal_revisits(model.config, actions, np.arange(21))
    assert all(allowed[b, start] for b in range(2) for start in np.asarray(some.starts)[b])
    assert not some.memory_dropped.any() and none.memory_dropped.all()
    jax.tree.map(np.testing.assert_array_equal, none, before)
    order = jax.random.permutation(
        jax.random.split(jax.random.key(1), 5)[0],
        jnp.tile(jnp.arange(21), (2, 1)),
        axis=1,
        independent=True,
    )
    np.testing.assert_array_equal(none.starts, order[:, :3])
    assert (none.starts != some.starts).any()
    for name in set(some._fields) - {"starts", "memory_dropped"}:
        np.testing.assert_array_equal(getattr(some, name), getattr(none, name), name)


def test_a_model_without_a_pose_has_no_revisits():
    with pytest.raises(ValueError, match=r"train\.revisit.*action\+pose"):
        draw_of(toy_model(), 0.5, turns(2, 24))
