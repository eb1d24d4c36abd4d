"""Which frames a prediction depends on, against sliding the window over the clip by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.config import DiffusionConfig
from rad_jax.evaluation.effective_attention import DIRECTIONS, effective_attention
from tests.toy_model import WINDOW, toy_clip, toy_model, toy_params

DIFFUSION = DiffusionConfig(levels=20)
LENGTH, BATCH = 10, 2
PREDICTED = np.array([2, 5, 9])
CASES = {
    "df": (1, "shared", "none", [0, 2, 6]),
    "lstm-f": (1, "shared", "lstm", [0, 2, 6]),
    "lstm-s2": (2, "rollout", "lstm", [0, 2, 6]),
    "lstm-c": (WINDOW, "rollout", "lstm", [0, 4, 8]),
}


def measure(model):
    clip = toy_clip(BATCH, LENGTH)
    return effective_attention(model, DIFFUSION, toy_params(model), *clip, PREDICTED, jax.random.key(3))


@pytest.fixture(scope="module")
def measured():
    return {
        name: measure(toy_model(stride, window, kind=kind))
        for name, (stride, window, kind, _) in CASES.items()
    }


@pytest.mark.parametrize("name", CASES)
def test_a_prediction_sees_its_window_and_what_memory_holds(measured, name):
    *_, kind, starts = CASES[name]
    np.testing.assert_array_equal(measured[name].window_starts, starts)
    frame = np.arange(LENGTH)
    for predicted, start, row in zip(PREDICTED, starts, measured[name].influence):
        first = start if kind == "none" else 0
        np.testing.assert_array_equal(row > 0, (frame >= first) & (frame < predicted))


def test_gradients_cut_in_training_are_not_cut_here(measured):
    model = toy_model(1, "shared", bptt="none")
    assert model.config.memory.bptt == "none"
    np.testing.assert_array_equal(measure(model).influence, measured["lstm-f"].influence)


@pytest.mark.parametrize("name", ["lstm-f", "lstm-c"])
def test_the_influence_is_the_gradient_of_sliding_by_hand(measured, name):
    stride, window, kind, starts = CASES[name]
    model = toy_model(stride, window, kind=kind)
    params, (frames, actions) = toy_params(model), toy_clip(BATCH, LENGTH)
    key_noise, key_probe = jax.random.split(jax.random.key(3))
    noise = jax.random.normal(key_noise, (BATCH, *frames.shape[2:]))
    probes = jax.random.rademacher(key_probe, (DIRECTIONS, *noise.shape), noise.dtype)
    apply = jax.jit(lambda *inputs: model.apply({"params": params}, *inputs))
    for row in (1, 2):  # their windows have equally many frames
        predicted, start = PREDICTED[row], starts[row]

        def prediction(frames, predicted=predicted, start=start):
            memory = model.initial_memory(BATCH)
            for first in range(0, start, stride):
                seen = slice(first, first + stride)
                clean = jnp.full((BATCH, stride), model.config.context_level)
                _, memory = apply(frames[:, seen], clean, actions[:, seen], memory)
            video = jnp.concatenate([frames[:, start:predicted], noise[:, None]], axis=1)
            levels = jnp.array([[model.config.context_level] * (predicted - start) + [19]] * BATCH)
            return apply(video, levels, actions[:, start : predicted + 1], memory)[0][:, -1]

        _, pull = jax.vjp(prediction, frames)
        squares = jnp.mean(jnp.stack([jnp.square(pull(probe)[0]) for probe in probes]), axis=(0, 1, 3, 4, 5))
        np.testing.assert_allclose(measured[name].influence[row], jnp.sqrt(squares), rtol=1e-3, atol=1e-6)
