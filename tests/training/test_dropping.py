"""Windows that read the empty memory, against windows without any; what no other number may know of."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax import diffusion
from rad_jax.config import DiffusionConfig, TrainConfig
from rad_jax.training import objective
from tests.toy_model import WINDOW, toy_clip, toy_model, toy_params

BATCH, LENGTH = 2, 12
DIFFUSION, TRAIN = DiffusionConfig(levels=50), TrainConfig(windows=2)


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


def setting(*args, drop, **memory):
    """A model that drops memories, its parameters, a clip and what is drawn; both windows of a video have a memory."""
    model = toy_model(*args, dtype="float64", drop=drop, **memory)
    frames, actions = toy_clip(BATCH, LENGTH, "float64")
    draw = objective.step_randomness(model, DIFFUSION, TRAIN, jax.random.key(1), frames)
    return model, toy_params(model), frames, actions, draw._replace(starts=jnp.asarray([[8, 4], [4, 8]]))


def compiled_loss(model):
    return jax.jit(lambda *inputs: objective.loss(model, DIFFUSION, TRAIN, *inputs)[0])


def loss_without_memory(model, params, frames, actions, draw):
    """Window after window."""
    call, losses = jax.jit(lambda *inputs: model.apply({"params": params}, *inputs)[0]), []
    for b, k in np.ndindex(*draw.starts.shape):
        start = int(draw.starts[b, k])
        clean, action = (x[b : b + 1, start : start + WINDOW] for x in (frames, actions))
        levels, noise = draw.levels[b : b + 1, k], draw.noise[b : b + 1, k]
        prediction = call(diffusion.add_noise(DIFFUSION, clean, noise, levels), levels, action)
        error = jnp.square(prediction - diffusion.target(DIFFUSION, clean, noise, levels)).mean((-3, -2, -1))
        losses.append((diffusion.loss_weight(DIFFUSION, levels) * error).mean())
    return jnp.stack(losses).mean()


@pytest.mark.parametrize(
    ("kind", "stride", "window"),
    [("mamba2", WINDOW, "rollout"), ("bank", 1, "shared")],
)
def test_a_dropped_memory_is_the_empty_one_of_its_window_alone(kind, stride, window):
    model, *inputs, draw = setting(stride, window, kind=kind, drop=0.5)
    compiled = compiled_loss(model)

    def loss(*mask):
        return compiled(*inputs, draw._replace(memory_dropped=jnp.asarray(mask, bool)))

    every, none = loss((1, 1), (1, 1)), loss((0, 0), (0, 0))
    np.testing.assert_allclose(every, loss_without_memory(model, *inputs, draw), rtol=1e-12)
    assert abs(every - none) > 1e-4
    halves = loss((1, 0), (0, 1)), loss((0, 1), (1, 0))
    np.testing.assert_allclose(sum(halves), every + none, rtol=1e-12)
    assert abs(halves[0] - halves[1]) > 1e-4


def test_nothing_is_dropped_unless_asked_for():
    """To the bit: what is drawn is not read, and no other number that is drawn depends on it."""
    model, *inputs, draw = setting(drop=0.0)
    assert not draw.memory_dropped.any()
    mask = [leaf is draw.memory_dropped for leaf in jax.tree.leaves((inputs, draw))].index(True)
    read = []
    for one in (model, setting(drop=1.0)[0]):
        loss = functools.partial(objective.loss, one, DIFFUSION, TRAIN)
        program = jax.make_jaxpr(loss)(*inputs, draw).jaxpr
        read.append(any(program.invars[mask] in step.invars for step in program.eqns))
    assert read == [False, True]
    *_, dropping = setting(drop=1.0)
    assert dropping.memory_dropped.all()
    for name in set(draw._fields) - {"memory_dropped"}:
        np.testing.assert_array_equal(getattr(dropping, name), getattr(draw, name), name)


def test_a_share_of_all_windows_is_dropped_each_for_itself():
    frames, _ = toy_clip(200, WINDOW + 4)
    model, train = toy_model(drop=0.25), TrainConfig(windows=4)
    draw = objective.step_randomness(model, DIFFUSION, train, jax.random.key(0), frames)
    assert draw.memory_dropped.shape == (200, 4)
    np.testing.assert_allclose(draw.memory_dropped.mean(0), 0.25, atol=0.12)  # four standard errors
    assert len({tuple(row) for row in draw.memory_dropped.tolist()}) > 8
