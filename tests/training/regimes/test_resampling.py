"""Predicted frames in the memory, against a loop over windows; and what training on them may and may not change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax import diffusion
from rad_jax.config import DiffusionConfig, TrainConfig
from rad_jax.training import objective
from rad_jax.training.regimes.resampling import resample
from tests.toy_model import WINDOW, toy_clip, toy_model, toy_params

LEVELS, BATCH, LENGTH = 50, 2, 8
DIFFUSION = DiffusionConfig(levels=LEVELS)
TRAIN = TrainConfig(windows=3)


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


def exact_model(*args, frames="resampled", levels=(5, 30), clean=0.5, **memory):
    settings = {"frames": frames, "resample_levels": levels, "resample_clean": clean, **memory}
    return toy_model(*args, dtype="float64", **settings)


def draw_of(model, frames, key=1):
    return objective.step_randomness(model, DIFFUSION, TRAIN, jax.random.key(key), frames)


def compiled_loss(model):
    """Loss and gradient as a function of parameters, frames, actions and a draw."""
    return jax.jit(jax.value_and_grad(lambda *inputs: objective.loss(model, DIFFUSION, TRAIN, *inputs)[0]))


def largest_difference(found, wanted):
    """Over all leaves, relative to the largest entry of each."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    return max(float(jnp.abs(a - b).max() / jnp.abs(b).max()) for a, b in pairs)


def literal_frames(model, config, params, frames, actions, levels, noise):
    """Slides over the true frames by the stride; where a window begins, its frames are predicted from their noised copies."""
    apply = jax.jit(lambda *inputs: model.apply({"params": params}, *inputs))
    stride, length = model.config.memory.stride, frames.shape[1]
    size = {1: 4, 3: 3, 4: 4}[stride]  # the most frames of a window of 4 that are a multiple of the stride
    memory, predicted = model.initial_memory(BATCH), []
    for start in range(0, length, stride):
        if start % size == 0:
            here = slice(start, min(start + size, length))
            a = diffusion.alpha_bar(config)[levels[:, here]][..., None, None, None]
            noised = np.sqrt(a) * frames[:, here] + np.sqrt(1 - a) * noise[:, here]
            prediction, _ = apply(noised, levels[:, here], actions[:, here], memory)
            predicted.append(
                {
                    "v": np.sqrt(a) * noised - np.sqrt(1 - a) * prediction,
                    "eps": (noised - np.sqrt(1 - a) * prediction) / np.sqrt(a),
                    "x0": prediction,
                }[config.predict]
            )
        first = slice(start, start + stride)
        context = jnp.full(frames[:, first].shape[:2], model.config.context_level)
        _, memory = apply(frames[:, first], context, actions[:, first], memory)
    return jnp.concatenate(predicted, axis=1)


@pytest.mark.parametrize(
    ("stride", "window", "kind", "predict", "length"),
    [
        (1, "shared", "lstm", "v", 10),
        (3, "rollout", "mamba2", "eps", 10),  # windows of three frames, the last of which is cut
    ],
)
def test_resampled_frames_are_those_of_a_loop_over_windows(stride, window, kind, predict, length):
    model, config = exact_model(stride, window, kind=kind), DiffusionConfig(levels=LEVELS, predict=predict)
    frames, actions = toy_clip(BATCH, length, "float64")
    draw = draw_of(model, frames)
    inputs = toy_params(model), frames, actions, draw.memory_levels, draw.memory_noise
    found = jax.jit(lambda *inputs: resample(model, config, *inputs))(*inputs)
    wanted = literal_frames(model, config, *inputs)
    assert found.shape == frames.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12 * float(jnp.abs(wanted).max()))
    # With an empty memory in the place of the one before the window, all but the first window would be others.
    alone = literal_frames(model, config, inputs[0], *(x[:, WINDOW:] for x in inputs[1:]))
    assert jnp.abs(found[:, WINDOW:] - alone).max() > 1e-3


