"""What must hold of one window and of the memory, whatever the parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.model import RAD
from tests.toy_model import LATENT, WINDOW, toy_clip, toy_model, toy_params


@pytest.fixture
def double_precision():
    """Two orders of the same sums are compared in float64: how far float32 is off depends on the processor."""
    with jax.enable_x64(True):
        yield


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


def test_the_memory_after_a_window_is_that_of_its_first_frames_alone(double_precision):
    for stride, window in ((1, "shared"), (1, "rollout"), (2, "rollout"), (WINDOW, "rollout")):
        model = toy_model(stride, window, dtype="float64")
        params = toy_params(model)
        frames, actions = toy_clip(2, WINDOW, "float64")
        context = jnp.full((2, WINDOW), model.config.context_level)
        _, slid = model.apply({"params": params}, frames, context, actions)
        end = jnp.full((2, 1), stride)
        advanced = model.apply(
            {"params": params}, frames[:, :stride], actions[:, :stride], end, method=RAD.prefetch
        )
        for a, b in zip(jax.tree.leaves(slid), jax.tree.leaves(advanced), strict=True):
            np.testing.assert_allclose(a, b[:, 0], atol=1e-12)


def test_prefetch_emits_the_states_of_a_walk_frame_by_frame_and_goes_on_from_one(double_precision):
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
    half = jax.tree.map(lambda s: s[:, 0], prefetch(frames[:, :5], actions[:, :5], jnp.full((2, 1), 5)))
    rest = prefetch(frames[:, 5:], actions[:, 5:], jnp.full((2, 1), 3), half)
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


def test_without_a_memory_nothing_is_carried():
    model = toy_model(kind="none")
    params = toy_params(model)
    assert "memory" not in params["block"] and model.initial_memory(2) == ()
    frames, actions = toy_clip(2, WINDOW)
    _, memory = model.apply({"params": params}, frames, jnp.zeros((2, WINDOW), int), actions)
    assert memory == ()


def test_a_fresh_memory_with_a_closed_gate_leaves_the_base_model_exactly_itself():
    base, model = toy_model(kind="none"), toy_model()
    params = toy_params(base)
    frames, actions = toy_clip(2, WINDOW)
    fresh = model.init(jax.random.key(3), frames, jnp.zeros((2, WINDOW), int), actions)["params"]["block"][
        "memory"
    ]
    with_memory = {**params, "block": {**params["block"], "memory": fresh}}
    levels = jnp.tile(LEVELS, (2, 1))
    a, _ = jax.jit(base.apply)({"params": params}, frames, levels, actions)
    b, _ = jax.jit(model.apply)({"params": with_memory}, frames, levels, actions)
    np.testing.assert_array_equal(a, b)


def test_wrong_inputs_are_named():
    model = toy_model(2, "rollout")
    params = toy_params(model)
    frames, actions = toy_clip(1, 6)
    levels = jnp.zeros((1, 6), int)

    def apply(*args, **kwargs):
        return model.apply({"params": params}, *args, **kwargs)

    with pytest.raises(ValueError, match=r"frames: 6 frames in one window, at most model.window = 4"):
        apply(frames, levels, actions)
    with pytest.raises(ValueError, match=r"actions: shape \(1, 4, 2\), expected \(1, 4, 3\)"):
        apply(frames[:, :4], levels[:, :4], actions[:, :4, :2])
    with pytest.raises(ValueError, match=r"frames: shape .* expected \(b, t, 4, 4, 3\)"):
        apply(frames[:, :4, :2], levels[:, :4], actions[:, :4])
    with pytest.raises(
        ValueError, match="starts: 3 among them, expected multiples of the stride 2 from 0 to 6"
    ):
        apply(frames, actions, jnp.array([[2, 3]]), method=RAD.prefetch)
