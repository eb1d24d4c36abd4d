"""Schedules, targets, weights and the sampler against their published definitions, written out as loops in NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax import diffusion
from rad_jax.config import DiffusionConfig

SCHEDULES = ("sigmoid", "cosine", "linear")
PREDICTIONS = ("v", "eps", "x0")


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x)))


def published_sigmoid(levels):
    """The schedule of Diffusion Forcing and Oasis as it is computed there: ends and product in float32."""
    low, high = (sigmoid(np.float32(x)) for x in (-3, 3))
    curve = [(high - sigmoid(6 * t / levels - 3)) / (high - low) for t in range(levels + 1)]
    curve = [c / curve[0] for c in curve]
    product, table = np.float32(1), []
    for before, after in itertools.pairwise(curve):
        product = product * np.float32(1 - np.float32(min(max(1 - after / before, 0), 0.999)))
        table.append(product)
    return np.array(table)


def test_sigmoid_schedule_is_that_of_oasis():
    table = diffusion.alpha_bar(DiffusionConfig())
    assert table.shape == (1000,) and table.dtype == np.float64
    golden = {0: 0.99969971, 14: 0.99532056, 100: 0.9600005, 250: 0.84986323, 499: 0.49999994, 999: 3.0028e-7}
    for level, value in golden.items():
        np.testing.assert_allclose(table[level], value, rtol=1e-5)
    np.testing.assert_allclose(table, published_sigmoid(1000), rtol=3e-5)
    np.testing.assert_allclose(
        diffusion.alpha_bar(DiffusionConfig(levels=50)), published_sigmoid(50), rtol=3e-5
    )


def test_cosine_schedule_is_that_of_nichol_and_dhariwal():
    def curve(t):
        return np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2

    product, table = 1.0, []
    for level in range(1000):
        product *= 1 - min(1 - curve((level + 1) / 1000) / curve(level / 1000), 0.999)
        table.append(product)
    np.testing.assert_allclose(diffusion.alpha_bar(DiffusionConfig(schedule="cosine")), table, rtol=1e-9)


@pytest.mark.parametrize("levels", [1000, 250])
def test_linear_schedule_is_that_of_ddpm_stretched_to_the_levels(levels):
    product, table = 1.0, []
    for level in range(levels):
        product *= 1 - 1000 / levels * (1e-4 + (0.02 - 1e-4) * level / (levels - 1))
        table.append(product)
    np.testing.assert_allclose(
        diffusion.alpha_bar(DiffusionConfig(schedule="linear", levels=levels)), table, rtol=1e-9
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("levels", [2, 10, 1000])
def test_every_schedule_falls_from_signal_to_noise(schedule, levels):
    table = diffusion.alpha_bar(DiffusionConfig(schedule=schedule, levels=levels))
    assert np.all(np.diff(table) < 0) and 0 < table[-1] < table[0] < 1


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_shift_multiplies_the_ratio_of_amplitudes(schedule):
    def ratio(**changes):
        share = diffusion.alpha_bar(DiffusionConfig(schedule=schedule, **changes))
        return np.sqrt(share / (1 - share))

    np.testing.assert_allclose(ratio(shift=0.3), 0.3 * ratio(), rtol=1e-6)
    np.testing.assert_allclose(
        diffusion.alpha_bar(DiffusionConfig(shift=1.0)), diffusion.alpha_bar(DiffusionConfig())
    )


def clean_noise_levels(levels):
    draw = np.random.default_rng(0)
    shape = (*levels.shape, 2, 3, 4)
    return (jnp.asarray(draw.normal(size=shape)) for _ in range(2))


def test_noising_mixes_by_amplitude_and_level_minus_one_is_clean():
    levels = np.array([[0, 14, 999], [-1, 500, -1]])
    share = diffusion.alpha_bar(DiffusionConfig())
    with jax.enable_x64(True):
        clean, noise = clean_noise_levels(levels)
        noised = diffusion.add_noise(DiffusionConfig(), clean, noise, jnp.asarray(levels))
    clean, noise, noised = (np.asarray(part) for part in (clean, noise, noised))
    for b, t in np.ndindex(2, 3):
        kept = 1.0 if levels[b, t] == -1 else share[levels[b, t]]
        expected = np.sqrt(kept) * clean[b, t] + np.sqrt(1 - kept) * noise[b, t]
        np.testing.assert_allclose(noised[b, t], expected, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(noised[1, 0], clean[1, 0])


@pytest.mark.parametrize("predict", PREDICTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_true_target_gives_back_clean_frame_and_noise(predict, schedule):
    config = DiffusionConfig(predict=predict, schedule=schedule)
    with jax.enable_x64(True):
        levels = jnp.array([[0, 14, 300], [600, 900, 999]])
        clean, noise = clean_noise_levels(levels)
        noised = diffusion.add_noise(config, clean, noise, levels)
        prediction = diffusion.target(config, clean, noise, levels)
        found = diffusion.clean_and_noise(config, noised, prediction, levels)
        np.testing.assert_allclose(found[0], clean, rtol=0, atol=1e-9)
        np.testing.assert_allclose(found[1], noise, rtol=0, atol=1e-9)


def literal_weight(config, levels):
    """The weight of each frame of one window, by the definitions; for ``fused_snr`` that of Diffusion Forcing's code."""
    share = diffusion.alpha_bar(config)
    weights, running, before = [], None, 0.0
    for level in levels:
        snr = share[level] / (1 - share[level])
        clipped = min(snr, config.snr_clip)
        if config.weighting == "fused_snr":
            s, s_clipped = snr / config.snr_clip, clipped / config.snr_clip
            past = config.fused_decay * before
            snr = config.snr_clip * (1 - (1 - past) * (1 - s))
            clipped = config.snr_clip * (1 - (1 - past) * (1 - s_clipped))
            d = config.fused_decay
            running = s_clipped if running is None else d * running + (1 - d) * s_clipped
            before = running
        weights.append({"v": clipped / (snr + 1), "eps": clipped / snr, "x0": clipped}[config.predict])
    return weights


