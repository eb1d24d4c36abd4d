"""What a step needs, against sizes and products counted by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from rad_jax.config import override
from rad_jax.model import RAD
from rad_jax.model.names import init_params
from rad_jax.rollout.costs import matrix_flops
from rad_jax.training.estimate import estimate_step
from rad_jax.training.regimes.resampling import resample


@pytest.fixture(scope="module")
def estimates(toy):
    # The program of a run on latents, which `test_latent_data` trains.
    base = toy.config(changes={"model.latent": (2, 2, 8), "model.action_dim": 6})
    return estimate_step(base), estimate_step(override(base, {"train.freeze": "base"}))


def test_sizes_of_a_small_model(estimates):
    estimate, _ = estimates
    d, gates = 16, 64
    branch = (d + 8) * gates + d * gates + gates + (3 * d * d + 3 * d) + (8 * d + 8)
    assert estimate.branch == 2 * branch
    assert estimate.devices == "1 x cpu"
    # Parameters, two moments and the average, all float32, and a few scalars.
    assert 0 <= estimate.state - 4 * 4 * (estimate.base + estimate.branch) < 100
    assert estimate.batch == 8 * 12 * (2 * 2 * 2 * 8 + 4 * 6)
    assert estimate.peak >= estimate.state + estimate.temporary > estimate.state > 0


def test_a_frozen_base_needs_no_moments_and_no_gradients_of_weights(estimates):
    full, frozen = estimates
    assert full.state - frozen.state == pytest.approx(2 * 4 * full.base, abs=100)
    assert frozen.flops < 0.85 * full.flops


def test_resampled_frames_cost_their_forward_pass_and_no_state(estimates, toy):
    sizes = {"model.latent": (2, 2, 8), "model.action_dim": 6}
    config = toy.config(changes={**sizes, "memory.frames": "resampled"})
    found, clean = estimate_step(config), estimates[0]
    assert (found.state, found.batch, found.stream) == (clean.state, clean.batch, clean.stream)
    # Of the 12 frames of a clip the first 8 come before a window of 4.
    frames, actions, levels = jnp.zeros((8, 8, 2, 2, 8)), jnp.zeros((8, 8, 6)), jnp.zeros((8, 8), int)
    predict = partial(resample, RAD(config.model), config.diffusion)
    params = jax.eval_shape(partial(init_params, config.model, 0))
    passed = matrix_flops(jax.make_jaxpr(predict)(params, frames, actions, levels, frames))
    assert found.flops - clean.flops == passed > 0.05 * clean.flops


def test_it_reads_as_a_table(estimates):
    text = str(estimates[0])
    assert f"{estimates[0].branch / 1e6:.1f} M" in text and "peak per device" in text
    assert len(text.splitlines()) == 10
