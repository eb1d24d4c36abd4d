"""Chains of windows, against a loop that predicts and replaces one frame after another."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax import diffusion
from rad_jax.config import DiffusionConfig, TrainConfig
from rad_jax.model import RAD
from rad_jax.model.memory import at_start
from rad_jax.rollout.costs import matrix_flops
from rad_jax.training import objective
from rad_jax.training.regimes.chain import before_last
from tests.toy_model import WINDOW, toy_clip, toy_model, toy_params

BATCH, LENGTH, CHAIN, STEPS = 2, 10, 3, 2
DIFFUSION = DiffusionConfig(levels=50)
TRAIN = TrainConfig(windows=2, chain=CHAIN, chain_steps=STEPS)


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


def setting(kind, train=TRAIN, **memory):
    model = toy_model(kind=kind, dtype="float64", **memory)
    frames, actions = toy_clip(BATCH, LENGTH, "float64")
    draw = objective.step_randomness(model, DIFFUSION, train, jax.random.key(1), frames)
    return model, toy_params(model), frames, actions, draw


def compiled_loss(model, train=TRAIN):
    return jax.jit(lambda *inputs: objective.loss(model, DIFFUSION, train, *inputs)[0])


def literal_loss(model, params, frames, actions, draw):
    """Chain after chain, window after window, by `RAD.__call__` alone; all videos at once, whose starts are equal."""
    call = jax.jit(lambda *inputs: model.apply({"params": params}, *inputs)[0])
    prefetch = jax.jit(lambda *inputs: model.apply({"params": params}, *inputs, method=RAD.prefetch))
    memories = prefetch(frames, actions, draw.starts)
    share, losses = np.append(diffusion.alpha_bar(DIFFUSION), 1.0), []
    for k in range(TRAIN.windows):
        own = frames  # of this chain
        for m in range(CHAIN):
            index = k * CHAIN + m
            start = int(draw.starts[0, index])
            assert (draw.starts[:, index] == draw.starts[0, k * CHAIN] + m).all()
            here, memory = slice(start, start + WINDOW), at_start(memories, index)
            clean, action = own[:, here], actions[:, here]
            levels, noise = draw.levels[:, index], draw.noise[:, index]
            prediction = call(diffusion.add_noise(DIFFUSION, clean, noise, levels), levels, action, memory)
            target = diffusion.target(DIFFUSION, clean, noise, levels)
            error = jnp.square(prediction - target).mean((-3, -2, -1))
            losses.append((diffusion.loss_weight(DIFFUSION, levels) * error).mean())
            if m < CHAIN - 1:
                x, visited = draw.chain_noise[:, k, m], diffusion.sampler_levels(DIFFUSION, STEPS)
                for now, after in itertools.pairwise(visited):
                    at = jnp.full((BATCH, WINDOW), model.config.context_level).at[:, -1].set(int(now))
                    v = call(clean.at[:, -1].set(x), at, action, memory)[:, -1]
                    (a, s), (b, r) = ((np.sqrt(share[n]), np.sqrt(1 - share[n])) for n in (now, after))
                    x = b * (a * x - s * v) + r * (s * x + a * v)
                own = own.at[:, start + WINDOW - 1].set(x)
    return jnp.stack(losses).mean()


@pytest.mark.parametrize(("kind", "together"), [("lstm", 1), ("bank", 0)])
def test_a_chain_is_the_loop_that_replaces_one_frame_after_another(kind, together):
    train = dataclasses.replace(TRAIN, window_batch=together)
    model, *inputs, draw = setting(kind, train)
    starts = jnp.asarray([[1, 2, 3, 4, 5, 6]] * BATCH)
    assert draw.starts.shape == starts.shape and draw.chain_noise.shape[:3] == (BATCH, 2, CHAIN - 1)
    draw = draw._replace(starts=starts)
    found = compiled_loss(model, train)(*inputs, draw)
    np.testing.assert_allclose(found, literal_loss(model, *inputs, draw), rtol=1e-11)


def test_with_true_frames_in_the_place_of_predictions_it_is_the_ordinary_loss(monkeypatch):
    model, params, frames, actions, draw = setting("lstm")
    starts = draw.starts.tolist()
    true = [[frames[b, s + WINDOW - CHAIN : s + WINDOW - 1] for s in starts[b]] for b in range(BATCH)]
    monkeypatch.setattr(objective, "before_last", lambda *_: jnp.asarray(true))
    ordinary = TrainConfig(windows=2 * CHAIN)
    losses = [compiled_loss(model, train)(params, frames, actions, draw) for train in (TRAIN, ordinary)]
    np.testing.assert_allclose(*losses, rtol=1e-12)


def test_no_gradient_flows_through_predictions():
    """A gradient has no matrix products beyond those of the predictions and of their memory."""
    model, params, frames, actions, draw = setting("lstm", bptt="none")

    def total(params):
        memory = model.apply({"params": params}, frames, actions, draw.starts, method=RAD.prefetch)
        batch = frames, actions, draw.starts, memory, draw.chain_noise
        return before_last(model, DIFFUSION, TRAIN, params, *batch).sum()

    forward, both = (matrix_flops(jax.make_jaxpr(f)(params)) for f in (total, jax.grad(total)))
    assert 0 < both <= forward  # less, because a gradient leaves out what nothing reads


def test_what_is_drawn_for_single_windows_stays():
    """A chain begins where a single window would, and a window that is drawn for it ends within the clip."""
    model = toy_model(drop=0.5)
    frames, _ = toy_clip(64, LENGTH)

    def draw(**settings):
        train = TrainConfig(windows=2, **settings)
        return objective.step_randomness(model, DIFFUSION, train, jax.random.key(1), frames)

    chained, single = draw(chain=CHAIN), draw()
    starts = np.asarray(chained.starts).reshape(64, 2, CHAIN)
    np.testing.assert_array_equal(np.diff(starts, axis=2), 1)
    assert set(np.unique(starts)) == set(range(LENGTH - WINDOW + 1)) and set(
        np.unique(starts[..., 0])
    ) == set(range(5))
    dropped = np.asarray(chained.memory_dropped).reshape(64, 2, CHAIN)
    np.testing.assert_array_equal(dropped.min(2), dropped.max(2))
    np.testing.assert_array_equal(dropped[..., 0], single.memory_dropped)
    assert single.chain_noise.size == 0 and chained.levels.shape == (64, 2 * CHAIN, WINDOW)
    for name in ("memory_levels", "memory_noise", "memory_clean"):
        np.testing.assert_array_equal(getattr(chained, name), getattr(single, name), name)
