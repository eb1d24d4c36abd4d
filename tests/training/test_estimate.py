"""What a step needs, against sizes and products counted by hand."""

import pytest

from rad_jax.config import override
from rad_jax.training.estimate import estimate_step


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


def test_it_reads_as_a_table(estimates):
    text = str(estimates[0])
    assert f"{estimates[0].branch / 1e6:.1f} M" in text and "peak per device" in text
    assert len(text.splitlines()) == 10
