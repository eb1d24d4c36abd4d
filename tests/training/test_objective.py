"""The training loss against the loop it stands for: slide the window over the clip, carry the memory from slide to slide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax import diffusion
from rad_jax.config import NAMES, DiffusionConfig, TrainConfig, modes
from rad_jax.training import objective
from tests.toy_model import WINDOW, toy_clip, toy_model, toy_params, toy_posed

DIFFUSION = DiffusionConfig(levels=50)
LENGTH, BATCH = 8, 2


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


def compiled_call(model):
    """`RAD.__call__` and its gradient for what is differentiated here, as one program each.

    JAX would compile them anew for every set of inputs and outputs that a gradient depends on.
    """

    def call(params, frames, memory, levels, actions):
        return model.apply({"params": params}, frames, levels, actions, memory)

    def backward(inputs, cotangents):
        *which, levels, actions = inputs
        return jax.vjp(lambda *which: call(*which, levels, actions), *which)[1](cotangents)

    forward, backward = jax.jit(call), jax.jit(backward)
    apply = jax.custom_vjp(forward)
    apply.defvjp(lambda *inputs: (forward(*inputs), inputs), lambda *pulled: (*backward(*pulled), None, None))
    return apply


def literal_loss(model, params, frames, actions, draw):
    """Slides by the stride; every window of which a video drew the start is noised and scored as `RAD.__call__` says.

    Only `RAD.__call__` is compiled, so that the loop is one.
    """
    stride, level = model.config.memory.stride, model.config.context_level
    apply = compiled_call(model)
    starts = np.asarray(draw.starts)
    memory, losses = model.initial_memory(BATCH), []
    for start in range(0, starts.max() + 1, stride):
        clean, action = (x[:, start : start + WINDOW] for x in (frames, actions))
        for k in range(starts.shape[1]):
            drawn, levels, noise = starts[:, k] == start, draw.levels[:, k], draw.noise[:, k]
            if drawn.any():
                noised = diffusion.add_noise(DIFFUSION, clean, noise, levels)
                prediction, _ = apply(params, noised, memory, levels, action)
                target = diffusion.target(DIFFUSION, clean, noise, levels)
                error = jnp.square(prediction - target).mean((-3, -2, -1))
                losses += list((diffusion.loss_weight(DIFFUSION, levels) * error).mean(1)[drawn])
        if start < starts.max():
            _, memory = apply(params, clean, memory, jnp.full_like(levels, level), action)
    assert len(losses) == starts.size
    return jnp.stack(losses).mean()


def loss_and_gradient(model, train, params, frames, actions, draw):
    def loss(params):
        return objective.loss(model, DIFFUSION, train, params, frames, actions, draw)[0]

    return jax.jit(jax.value_and_grad(loss))(params)


def assert_same(found, wanted):
    """Values, and every gradient relative to its largest entry."""
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-12)
    for a, b in zip(jax.tree.leaves(found[1]), jax.tree.leaves(wanted[1]), strict=True):
        assert jnp.abs(a - b).max() <= 1e-12 * jnp.abs(b).max()


def exact_model(*args, **memory):
    return toy_model(*args, dtype="float64", **memory)


def assert_trains_as_the_loop(model):
    params = toy_params(model)
    frames, actions = toy_clip(BATCH, LENGTH, "float64")
    train = TrainConfig(windows=2)
    draw = objective.step_randomness(model, DIFFUSION, train, jax.random.key(0), frames)
    found = loss_and_gradient(model, train, params, frames, actions, draw)
    literal = jax.value_and_grad(lambda p: literal_loss(model, p, frames, actions, draw))
    assert_same(found, literal(params))


# The atlas is among those that know the pose.
OTHERS = [kind for kind in NAMES if kind not in ("none", "lstm", "atlas")]


@pytest.mark.parametrize(
    "kind, stride, window, segment",
    [
        # Frame-wise and chunk-wise in turn; generation is tested the other way round.
        *[
            (kind, WINDOW, "rollout", WINDOW) if i % 2 == 0 and "c" in modes(kind) else (kind, 1, "shared", 3)
            for i, kind in enumerate(OTHERS)
        ],
        ("lstm", 1, "shared", 3),
        ("lstm", WINDOW, "rollout", WINDOW),
        ("lstm", 2, "rollout", 4),
    ],
)
def test_prefetched_training_is_the_slide_by_stride_loop(kind, stride, window, segment):
    assert_trains_as_the_loop(
        exact_model(stride, window, kind=kind, prefetch_segment=segment, remat=segment == 3)
    )


@pytest.mark.parametrize(
    "memory",
    [
        {"kind": "atlas", "unseen": 0.1},
        {"kind": "arl2", "rule": "sum", "block": (2, 1), "rotate": "ray"},
        {"kind": "convkv", "align": "pose", "slots": 2, "radius": 4.0},
    ],
)
def test_what_knows_the_pose_trains_as_the_literal_loop_does(memory):
    assert_trains_as_the_loop(toy_posed(**memory))


@pytest.fixture(scope="module")
def reference():
    """One model, its clip and draw, and the loss and gradient that no setting below may change."""
    model, train = exact_model(), TrainConfig(windows=4)
    params, (frames, actions) = toy_params(model), toy_clip(BATCH, LENGTH, "float64")
    draw = objective.step_randomness(model, DIFFUSION, train, jax.random.key(1), frames)
    return params, frames, actions, draw, loss_and_gradient(model, train, params, frames, actions, draw)


@pytest.mark.parametrize("segment, remat, together", [(1, True, 2), (2, False, 0)])
def test_speed_knobs_change_nothing(reference, segment, remat, together):
    params, frames, actions, draw, wanted = reference
    model = exact_model(prefetch_segment=segment, remat=remat)
    train = TrainConfig(windows=4, window_batch=together)
    assert_same(loss_and_gradient(model, train, params, frames, actions, draw), wanted)


def test_gradient_reaches_frames_that_only_the_memory_saw(reference):
    params, frames, actions, draw, _ = reference
    late = draw._replace(starts=jnp.full_like(draw.starts, LENGTH - WINDOW))

    def gradient(**memory):
        model = exact_model(**memory)

        def loss(frames):
            return objective.loss(model, DIFFUSION, TrainConfig(windows=4), params, frames, actions, late)[0]

        return jnp.abs(jax.jit(jax.grad(loss))(frames)).max(axis=(2, 3, 4))

    full = gradient(bptt="full")
    assert (full > 0).all()
    assert (gradient(bptt="none")[:, : LENGTH - WINDOW] == 0).all()
    cut = gradient(bptt="truncated", bptt_frames=2, prefetch_segment=2)
    assert (cut[:, :2] == 0).all() and (cut[:, 2:] > 0).all()
    np.testing.assert_allclose(cut[:, 2:], full[:, 2:], rtol=1e-9)


def test_draw_is_distinct_starts_in_range_and_independent_levels():
    model, train = toy_model(2, "rollout"), TrainConfig(windows=3, first_start=1)
    frames, _ = toy_clip(64, 12)
    draw = objective.step_randomness(model, DIFFUSION, train, jax.random.key(0), frames)
    starts = np.asarray(draw.starts)
    assert set(starts.ravel().tolist()) == {2, 4, 6, 8}
    assert all(len(set(row)) == 3 for row in starts.tolist())
    levels = np.asarray(draw.levels)
    assert levels.shape == (64, 3, WINDOW) and levels.min() == 0 and levels.max() == DIFFUSION.levels - 1
    assert abs(np.corrcoef(levels[..., 0].ravel(), levels[..., 1].ravel())[0, 1]) < 0.2
    assert draw.noise.shape == (64, 3, WINDOW, 4, 4, 3)
    np.testing.assert_allclose(draw.noise.std(), 1, atol=0.02)


def test_noised_memory_frames_change_the_loss_through_the_memory_alone(reference):
    params, frames, actions, draw, (clean, _) = reference
    train = TrainConfig(windows=4)

    @jax.jit
    def losses(draw):
        models = exact_model(frames="noised", noised_levels=40), exact_model()
        return [objective.loss(m, DIFFUSION, train, params, frames, actions, draw)[0] for m in models]

    noised, again = losses(draw)
    np.testing.assert_allclose(again, clean, rtol=1e-12)
    assert abs(noised - clean) > 1e-4
    # Windows at the start of a clip have nothing in their memory.
    np.testing.assert_allclose(*losses(draw._replace(starts=jnp.zeros_like(draw.starts))), rtol=1e-12)
