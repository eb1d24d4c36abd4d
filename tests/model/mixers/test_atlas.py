"""The atlas: a bank that draws every place once, by where frames were seen from."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.config import ConfigError
from rad_jax.model import RAD, addressing
from tests.toy_model import toy_clip, toy_params, toy_posed

SETTINGS = {"capacity": 5, "retrieved": 2, "unseen": 0.1}
VIEWS = 12  # of a turn


def turn(count: int) -> jax.Array:
    """Conditions of frames that turn in place, a twelfth of a turn each: an action, a position, a heading."""
    heading = 2 * math.pi / VIEWS * np.arange(count)
    return jnp.asarray(np.stack([0 * heading, 0 * heading, np.cos(heading), np.sin(heading)], axis=-1)[:, 1:])


def kept(model: RAD, actions) -> addressing.Slots:
    """The slots after every frame of a clip."""
    config, frames = model.config, toy_clip(1, len(actions), "float64")[0]
    marks = addressing.mark(config, frames, actions[None])
    before, after = addressing.fill(config.memory, addressing.empty_slots(config, 1), marks, 0)
    return jax.tree.map(lambda b, a: jnp.concatenate([b, a[:, None]], axis=1)[0], before, after)


def test_what_was_seen_is_never_written_again(float64):
    """With a view of 60 degrees, a third of which is new in every frame, six frames draw the room; a second turn adds none."""
    slots = kept(toy_posed("atlas", **{**SETTINGS, "capacity": 20}), turn(3 * VIEWS))
    records = np.asarray(slots.record)
    assert (records[VIEWS] > 0).sum() >= 6
    np.testing.assert_array_equal(records[VIEWS:], np.tile(records[VIEWS], (2 * VIEWS + 1, 1)))


def test_a_larger_world_takes_the_place_of_what_was_kept_first(float64):
    slots = kept(toy_posed("atlas", **{**SETTINGS, "capacity": 3}), turn(VIEWS))
    full = 0
    for before, after in zip(
        *(map(set, np.asarray(x).tolist()) for x in (slots.record[:-1], slots.record[1:]))
    ):
        if before != after and 0 not in before:
            assert before - after == {min(before)} and len(after) == 3
            full += 1
    assert full >= 3


def test_it_is_the_bank_that_keeps_the_unseen_and_reads_by_overlap(float64):
    atlas = toy_posed("atlas", **SETTINGS)
    bank = toy_posed("bank", keep="unseen", read="view-overlap", **SETTINGS)
    params, (frames, actions) = toy_params(bank), toy_clip(2, 9, "float64")
    starts = jnp.asarray([[0, 5], [3, 9]])
    fetched = [
        jax.jit(lambda p, f, a, m=m: m.apply({"params": p}, f, a, starts, method=RAD.prefetch))(
            params, frames, actions
        )
        for m in (atlas, bank)
    ]
    for one, other in zip(*map(jax.tree.leaves, fetched), strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_the_pose_it_is_refused():
    config = toy_posed("atlas", **SETTINGS).config
    with pytest.raises(ConfigError, match=r"memory\.kind=atlas: the model is not given the pose"):
        dataclasses.replace(config, pose=(0, 0))
