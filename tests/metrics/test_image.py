"""PSNR and SSIM against dm-pix and, in float64, SSIM against its published definition; and where these do not go."""

import dm_pix
import jax
import numpy as np
import pytest

from rad_jax.metrics import ImageError, psnr, ssim


def images(seed, *shape):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def smooth(seed, height, width):
    """A picture with large and small structure, in [0, 1]."""
    rng = np.random.default_rng(seed)
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    waves = 0.3 * np.sin(0.2 * x + c + rng.random()) * np.cos(0.13 * y)
    return np.clip(0.5 + waves + 0.1 * rng.random((height, width, 3)), 0, 1).astype(np.float32)


@pytest.mark.parametrize(("metric", "theirs"), [(psnr, dm_pix.psnr), (ssim, dm_pix.ssim)])
@pytest.mark.parametrize("size", [(11, 11), (24, 31)])
def test_both_equal_dm_pix(metric, theirs, size):
    a = np.stack([smooth(seed, *size) for seed in range(4)])
    b = np.stack([np.clip(a[0] + 0.05, 0, 1), smooth(5, *size), a[2, ::-1], np.full_like(a[3], a[3].mean())])
    np.testing.assert_allclose(metric(a, b), theirs(a, b), atol=3e-5)  # both in float32


def literal_ssim(a, b):
    """Wang et al. 2004, window by window: weighted means, variances and covariance around the window's centre."""
    offsets = np.arange(-5, 6)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    weights /= weights.sum()
    values = []
    for y, x, c in np.ndindex(a.shape[0] - 10, a.shape[1] - 10, 3):
        u, v = (image[y : y + 11, x : x + 11, c].astype(np.float64) for image in (a, b))
        du, dv = u - (weights * u).sum(), v - (weights * v).sum()
        means, spreads = (u - du)[0, 0] ** 2 + (v - dv)[0, 0] ** 2, (weights * (du**2 + dv**2)).sum()
        luminance = (2 * (u - du)[0, 0] * (v - dv)[0, 0] + 0.01**2) / (means + 0.01**2)
        values.append(luminance * (2 * (weights * du * dv).sum() + 0.03**2) / (spreads + 0.03**2))
    return np.mean(values)


def test_ssim_is_the_definition():
    a = smooth(0, 12, 17)
    noisy = np.clip(a + 0.1 * np.random.default_rng(1).normal(size=a.shape), 0, 1).astype(np.float32)
    for b in (noisy, smooth(2, 12, 17), np.full_like(a, a.mean()), a[::-1]):
        assert float(ssim(a, b)) == pytest.approx(literal_ssim(a, b), abs=1e-5)  # float32 variances


def test_psnr_of_a_constant_error_and_of_equal_images():
    a = np.full((16, 16, 3), 0.5, np.float32)
    assert float(psnr(a, a + 0.1)) == pytest.approx(20.0, abs=1e-4)
    assert float(psnr(a, a)) == 100.0
    assert float(psnr(2 * a, 2 * a + 1)) == pytest.approx(0.0, abs=1e-5)  # not clipped


def test_ssim_of_equal_images_is_one():
    a = np.concatenate([smooth(0, 16, 16)[None], np.zeros((1, 16, 16, 3), np.float32)])
    np.testing.assert_allclose(ssim(a, a), 1.0, atol=1e-6)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_leading_axes_vmap_and_jit_agree(metric):
    a, b = images(0, 2, 3, 12, 13, 3), images(1, 2, 3, 12, 13, 3)
    found = metric(a, b)
    np.testing.assert_allclose(found[1, 2], metric(a[1, 2], b[1, 2]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(metric))(a, b), found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (images(0, 3, 16, 16), images(0, 3, 16, 16), r"\(3, 16, 16\)"),
        (images(0, 16, 3), images(0, 16, 3), r"\(16, 3\)"),
        (images(0, 2, 16, 16, 3), images(0, 16, 16, 3), r"\(2, 16, 16, 3\) and \(16, 16, 3\)"),
        (np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16, 3), np.uint8), "uint8"),
    ],
)
def test_wrong_images_are_refused(metric, a, b, message):
    with pytest.raises(ImageError, match=message):
        metric(a, b)


def test_ssim_refuses_images_smaller_than_its_window():
    with pytest.raises(ImageError, match=r"10 x 30 pixels: .*11 x 11"):
        ssim(images(0, 10, 30, 3), images(1, 10, 30, 3))
