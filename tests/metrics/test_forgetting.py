"""The pieces against plain references, and the whole on simulated failures of a predictor in a small world."""

import jax
import numpy as np
import pytest
from scipy import ndimage

from rad_jax.metrics import (
    ImageError,
    coarse_psnr,
    frame_change,
    histogram_intersection,
    horizontal_shift,
    laplacian_energy,
    nearest_frame,
    psnr,
)
from rad_jax.metrics.video import score_video

PATH = 8 * np.abs(np.arange(-12, 12))  # headings in pixels of the panorama: to one side and back


def images(seed, *shape):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def panorama(texture_seed, colour_seed, width=256):
    """A room seen from its middle: a textured wall of eight colours between a plain floor and a plain ceiling."""
    texture = 0.55 + 0.45 * np.random.default_rng(texture_seed).random((24, width, 1))
    texture = np.repeat(texture[:, ::3], 3, axis=1)[:, :width]
    colours = np.random.default_rng(colour_seed).uniform(0.15, 1.0, (8, 3))
    wall = texture * np.repeat(colours, width // 8, axis=0)
    room = np.empty((64, width, 3), np.float32)
    room[:20], room[20:44], room[44:] = (0.3, 0.4, 0.55), wall, (0.1, 0.15, 0.2)
    return room


def walk(room, headings, width=64):
    """(t, 64, 64, 3): what is seen at every heading."""
    columns = (np.asarray(headings)[:, None] + np.arange(width)) % room.shape[1]
    return np.moveaxis(room[:, columns], 1, 0)


@pytest.mark.parametrize(("size", "factor"), [(64, 8), (32, 4), (128, 16)])
def test_coarse_psnr_is_a_blur_and_a_decimation(size, factor):
    a, b = images(0, size, size + 10, 3), images(1, size, size + 10, 3)
    blurred = [
        ndimage.gaussian_filter(x.astype(np.float64), (factor / 2, factor / 2, 0), mode="reflect")
        for x in (a, b)
    ]
    a_small, b_small = (x[factor // 2 :: factor, factor // 2 :: factor] for x in blurred)
    expected = -10 * np.log10(np.mean((a_small - b_small) ** 2))
    assert float(coarse_psnr(a, b)) == pytest.approx(expected, abs=1e-3)


def test_coarse_psnr_forgives_a_small_shift():
    truth = walk(panorama(0, 1), [0, 8])
    late = walk(panorama(0, 1), [2, 10])
    assert np.all(coarse_psnr(late, truth) > psnr(late, truth) + 5)


def test_coarse_psnr_refuses_tiny_images():
    with pytest.raises(ImageError, match="7 x 9 pixels: PSNR at 1/8 needs at least 8"):
        coarse_psnr(images(0, 7, 9, 3), images(1, 7, 9, 3))


def test_histogram_intersection_is_that_of_numpy():
    a, b = images(0, 3, 10, 12, 3) ** 2, images(1, 3, 10, 12, 3)
    a[0, 0, 0], a[0, 0, 1] = 1.0, 0.0
    for x, y, ours in zip(a, b, histogram_intersection(a, b), strict=True):
        p, q = (np.histogramdd(z.reshape(-1, 3), bins=6, range=[(0, 1)] * 3)[0] / 120 for z in (x, y))
        assert float(ours) == pytest.approx(np.minimum(p, q).sum(), abs=1e-6)


def test_histogram_intersection_ignores_places_and_counts_values_outside_in_the_outer_bins():
    a = images(0, 10, 12, 3)
    assert float(histogram_intersection(a, a[::-1, ::-1])) == pytest.approx(1.0)
    outside = np.stack([np.full((8, 8, 3), -2.0), np.full((8, 8, 3), 3.0)]).astype(np.float32)
    np.testing.assert_allclose(histogram_intersection(outside, np.clip(outside, 0, 1)), 1.0)


def test_laplacian_energy_is_that_of_scipy():
    a = images(0, 2, 9, 11, 3)
    for image, ours in zip(a, laplacian_energy(a), strict=True):
        laplacian = np.stack([ndimage.laplace(image[..., c].astype(np.float64)) for c in range(3)], -1)
        assert float(ours) == pytest.approx(np.mean(laplacian[1:-1, 1:-1] ** 2), rel=1e-5)


def test_frame_change():
    a, b = images(0, 2, 4, 5, 3), images(1, 2, 4, 5, 3)
    np.testing.assert_allclose(frame_change(a, b), np.abs(a - b).mean(axis=(1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("shift", [0, 1, -1, 7, -24, 24])
def test_horizontal_shift_finds_the_shift(shift):
    room = panorama(3, 4) + 0.02 * images(5, 64, 256, 3)
    before, after = walk(room, [100, 100 - shift])
    assert int(horizontal_shift(before, after)) == shift


def test_horizontal_shift_is_the_literal_search():
    before, after = images(0, 6, 12, 3), images(1, 6, 12, 3)
    errors = {}
    for shift in range(-4, 5):
        columns = [x for x in range(12) if 0 <= x + shift < 12]
        errors[shift] = np.mean([(before[:, x] - after[:, x + shift]) ** 2 for x in columns])
    assert int(horizontal_shift(before, after)) == min(errors, key=errors.get)


def test_horizontal_shift_between_blank_frames_is_zero():
    blank = np.full((2, 32, 32, 3), 0.37, np.float32)
    np.testing.assert_array_equal(horizontal_shift(blank, blank), [0, 0])


def test_nearest_frame_is_the_literal_search():
    truth, prediction = images(0, 9, 6, 7, 3), images(1, 9, 6, 7, 3)
    prediction[4] = truth[7] + 0.01
    errors = np.mean((prediction[:, None].astype(np.float64) - truth) ** 2, axis=(2, 3, 4))
    index = nearest_frame(prediction, truth)
    np.testing.assert_array_equal(index, errors.argmin(axis=1))
    assert index[4] == 7


def test_nearest_frame_gives_a_tie_to_the_nearest_index():
    truth = np.repeat(images(0, 2, 6, 7, 3), 3, axis=0)  # the agent stands still for three frames, twice
    np.testing.assert_array_equal(nearest_frame(truth, truth), np.arange(6))


def test_per_frame_metrics_can_be_mapped():
    a, b = images(0, 2, 3, 16, 16, 3), images(1, 2, 3, 16, 16, 3)
    for metric in (coarse_psnr, histogram_intersection, horizontal_shift, frame_change):
        mapped = jax.jit(jax.vmap(jax.vmap(metric)))(a, b)  # image by image
        np.testing.assert_allclose(mapped, jax.jit(metric)(a, b), rtol=1e-5)


@pytest.mark.parametrize("shape", [(4, 8, 8, 3), (3, 8, 9, 3), (3, 8, 8), (3, 8, 8, 1)])
def test_the_nearest_frame_is_one_of_as_many_of_the_same_size(shape):
    with pytest.raises(AssertionError, match="shape"):
        nearest_frame(np.zeros(shape, np.float32), np.zeros((3, 8, 8, 3), np.float32))


def table():
    """Mean scores of simulated predictors over two rooms; the wall of the other colours has the same texture."""
    rows = {}
    drift = 3 + np.cumsum(np.tile([1, 0, -1, -1, 1, 0], 4))  # two to four pixels aside
    for seed in range(2):
        room, recoloured = panorama(seed, 10 + seed), panorama(seed, 20 + seed)
        truth = walk(room, PATH)
        wrong, blur = walk(recoloured, PATH), (0, 4, 4, 0)
        failures = {
            "copy": np.repeat(walk(room, [PATH[0] + 8]), len(PATH), axis=0),
            "forgot colours": wrong,
            "drifted": walk(room, PATH + drift),
            "blurred": ndimage.gaussian_filter(truth, blur),
            "forgot, blurred": ndimage.gaussian_filter(wrong, blur),
            "late": walk(room, np.concatenate([PATH[0] + 8 * np.arange(3, 0, -1), PATH[:-3]])),
        }
        for name, prediction in failures.items():
            rows.setdefault(name, []).append(score_video(prediction, truth).video)
    return {name: {m: np.mean([v[m] for v in videos]) for m in videos[0]} for name, videos in rows.items()}


def test_simulated_failures_are_told_apart():
    row = table()
    forgot, drifted, late = row["forgot colours"], row["drifted"], row["late"]
    # SSIM prefers the predictor that forgot every colour. What measures memory does not.
    assert forgot["ssim"] > drifted["ssim"] + 0.05
    assert drifted["histogram_intersection"] > 0.9 > forgot["histogram_intersection"] + 0.2
    assert drifted["psnr_coarse"] > forgot["psnr_coarse"] + 5
    assert drifted["retrieval_error"] == 0
    # Actions: the one that turns as told, whatever the colours, against the one that runs three frames late or stands.
    assert forgot["yaw_error"] < 0.5 < drifted["yaw_error"] < 1.5
    assert late["retrieval_error"] == pytest.approx(3, abs=1)
    assert late["yaw_error"] > 2 * drifted["yaw_error"]
    assert row["copy"]["yaw_error"] == pytest.approx(8, abs=0.5) and row["copy"]["motion"] == 0
    # Blur, apart from memory.
    for name in ("blurred", "forgot, blurred"):
        assert row[name]["sharpness"] < 0.02 < 0.9 < drifted["sharpness"] < 1.1
    assert row["blurred"]["psnr_coarse"] > row["forgot, blurred"]["psnr_coarse"] + 5
    assert row["blurred"]["retrieval_error"] <= 1
