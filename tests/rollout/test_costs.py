"""Costs of generation, against states that are there and products counted by hand."""

import jax
import jax.numpy as jnp
import pytest

from rad_jax import rollout
from rad_jax.config import NAMES, DiffusionConfig
from rad_jax.rollout import stream
from rad_jax.rollout.costs import frame_flops, matrix_flops, state_bytes
from tests.toy_model import ACTION, WINDOW, toy_clip, toy_model, toy_params


@pytest.mark.parametrize("kind", NAMES)
def test_the_bytes_of_a_memory_are_those_a_rollout_keeps(kind):
    model = toy_model(kind=kind)
    memory = model.initial_memory(3)
    assert 3 * state_bytes(model.config) == sum(leaf.nbytes for leaf in jax.tree.leaves(memory))
    assert (state_bytes(model.config) == 0) == (kind == "none")


@pytest.mark.parametrize("kind", ["bank", "arl2", "convkv"])
def test_a_rollout_keeps_these_bytes_however_long_it_is(kind):
    model = toy_model(kind=kind, capacity=3, retrieved=2)
    frames, actions = toy_clip(1, WINDOW)
    settings = {"diffusion": DiffusionConfig(), "steps": 1}
    state = rollout.start(model, toy_params(model), frames, actions, **settings)
    for length in (5, 5000):
        after, made = rollout.generate(state, jnp.zeros((1, length, ACTION)), jax.random.key(0))
        kept = sum(leaf.nbytes for leaf in jax.tree.leaves(after.window.cache.memory))
        assert kept == state_bytes(model.config) and made.shape[1] == length
        if kind == "bank":
            assert after.window.cache.memory.slots.seen[0] == length + 1


@pytest.mark.parametrize("stride, window", [(1, "shared"), (2, "rollout"), (WINDOW, "rollout")])
def test_a_frame_takes_its_sampler_steps_and_its_share_of_the_slides(stride, window):
    model, diffusion = toy_model(stride, window), DiffusionConfig()
    params, (frames, actions) = toy_params(model), toy_clip(1, WINDOW)
    state = rollout.start(model, params, frames, actions, diffusion=diffusion, steps=1)

    def flops(function):
        return matrix_flops(jax.make_jaxpr(function)(state.window))

    action = jnp.zeros((1, ACTION))
    step = flops(lambda w: stream.sample(state, w, action, jax.random.key(0)))
    appended = flops(lambda w: stream.append(model, params, frames[:, 0], action, w))
    slid = flops(lambda w: stream.slide(model, params, w))
    assert slid > appended > 0 and step > 0
    for steps in (1, 3):
        expected = steps * step + (slid + (stride - 1) * appended) // stride
        assert frame_flops(model.config, diffusion, steps) == expected


def test_products_in_loops_count_as_often_as_they_run():
    a, b = jnp.zeros((3, 4)), jnp.zeros((4, 4))

    def loop(a, b):
        return jax.lax.scan(lambda x, _: (x @ b, None), a, length=5)[0]

    once = 2 * 3 * 4 * 4
    assert matrix_flops(jax.make_jaxpr(loop)(a, b)) == 5 * once
    assert matrix_flops(jax.make_jaxpr(jax.jit(jax.checkpoint(loop)))(a, b)) == 5 * once
    batched = jax.make_jaxpr(jax.vmap(loop, (0, None)))(jnp.zeros((7, 3, 4)), b)
    assert matrix_flops(batched) == 7 * 5 * once
    # Forward, forward again, and two products backward.
    gradient = jax.make_jaxpr(
        jax.grad(lambda a, b: jax.checkpoint(lambda x: jnp.sin(x @ b))(a).sum(), (0, 1))
    )(a, b)
    assert matrix_flops(gradient) == 4 * once
    choice = jax.make_jaxpr(lambda a, b: jax.lax.cond(a.sum() > 0, lambda: a @ b @ b, lambda: a))(a, b)
    assert matrix_flops(choice) == 2 * once
