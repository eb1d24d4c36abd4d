"""What must hold of one window and of the memory, whatever the parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.model import RAD
from rad_jax.model.names import init_params
from tests.toy_model import LATENT, WINDOW, toy_clip, toy_model, toy_params

LEVELS = jnp.array([[7, 2, 30, 11]])


@pytest.mark.parametrize("stride, window", [(1, "shared"), (2, "rollout")])
def test_the_future_never_leaks(stride, window):
    model = toy_model(stride, window)
    params = toy_params(model)
    frames, actions = toy_clip(1, WINDOW)
    memory = jax.tree.map(lambda s: s + 0.1, model.initial_memory(1))

    def output(frames, actions):
        prediction, memory_after = model.apply({"params": params}, frames, LEVELS, actions, memory)
        return prediction, jnp.stack([s.sum() for s in jax.tree.leaves(memory_after)])

    jacobians = jax.jit(jax.jacrev(output, (0, 1)))(frames, actions)
    by_frame, by_action = jacobians[0]
    for t in range(WINDOW):
        for s in range(WINDOW):
            of_frame = jnp.abs(by_frame[0, t, ..., s, :, :, :]).max()
            of_action = jnp.abs(by_action[0, t, ..., s, :]).max()
            assert (of_frame > 0, of_action > 0) == (s <= t, s <= t)
    for change in jacobians[1]:
        change = np.abs(np.asarray(change)).reshape(change.shape[0], WINDOW, -1).max((0, 2))
        np.testing.assert_array_equal(change > 0, np.arange(WINDOW) < stride)


def test_prefetch_emits_the_states_of_a_walk_frame_by_frame_and_goes_on_from_one(float64):
    model = toy_model(prefetch_segment=3, dtype="float64")
    params = toy_params(model)
    frames, actions = toy_clip(2, 8, "float64")
    prefetch = jax.jit(lambda *args: model.apply({"params": params}, *args, method=RAD.prefetch))
    starts = jnp.array([[0, 8, 3], [5, 1, 4]])
    found = prefetch(frames, actions, starts)
    step = jax.jit(lambda x, a, m: model.apply({"params": params}, x, jnp.full((2, 1), 2), a, m)[1])
    memory = model.initial_memory(2)
    walked = [memory]
    for t in range(8):
        memory = step(frames[:, t : t + 1], actions[:, t : t + 1], memory)
        walked.append(memory)
    for video in range(2):
        for k in range(3):
            wanted = walked[int(starts[video, k])]
            for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
                np.testing.assert_allclose(a[video, k], b[video], atol=1e-12)
    half = jax.tree.map(lambda s: s[:, 0], prefetch(frames[:, :4], actions[:, :4], jnp.full((2, 1), 4)))
    rest = prefetch(frames[:, 4:], actions[:, 4:], jnp.full((2, 1), 4), half)
    for a, b in zip(jax.tree.leaves(rest), jax.tree.leaves(walked[8]), strict=True):
        np.testing.assert_allclose(a[:, 0], b, atol=1e-12)


def test_shapes_and_types_of_a_memory():
    model = toy_model(dtype="bfloat16")
    memory = model.initial_memory(3)
    assert {leaf.shape for leaf in jax.tree.leaves(memory)} == {(3, 2, 4, 16)}  # batch, layers, tokens, units
    frames, actions = toy_clip(3, WINDOW)
    prediction, after = jax.eval_shape(
        lambda: model.apply(
            {"params": toy_params(model)}, frames, jnp.zeros((3, WINDOW), int), actions, memory
        )
    )
    assert prediction.shape == (3, WINDOW, *LATENT) and prediction.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves((memory, after))} == {jnp.dtype("float32")}


def test_a_memory_with_a_closed_gate_leaves_the_base_model_exactly_itself():
    """As the branch starts, and whatever the memory holds; the base model has no memory at all."""
    base, model = toy_model(kind="none"), toy_model()
    params = toy_params(base)
    assert "memory" not in params["block"] and not jax.tree.leaves(base.initial_memory(2))
    frames, actions = toy_clip(2, WINDOW)
    fresh = jax.jit(lambda: init_params(model.config)["block"]["memory"])()
    with_memory = {**params, "block": {**params["block"], "memory": fresh}}
    inputs = frames, jnp.tile(LEVELS, (2, 1)), actions
    expected, nothing = jax.jit(base.apply)({"params": params}, *inputs)
    assert not jax.tree.leaves(nothing)
    memory = jax.tree.map(lambda leaf: leaf + 0.3, model.initial_memory(2))
    found, _ = jax.jit(model.apply)({"params": with_memory}, *inputs, memory)
    np.testing.assert_array_equal(found, expected)


def test_wrong_inputs_are_named():
    model = toy_model(2, "rollout")
    params = toy_params(model)
    frames, actions = toy_clip(1, 6)
    levels = jnp.zeros((1, 6), int)

    def apply(*args, **kwargs):
        return model.apply({"params": params}, *args, **kwargs)

    with pytest.raises(ValueError, match=r"frames: 6 .* model.window = 4"):
        apply(frames, levels, actions)
    with pytest.raises(ValueError, match=r"starts: 3, .* 2 from 0 to 6"):
        apply(frames, actions, jnp.array([[2, 3]]), method=RAD.prefetch)
    latents, few = frames[:, :4], actions[:, :4]
    for wrong_frames, wrong_actions, words in (
        (latents[:, :, :2], few, ["[frames]", "(1, 4, 2, 4, 3)", "(None, None, 4, 4, 3)"]),
        (latents, few[..., :2], ["[actions]", "(1, 4, 2)", "(1, 4, 3)"]),
    ):
        with pytest.raises(AssertionError) as info:
            apply(wrong_frames, levels[:, :4], wrong_actions)
        assert all(word in str(info.value) for word in words)
