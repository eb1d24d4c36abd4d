"""PSNR against its formula, SSIM against the published definition written as loops in float64, and both against dm-pix."""

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.metrics import ImageError, psnr, ssim


def images(seed, *shape):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def smooth(seed, height, width):
    """A picture with large and small structure, in [0, 1]."""
    rng = np.random.default_rng(seed)
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    picture = (
        0.5
        + 0.3 * np.sin(0.2 * x + c + rng.random()) * np.cos(0.13 * y)
        + 0.1 * rng.random((height, width, 3))
    )
    return np.clip(picture, 0, 1).astype(np.float32)


def literal_ssim(a, b):
    """Wang et al. 2004, every window by itself: weighted means, variances and covariance around the window's centre."""
    offsets = np.arange(-5, 6)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    weights /= weights.sum()
    a, b = a.astype(np.float64), b.astype(np.float64)
    c1, c2 = 0.01**2, 0.03**2
    values = []
    for channel in range(3):
        for y in range(5, a.shape[0] - 5):
            for x in range(5, a.shape[1] - 5):
                u = a[y - 5 : y + 6, x - 5 : x + 6, channel]
                v = b[y - 5 : y + 6, x - 5 : x + 6, channel]
                mean_u, mean_v = (weights * u).sum(), (weights * v).sum()
                variance_u = (weights * (u - mean_u) ** 2).sum()
                variance_v = (weights * (v - mean_v) ** 2).sum()
                covariance = (weights * (u - mean_u) * (v - mean_v)).sum()
                luminance = (2 * mean_u * mean_v + c1) / (mean_u**2 + mean_v**2 + c1)
                structure = (2 * covariance + c2) / (variance_u + variance_v + c2)
                values.append(luminance * structure)
    return np.mean(values)


def test_psnr_is_the_formula():
    a, b = images(0, 2, 3, 8, 9, 3), images(1, 2, 3, 8, 9, 3)
    expected = -10 * np.log10(np.mean((a.astype(np.float64) - b) ** 2, axis=(-3, -2, -1)))
    np.testing.assert_allclose(psnr(a, b), expected, rtol=1e-5)


def test_psnr_of_a_constant_error_and_of_equal_images():
    a = np.full((16, 16, 3), 0.5, np.float32)
    assert float(psnr(a, a + 0.1)) == pytest.approx(20.0, abs=1e-4)
    assert float(psnr(a, a)) == 100.0


def test_psnr_does_not_clip():
    a = np.ones((4, 4, 3), np.float32)
    assert float(psnr(a, a + 1)) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("size", [(11, 11), (12, 17), (20, 16)])
def test_ssim_is_the_definition(size):
    a = smooth(0, *size)
    noisy = np.clip(a + 0.1 * np.random.default_rng(1).normal(size=a.shape), 0, 1).astype(np.float32)
    for b in (noisy, smooth(2, *size), np.full_like(a, a.mean()), a[::-1]):
        assert float(ssim(a, b)) == pytest.approx(literal_ssim(a, b), abs=1e-5)  # float32 variances


@pytest.mark.parametrize(("metric", "theirs"), [(psnr, dm_pix.psnr), (ssim, dm_pix.ssim)])
def test_both_equal_dm_pix(metric, theirs):
    a = np.stack([smooth(seed, 24, 31) for seed in range(3)])
    b = np.stack([np.clip(a[0] + 0.05, 0, 1), smooth(5, 24, 31), a[2, ::-1]])
    np.testing.assert_allclose(metric(a, b), theirs(a, b), atol=1e-5)  # both in float32


def test_ssim_of_equal_images_is_one():
    a = np.concatenate([smooth(0, 16, 16)[None], np.zeros((1, 16, 16, 3), np.float32)])
    np.testing.assert_allclose(ssim(a, a), 1.0, atol=1e-6)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_leading_axes_vmap_and_jit_agree(metric):
    a, b = images(0, 2, 3, 12, 13, 3), images(1, 2, 3, 12, 13, 3)
    one_by_one = np.array([[metric(a[i, j], b[i, j]) for j in range(3)] for i in range(2)])
    np.testing.assert_allclose(metric(a, b), one_by_one, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.jit(metric)(a, b), one_by_one, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        jax.vmap(metric)(jnp.asarray(a), jnp.asarray(b)), one_by_one, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((3, 16, 16), np.float32), np.zeros((3, 16, 16), np.float32), "channels last"),
        (np.zeros((16, 3), np.float32), np.zeros((16, 3), np.float32), "channels last"),
        (np.zeros((2, 16, 16, 3), np.float32), np.zeros((16, 16, 3), np.float32), "different shapes"),
        (np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16, 3), np.uint8), "divide 8-bit images by 255"),
    ],
)
def test_wrong_images_are_refused(metric, a, b, message):
    with pytest.raises(ImageError, match=message):
        metric(a, b)


def test_ssim_refuses_images_smaller_than_its_window():
    with pytest.raises(ImageError, match="10 x 30 pixels: SSIM needs at least 11 x 11"):
        ssim(images(0, 10, 30, 3), images(1, 10, 30, 3))