@pytest.mark.parametrize("predict", PREDICTIONS)
@pytest.mark.parametrize("weighting", ["min_snr", "fused_snr"])
def test_weights_are_those_of_a_literal_loop(weighting, predict):
    config = DiffusionConfig(weighting=weighting, predict=predict, snr_clip=4.0, fused_decay=0.7)
    levels = np.array([[999, 0, 250, 270, 999, 14, 500], [3, 400, 998, 10, 10, 900, 600]])
    with jax.enable_x64(True):
        weights = diffusion.loss_weight(config, jnp.asarray(levels))
        np.testing.assert_allclose(weights, [literal_weight(config, row) for row in levels], rtol=1e-8)
        one = diffusion.loss_weight(config, jnp.asarray(levels[:, :1]))
        np.testing.assert_allclose(one, weights[:, :1], rtol=1e-12)


@pytest.mark.parametrize("predict", PREDICTIONS)
@pytest.mark.parametrize("weighting", ["uniform", "min_snr", "fused_snr"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_weights_are_finite_in_float32_at_every_level(schedule, weighting, predict):
    config = DiffusionConfig(schedule=schedule, weighting=weighting, predict=predict)
    levels = np.stack([np.arange(1000), np.full(1000, 999)], axis=1)
    weights = np.asarray(diffusion.loss_weight(config, jnp.asarray(levels)))
    assert weights.dtype == np.float32 and weights.shape == (1000, 2)
    if weighting == "uniform":
        np.testing.assert_array_equal(weights, 1)
    else:
        expected = [literal_weight(config, row) for row in levels]
        np.testing.assert_allclose(weights, expected, rtol=1e-4)


def test_sampler_visits_the_levels_of_oasis():
    levels = diffusion.sampler_levels(DiffusionConfig(), 50)
    assert levels.dtype == np.int32
    np.testing.assert_array_equal(levels, [*range(999, 0, -20), -1])
    np.testing.assert_array_equal(diffusion.sampler_levels(DiffusionConfig(levels=4), 4), [3, 2, 1, 0, -1])
    np.testing.assert_array_equal(diffusion.sampler_levels(DiffusionConfig(levels=4), 1), [3, -1])
    # 9, 5.7, 2.3, -1: cut, not rounded
    np.testing.assert_array_equal(diffusion.sampler_levels(DiffusionConfig(levels=10), 3), [9, 5, 2, -1])


def test_sampler_never_visits_a_level_twice():
    for total, steps in itertools.product((2, 7, 100), range(1, 101)):
        if steps <= total:
            levels = diffusion.sampler_levels(DiffusionConfig(levels=total), steps)
            assert levels[0] == total - 1 and levels[-1] == -1 and len(levels) == steps + 1
            assert np.all(np.diff(levels) < 0)


def test_levels_from_a_level_of_each_frames_own_are_those_of_a_sampler_that_begins_there():
    config, levels = DiffusionConfig(levels=40), np.array([[3, 39, 12], [7, 20, 38]])
    found = np.asarray(diffusion.levels_from(config, 4, jnp.asarray(levels)))
    assert found.shape == (5, 2, 3) and (np.diff(found, axis=0) < 0).all()
    for b, t in np.ndindex(*levels.shape):
        fewer = DiffusionConfig(levels=int(levels[b, t]) + 1)
        np.testing.assert_array_equal(found[:, b, t], diffusion.sampler_levels(fewer, 4))


def sample(config, steps, mean, deviation):
    """Runs the sampler with the exact denoiser of normal data, from noise that covers the normal quantiles evenly."""
    start = np.linspace(-3, 3, 13)[:, None, None]
    x = jnp.asarray(start)
    share = np.append(diffusion.alpha_bar(config), 1.0)
    levels = diffusion.sampler_levels(config, steps)

    def predict(x, level):
        a, s2 = jnp.asarray(np.sqrt(share))[level], jnp.asarray(1 - share)[level]
        clean = mean + a * deviation**2 / (a**2 * deviation**2 + s2) * (x - a * mean)
        noise = (x - a * clean) / jnp.sqrt(s2)
        return diffusion.target(config, clean, noise, level)

    @jax.jit
    def loop(x):
        return diffusion.denoise(config, predict, x, jnp.asarray(levels))

    return start, np.asarray(loop(x))


@pytest.mark.parametrize("predict", PREDICTIONS)
def test_sampler_reaches_the_distribution_of_normal_data(predict):
    """A deterministic sampler maps each quantile of the noise to that of the data."""
    with jax.enable_x64(True):
        start, end = sample(DiffusionConfig(predict=predict), 1000, mean=0.7, deviation=0.5)
    np.testing.assert_allclose(end, 0.7 + 0.5 * start, atol=5e-3)


def test_one_step_is_the_published_formula():
    """With v: clean and noise from the prediction, mixed again at the next level, each frame from and to its own level."""
    config = DiffusionConfig()
    share = np.append(diffusion.alpha_bar(config), 1.0)
    now, following = np.array([[999, 400, 19]]), np.array([[979, 380, -1]])
    with jax.enable_x64(True):
        x, v = clean_noise_levels(now)
        found = diffusion.ddim_step(config, x, v, jnp.asarray(now), jnp.asarray(following))
    x, v, found = (np.asarray(part) for part in (x, v, found))
    for t in range(3):
        a, b = share[now[0, t]], share[following[0, t]]
        clean = np.sqrt(a) * x[0, t] - np.sqrt(1 - a) * v[0, t]
        noise = (np.sqrt(1 / a) * x[0, t] - clean) / np.sqrt(1 / a - 1)
        np.testing.assert_allclose(found[0, t], np.sqrt(b) * clean + np.sqrt(1 - b) * noise, atol=1e-9)
