"""One step: what must not change it, what must not be changed by it, and what a step that went wrong leaves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.model.names import map_named, named_leaves
from rad_jax.runs.training_run import TrainingRun, open_training_run
from rad_jax.training.loop import open_batches
from rad_jax.training.step import latents_of, step_key
from tests.toy_run import abstract_state, assert_same, compile_step, random_state


def first_batch(parts: TrainingRun) -> dict[str, np.ndarray]:
    batches = open_batches(parts, 0)
    batch = next(batches)
    batches.close()
    del batch["clip_id"]
    return batch


@pytest.fixture(scope="module")
def plain(toy):
    """The step of the shared configuration, its parts, a batch, and what it makes of random parameters."""
    parts = open_training_run(toy.config())
    step, batch = compile_step(parts), first_batch(parts)
    return step, parts, batch, *step(random_state(parts), batch)


def moments(state) -> dict[str, np.ndarray]:
    """The optimiser's first moments by name: after one step, the clipped gradient but for a factor."""
    leaves = named_leaves(state.opt)
    return {name.partition("/mu/")[2]: np.asarray(leaf) for name, leaf in leaves.items() if "/mu/" in name}


def test_what_is_there_for_speed_and_space_changes_no_loss_and_no_gradient(plain, toy):
    _, _, batch, expected, expected_metrics = plain
    changes = {
        "train.accumulate": 4,
        "train.window_batch": 1,
        "model.remat": False,
        "memory.prefetch_segment": 3,
    }
    parts = open_training_run(toy.config(changes=changes))
    state, metrics = compile_step(parts)(random_state(parts), batch)
    for name, value in expected_metrics.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)
    gradients = moments(state)
    assert len(gradients) > 30
    for name, gradient in moments(expected).items():
        size = np.abs(gradient).max()
        assert size > 0, name
        np.testing.assert_allclose(gradients[name], gradient, rtol=1e-5, atol=1e-5 * size, err_msg=name)


@pytest.mark.parametrize("condition", ["action+pose", "action+odometry"])
def test_a_memory_that_needs_the_pose_has_a_step(condition, toy):
    parts = open_training_run(
        toy.config("atlas-f", {"data.condition": condition, "data.heading_harmonics": 1})
    )
    assert parts.config.model.pose[1] > 0
    assert any("near_pose" in name for name in named_leaves(abstract_state(parts).params))


def test_a_frozen_base_stays_to_the_bit_and_its_memory_learns(plain, toy):
    _, _, batch, trained, _ = plain
    parts = open_training_run(toy.config(changes={"train.freeze": "base"}))
    before = random_state(parts)
    state, _ = compile_step(parts)(random_state(parts), batch)
    names = named_leaves(before.params)
    memory = {name for name in names if name.startswith("block/memory/")}
    assert 5 < len(memory) < len(names) - 20
    for part in ("params", "ema"):
        old, new = (named_leaves(getattr(s, part)) for s in (before, state))
        for name in names:
            if part == "ema" and name not in memory:
                continue  # follows parameters that do not move
            assert np.array_equal(old[name], new[name]) == (name not in memory), (part, name)
    assert set(moments(state)) == memory
    # The base has no part in the norm that is clipped: the memory's gradient has the same direction and another length.
    for name, gradient in moments(state).items():
        other = moments(trained)[name]
        np.testing.assert_allclose(
            gradient / np.linalg.norm(gradient), other / np.linalg.norm(other), rtol=1e-4, atol=1e-6
        )
        assert np.linalg.norm(gradient) > np.linalg.norm(other)


@pytest.mark.parametrize("where", ["batch", "parameter"])
def test_a_step_that_is_not_finite_leaves_everything_as_it_was(where, plain):
    step, parts, batch, _, metrics = plain
    assert metrics["finite"]
    state = random_state(parts)
    if where == "batch":
        batch = batch | {"actions": batch["actions"].copy()}
        batch["actions"][-1] = np.inf  # of a whole clip: windows and memory see only some of its frames
    else:
        state.params["embed_action"]["bias"] = state.params["embed_action"]["bias"].at[3].set(np.nan)
    before = jax.tree.map(np.array, state)
    state, metrics = step(state, batch)
    assert not metrics["finite"]
    assert_same(state, before)


def test_a_step_too_large_for_the_parameters_leaves_everything_as_it_was(plain):
    """Loss and gradient are finite; the parameters that they lead to, with such a first moment, are not."""
    step, parts, batch, _, _ = plain

    def enlarged(name, leaf):
        return leaf.at[0].set(3e38) if name.endswith("/mu/embed_patch/kernel") else leaf

    state = random_state(parts)
    state = state._replace(opt=map_named(enlarged, state.opt))
    before = jax.tree.map(np.array, state)
    state, metrics = step(state, batch)
    assert all(np.isfinite(metrics[name]) for name in ("learning_rate", "loss", "grad_norm"))
    assert not metrics["finite"]
    assert_same(state, before)


def test_logged_metrics_are_means_since_the_last_logged_step(plain):
    """Logged every two steps: the second step's metrics are the mean of both, the third's are its own."""
    step, parts, batch, _, first = plain
    state, _ = step(random_state(parts), batch)
    sums = {name: float(value) for name, value in state.totals.items()}
    state, second = step(state, batch)
    alone = {name: float(value) - sums[name] for name, value in state.totals.items()}
    for name in ("loss", "error", "grad_norm"):
        assert float(first[name]) == pytest.approx(sums[name], rel=1e-6)
        assert float(second[name]) == pytest.approx((sums[name] + alone[name]) / 2, rel=1e-6)
        assert alone[name] > 0 and alone[name] != pytest.approx(sums[name], rel=1e-4)
    state, third = step(state, batch)
    for name, value in state.totals.items():
        assert float(third[name]) == float(value) < 2 * sums[name]


def test_randomness_is_a_function_of_the_step(plain):
    step, parts, batch, _, first = plain
    state = random_state(parts)
    again = step(state, batch)[1]
    assert_same(again, first)
    state = random_state(parts)
    later = step(state._replace(step=jax.device_put(jnp.int32(2), state.step.sharding)), batch)[1]
    assert float(later["error"]) != float(first["error"])


def test_training_draws_from_no_key_of_generation():
    """A step splits its key in five, and folds 5 into it.

    Generation folds the frame into a clip's key, of the seed itself or a purpose of it.
    """

    def data(keys):
        return {tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in keys}

    fold, seed = jax.random.fold_in, jax.random.key(3)
    steps = [step_key(3, i) for i in range(10)]
    training = data(key for step in steps for key in [*jax.random.split(step, 5), fold(step, 5)])
    clips = [fold(start, place) for start in (seed, fold(seed, 2)) for place in range(10)]
    generation = data(fold(clip, frame) for clip in clips for frame in range(10))
    assert len(training) == 60 and len(generation) == 200
    assert not training & generation


def test_latents_are_stored_or_encoded_from_frames(plain):
    _, parts, batch, _, _ = plain
    encode = jax.jit(functools.partial(latents_of, tokenizer=parts.tokenizer, dtype=jnp.dtype("float32")))
    found = encode({"frames": batch["frames"]})
    assert found.shape == (8, 12, 2, 2, 8)
    np.testing.assert_allclose(
        found, parts.tokenizer.encode(batch["frames"] / np.float32(255)), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_array_equal(encode({"latents": np.asarray(found, np.float16)}), np.float16(found))