def literal_rollout(model, params, frames, actions, levels, noise, steps, chained, true=0):
    """DDIM steps by `RAD.__call__` alone, of windows or of one frame after another.

    The memory slides over what was predicted, or over true frames. So many of the first ones are ``true``.
    """
    apply = jax.jit(lambda *inputs: model.apply({"params": params}, *inputs))
    stride, length = model.config.memory.stride, frames.shape[1]
    size, context = WINDOW // stride * stride, model.config.context_level
    table, memory, done = np.append(diffusion.alpha_bar(DIFFUSION), 1.0), model.initial_memory(BATCH), []

    def amplitudes(levels):
        a = table[levels][..., None, None, None]
        return np.sqrt(a), np.sqrt(1 - a)

    for start in range(0, length, size):
        here = slice(start, min(start + size, length))
        clean, action, level = frames[:, here], actions[:, here], np.asarray(levels[:, here])
        a, s = amplitudes(level)
        x, predicted = a * clean + s * noise[:, here], jnp.zeros_like(clean)
        groups = [slice(m, m + 1) for m in range(x.shape[1])] if chained else [slice(0, x.shape[1])]
        for group in groups:
            for step in range(steps, 0, -1):
                now, after = ((n * (level[:, group] + 1)) // steps - 1 for n in (step, step - 1))
                window = jnp.concatenate([predicted[:, : group.start], x[:, group]], axis=1)
                at = np.concatenate([np.full((BATCH, group.start), context), now], axis=1)
                v, _ = apply(window, jnp.asarray(at), action[:, : group.stop], memory)
                (a, s), (b, r) = amplitudes(now), amplitudes(after)
                z, v = x[:, group], v[:, group]
                x = x.at[:, group].set(b * (a * z - s * v) + r * (s * z + a * v))
            x = x.at[:, : max(0, true - start)].set(clean[:, : max(0, true - start)])
            predicted = predicted.at[:, group].set(x[:, group])
        done.append(predicted)
        written = predicted if chained else clean
        for m in range(0, x.shape[1] - stride + 1, stride):
            first = slice(m, m + stride)
            labels = jnp.full((BATCH, stride), context)
            _, memory = apply(written[:, first], labels, action[:, first], memory)
    return jnp.concatenate(done, axis=1)


@pytest.mark.parametrize(
    ("kind", "stride", "window", "steps", "how", "true"),
    [
        ("lstm", 1, "shared", 4, "parallel", 0),
        ("mamba2", 3, "rollout", 1, "chain", 0),
        ("bank", 1, "shared", 2, "chain", 6),
        ("lstm", 1, "shared", 1, "parallel", 6),
    ],
)
def test_several_steps_and_chains_are_those_of_a_loop(kind, stride, window, steps, how, true):
    model = exact_model(stride, window, kind=kind, resample_steps=steps, resample=how, resample_after=true)
    frames, actions = toy_clip(BATCH, 9, "float64")
    rng = np.random.default_rng(0)
    levels = jnp.asarray(rng.integers(5, 31, (BATCH, 9)) // steps * steps + steps - 1)  # whole steps
    noise = jnp.asarray(rng.normal(size=frames.shape))
    inputs = toy_params(model), frames, actions, levels, noise
    found = jax.jit(lambda *inputs: resample(model, DIFFUSION, *inputs))(*inputs)
    wanted = literal_rollout(model, *inputs, steps, how == "chain", true)
    np.testing.assert_array_equal(found[:, :true], frames[:, :true])
    assert jnp.abs(found[:, true:] - frames[:, true:]).max() > 1e-3
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-11 * float(jnp.abs(wanted).max()))


@pytest.fixture(scope="module")
def resampled():
    """One model, a clip and a draw in which one video of two is predicted, and their loss and gradient."""
    model = exact_model()
    params, (frames, actions) = toy_params(model), toy_clip(BATCH, LENGTH, "float64")
    draw = draw_of(model, frames)._replace(memory_clean=jnp.asarray([True, False]))
    return model, params, frames, actions, draw, compiled_loss(model)(params, frames, actions, draw)


def test_true_frames_alone_are_clean_training(resampled):
    """To the bit where all are by configuration, and none is predicted; where all are by chance, XLA may round otherwise."""
    model, params, frames, actions, draw, (loss, _) = resampled
    models = exact_model(clean=1.0), exact_model(frames="clean")
    found, wanted = (compiled_loss(m)(params, frames, actions, draw_of(m, frames)) for m in models)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
    drawn = draw._replace(memory_clean=jnp.asarray([True, True]))
    assert largest_difference(compiled_loss(model)(params, frames, actions, drawn), wanted) < 1e-12
    assert abs(loss - wanted[0]) > 1e-4


def test_no_gradient_flows_through_predicted_frames(resampled, monkeypatch):
    """The gradient is the one of a loss to which the same frames are given as numbers."""
    model, params, frames, actions, draw, found = resampled
    seen = LENGTH - WINDOW
    inputs = frames[:, :seen], actions[:, :seen], draw.memory_levels[:, :seen], draw.memory_noise[:, :seen]
    given = np.asarray(resample(model, DIFFUSION, params, *inputs))
    monkeypatch.setattr(objective, "resample", lambda *inputs: jnp.asarray(given))
    assert largest_difference(found, compiled_loss(model)(params, frames, actions, draw)) < 1e-12


def test_only_videos_that_are_not_clean_change_and_only_through_the_memory(resampled):
    model, params, frames, actions, draw, _ = resampled
    clean = exact_model(frames="clean")

    @jax.jit
    def losses(*batch):
        return [objective.loss(m, DIFFUSION, TRAIN, params, *batch)[0] for m in (model, clean)]

    def of_video(b, draw=draw):
        return losses(*jax.tree.map(lambda x: x[b : b + 1], (frames, actions, draw)))

    first, second = of_video(0), of_video(1)
    np.testing.assert_allclose(*first, rtol=1e-12)
    assert abs(second[0] - second[1]) > 1e-4
    np.testing.assert_allclose(*of_video(1, draw._replace(starts=0 * draw.starts)), rtol=1e-12)


def test_speed_knobs_and_the_order_of_groups_change_nothing(resampled):
    """Two groups of one video each, which `train.accumulate` runs one after another, have the mean of both as one."""
    _, params, frames, actions, draw, wanted = resampled
    loss = compiled_loss(exact_model(prefetch_segment=1, remat=True))
    videos = [jax.tree.map(lambda x, b=b: x[b : b + 1], (frames, actions, draw)) for b in range(BATCH)]
    each = [loss(params, *video) for video in videos]
    assert largest_difference(jax.tree.map(lambda a, b: (a + b) / 2, *each), wanted) < 1e-12


def test_without_a_memory_nothing_is_predicted(resampled, monkeypatch):
    _, _, frames, actions, draw, _ = resampled
    model = exact_model(kind="none")
    monkeypatch.setattr(objective, "resample", None)
    jax.eval_shape(compiled_loss(model), toy_params(model), frames, actions, draw)


def test_what_is_drawn():
    """Both ends of the range are drawn, a share of the clips is clean, and no other draw knows that frames are resampled."""
    frames, _ = toy_clip(64, LENGTH)
    draw = draw_of(exact_model(levels=(5, 8), clean=0.25), frames)
    assert set(np.unique(draw.memory_levels)) == {5, 6, 7, 8}
    assert draw.memory_levels.shape == (64, LENGTH) and draw.memory_clean.shape == (64,)
    assert 4 <= draw.memory_clean.sum() <= 28
    keys = jax.random.split(jax.random.key(1), 5)
    for other in ("clean", "noised"):
        found = draw_of(exact_model(frames=other, noised_levels=40), frames)
        for name in ("starts", "levels", "noise", "memory_noise"):
            np.testing.assert_array_equal(getattr(found, name), getattr(draw, name), name)
        # As they were before there were resampled frames.
        wanted = jax.random.randint(keys[3], (64, LENGTH), 0, 40)
        np.testing.assert_array_equal(found.memory_levels, wanted)
        wanted = jax.random.normal(keys[2], (64, 3, WINDOW, *frames.shape[2:]), frames.dtype)
        np.testing.assert_array_equal(found.noise, wanted)
