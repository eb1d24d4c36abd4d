"""Frames that imported weights of Open-Oasis generate, against its sampler written out in PyTorch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax import rollout
from rad_jax.config import DiffusionConfig
from rad_jax.diffusion import sampler_levels
from rad_jax.model import RAD
from rad_jax.model.names import nested
from rad_jax.weights import OASIS_DIFFUSION
from rad_jax.weights.oasis_dit import convert_oasis_dit
from tests.weights import oasis_torch

torch = oasis_torch.torch
LATENT, BATCH, FRAMES, STEPS, WINDOW = (4, 6, 16), 2, 4, 5, 5


def test_levels_are_those_of_torch_linspace_for_every_number_of_steps():
    for steps in (*range(1, 101), *range(101, 1001, 37), 1000):
        expected = torch.linspace(-1, 999, steps + 1).long().flip(0)
        np.testing.assert_array_equal(sampler_levels(DiffusionConfig(), steps), expected, str(steps))


def test_generated_frames_are_those_of_the_torch_program():
    """From the same noise, in a window that is filled first and drops its oldest frames then."""
    weights = oasis_torch.random_weights(64, seed=3)
    config, named = convert_oasis_dit({name: weight.numpy() for name, weight in weights.items()}, "x")
    model = RAD(dataclasses.replace(config, latent=LATENT, window=WINDOW))
    rng = np.random.default_rng(0)
    context = rng.normal(size=(BATCH, 3, *LATENT)).astype(np.float32)
    actions = rng.normal(size=(BATCH, 3 + FRAMES, 25)).astype(np.float32)
    state = rollout.start(
        model,
        nested(jax.tree.map(jnp.asarray, named)),
        jnp.asarray(context),
        jnp.asarray(actions[:, :3]),
        diffusion=OASIS_DIFFUSION,
        steps=STEPS,
    )
    key = jax.random.key(5)
    _, found = rollout.generate(state, jnp.asarray(actions[:, 3:]), key)
    noise = [jax.random.normal(jax.random.fold_in(key, i), (BATCH, *LATENT)) for i in range(FRAMES)]
    context, noise = (
        torch.from_numpy(np.array(x)).movedim(-1, 2) for x in (context, np.stack(noise, axis=1))
    )
    with torch.no_grad():
        expected = oasis_torch.generate(
            weights, context, torch.from_numpy(actions), noise, steps=STEPS, window=WINDOW, heads=1
        )
    expected = expected.movedim(2, -1).numpy()
    assert 0.3 < expected.std() < 30
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
