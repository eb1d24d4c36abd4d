"""The archive of a model's errors: a ring against a list, the errors against predictions by hand, and what they may change."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax import diffusion
from rad_jax.config import DiffusionConfig, MemoryConfig, TrainConfig
from rad_jax.model import RAD
from rad_jax.model.names import named_leaves
from rad_jax.runs.checkpoints import Checkpoints
from rad_jax.runs.training_run import open_training_run
from rad_jax.training import objective
from rad_jax.training.loop import open_batches
from rad_jax.training.regimes.archive import Archive, add_errors, empty_archive, record
from tests.toy_model import LATENT, WINDOW, toy_clip, toy_model, toy_params
from tests.toy_run import abstract_state, assert_same, compile_step, random_state

LEVELS, BATCH, LENGTH, SIZE = 50, 2, 9, 5
DIFFUSION = DiffusionConfig(levels=LEVELS)
TRAIN = TrainConfig(windows=2)
SETTINGS = {"frames": "archive", "archive": SIZE, "resample_levels": (10, 30), "resample_clean": 0.0}


def archived(dtype="float32", **memory) -> RAD:
    return toy_model(dtype=dtype, **{**SETTINGS, **memory})


def full_archive(rng, dtype="float32") -> Archive:
    return Archive(
        jnp.asarray(rng.normal(size=(SIZE, *LATENT)), dtype), jnp.asarray(SIZE), jnp.asarray(2, jnp.int32)
    )


@pytest.mark.parametrize("most", [1, 4, 24])  # errors of a step that count: fewer than places, and more
def test_it_holds_the_newest_errors_of_the_levels_that_count(most):
    rng, memory = np.random.default_rng(most), archived().config.memory
    archive, newest = empty_archive(archived().config), []
    put = jax.jit(lambda *inputs: record(memory, *inputs))
    assert archive.filled == 0 and not archive.residuals.any()
    for step in range(6):
        levels = rng.choice([9, 31], (2, 3, 4))
        levels.reshape(-1)[rng.permutation(24)[: most if step != 2 else 0]] = rng.choice([10, 20, 30])
        residuals = rng.normal(size=(2, 3, 4, *LATENT)).astype(np.float32)
        archive = put(archive, jnp.asarray(residuals), jnp.asarray(levels))
        for index in np.ndindex(levels.shape):
            if 10 <= levels[index] <= 30:
                newest = [*newest, residuals[index]][-SIZE:]
        assert archive.filled == len(newest)
        oldest = (int(archive.place) - len(newest)) % SIZE
        held = [archive.residuals[(oldest + number) % SIZE] for number in range(len(newest))]
        np.testing.assert_array_equal(held, newest or np.zeros((0, *LATENT)))


def test_every_frame_is_given_a_part_of_an_error_that_is_there():
    rng = np.random.default_rng(0)
    memory = MemoryConfig(frames="archive", archive=SIZE, archive_scale=1.5, resample_after=3)
    archive = full_archive(rng)._replace(filled=jnp.asarray(4))
    frames = jnp.asarray(rng.normal(size=(BATCH, LENGTH, *LATENT)), "float32")
    choice, scale = (rng.uniform(size=(BATCH, LENGTH)).astype(np.float32) for _ in range(2))
    choice[0, 4:6] = 0, np.nextafter(np.float32(1), np.float32(0))
    found = add_errors(memory, archive, frames, jnp.asarray(choice), jnp.asarray(scale))
    taken = set()
    for b, t in np.ndindex(BATCH, LENGTH):
        number = int(choice[b, t] * 4)
        wanted = frames[b, t] + (0 if t < 3 else 1.5 * scale[b, t] * archive.residuals[number])
        np.testing.assert_allclose(found[b, t], wanted, rtol=1e-6, atol=1e-6)
        taken.add(number)
    assert taken == {0, 1, 2, 3}
    nothing = empty_archive(archived().config)
    np.testing.assert_array_equal(
        add_errors(memory, nothing, frames, *map(jnp.asarray, (choice, scale))), frames
    )


@pytest.fixture(scope="module")
def batch():
    frames, actions = toy_clip(BATCH, LENGTH, "float64")
    draw = objective.step_randomness(archived("float64"), DIFFUSION, TRAIN, jax.random.key(1), frames)
    return frames, actions, draw


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("predict", ["v", "x0"])
@pytest.mark.parametrize("window_batch", [0, 1])
def test_errors_are_what_is_predicted_minus_what_is_true(batch, predict, window_batch):
    frames, actions, draw = batch
    model, config = archived("float64"), dataclasses.replace(DIFFUSION, predict=predict)
    archive, params = full_archive(np.random.default_rng(1), "float64"), toy_params(model)
    train = dataclasses.replace(TRAIN, window_batch=window_batch)
    loss = jax.jit(lambda *inputs: objective.loss(model, config, train, *inputs))
    _, aside = loss(params, frames, actions, draw, archive)
    written = add_errors(model.config.memory, archive, frames, draw.archive_choice, draw.archive_scale)
    apply = jax.jit(lambda *inputs: model.apply({"params": params}, *inputs))
    for b, k in np.ndindex(draw.starts.shape):
        start, memory = int(draw.starts[b, k]), model.initial_memory(1)
        context = jnp.full((1, 1), model.config.context_level)
        for t in range(start):
            _, memory = apply(written[b : b + 1, t : t + 1], context, actions[b : b + 1, t : t + 1], memory)
        here, levels = slice(start, start + WINDOW), draw.levels[b : b + 1, k]
        a = diffusion.alpha_bar(config)[np.asarray(levels)][..., None, None, None]
        noised = np.sqrt(a) * frames[b : b + 1, here] + np.sqrt(1 - a) * draw.noise[b : b + 1, k]
        prediction, _ = apply(noised, levels, actions[b : b + 1, here], memory)
        clean = np.sqrt(a) * noised - np.sqrt(1 - a) * prediction if predict == "v" else prediction
        found = aside.residuals[b, k]
        np.testing.assert_allclose(found, (clean - frames[b : b + 1, here])[0], rtol=0, atol=1e-11)
        assert jnp.abs(found).max() > 0.1
    assert aside.residuals.shape == (BATCH, 2, WINDOW, *LATENT)


def test_without_errors_the_loss_is_that_of_true_frames(batch):
    def of(model):
        def loss(params, draw, archive):
            return objective.loss(model, DIFFUSION, TRAIN, params, *batch[:2], draw, archive)[0]

        return functools.partial(jax.jit(jax.value_and_grad(loss)), toy_params(model))

    model, draw = archived("float64"), batch[2]
    some, none = full_archive(np.random.default_rng(2), "float64"), empty_archive(model.config)
    loss, wanted = of(model), of(archived("float64", frames="clean"))(draw, None)

    def assert_same_loss(found, wanted):
        pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
        assert all(jnp.abs(a - b).max() <= 1e-12 * max(1, float(jnp.abs(b).max())) for a, b in pairs)

    assert_same_loss(loss(draw, none), wanted)
    assert_same_loss(loss(draw._replace(archive_scale=0 * draw.archive_scale), some), wanted)
    assert_same_loss(loss(draw._replace(memory_clean=jnp.asarray([True, True])), some), wanted)
    assert abs(loss(draw, some)[0] - wanted[0]) > 1e-4
    first = draw._replace(starts=0 * draw.starts)  # of windows with nothing before them
    assert_same_loss(loss(first, some), loss(first, none))


def test_without_a_memory_there_is_no_archive():
    assert empty_archive(archived(kind="none").config) is None
    assert empty_archive(archived(frames="resampled").config) is None


@pytest.fixture(scope="module")
def steps(toy):
    """Two steps of a run, whose memory frames get the errors of the first in the second."""
    with jax.enable_x64(False):
        parts = open_training_run(toy.config(changes={"memory.frames": "archive", "memory.archive": 6}))
        batches, states = open_batches(parts, 0), [random_state(parts)]
        step = compile_step(parts)
        both = [{k: v for k, v in next(batches).items() if k != "clip_id"} for _ in range(2)]
        batches.close()
        for one in both:
            kept = jax.tree.map(jnp.copy, states[-1])
            states[-1], (after, _) = kept, step(jax.tree.map(jnp.copy, kept), one)
            states.append(after)
    return parts, both, states


def test_a_step_keeps_its_errors_and_a_checkpoint_has_them(steps, tmp_path):
    parts, _, states = steps
    with jax.enable_x64(False):
        filled = [int(state.archive.filled) for state in states]
        assert filled[0] == 0 < filled[1] <= filled[2] == 6
        assert jnp.abs(states[2].archive.residuals).max() > 1e-3
        assert {"archive/residuals", "archive/filled", "archive/place"} < set(named_leaves(states[2]))
        with Checkpoints(tmp_path / "checkpoints", parts.config.checkpoint) as checkpoints:
            checkpoints.save(2, states[2], {})
        with Checkpoints(tmp_path / "checkpoints", parts.config.checkpoint) as checkpoints:
            restored, _ = checkpoints.restore(abstract_state(parts))
        assert_same(restored, states[2])


def test_groups_of_clips_keep_the_same_errors_in_the_same_order(steps, toy):
    _, both, states = steps
    with jax.enable_x64(False):
        changes = {"memory.frames": "archive", "memory.archive": 6, "train.accumulate": 4}
        step = compile_step(open_training_run(toy.config(changes=changes)))
        found, _ = step(jax.tree.map(jnp.copy, states[1]), both[1])
        assert (found.archive.place, found.archive.filled) == (states[2].archive.place, 6)
        np.testing.assert_allclose(found.archive.residuals, states[2].archive.residuals, atol=1e-4)
