"""Metrics that distinguish "forgot" from "drifted" and need no pretrained weights.

PSNR and SSIM cannot: a prediction with every wall in place and every colour forgotten has twice the SSIM of one that remembers
everything but stands one step aside. Together, these can:

    colours                histogram_intersection; coarse_psnr, which forgives small shifts
    place                  nearest_frame: the true frame that a predicted one shows
    following the actions  horizontal_shift between consecutive frames, predicted against true
    blur, standing still   laplacian_energy and frame_change, predicted over true

Images are (..., H, W, 3) floats in [0, 1]; all functions but ``nearest_frame`` work on single frames or pairs of frames
and can be compiled and mapped. `rad_jax.metrics.video` reduces them to one number per video.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from rad_jax.axes import Array, Float, Int
from rad_jax.metrics.image import ImageError, Images, float_images, psnr

HISTOGRAM_BINS = 6  # per channel
COARSE_CELLS = 8  # along the shorter side: 8 x decimation of a 64 px frame, 4 x of a 32 px one
# Squared errors that differ by less are ties (a sixteenth of one 8-bit grey level). A tie goes to the answer that is kindest to
# the prediction: the nearest index, the smallest shift.
TIE = 1e-6


def coarse_psnr(prediction: Images, truth: Images) -> Float[Array, "*b"]:
    """PSNR in dB (at most 100) of the images after a wide blur: "PSNR at 1/8".

    At 64 px the images are blurred with a Gaussian of sigma 4 and every 8th pixel is kept. Both numbers scale with the
    shorter side (sigma 2 and every 4th at 32 px), so that the shorter side always keeps about 8 cells and the measure sees
    the same angles of view. Edges are reflected, as ``scipy.ndimage.gaussian_filter`` does.

    Raises:
        ImageError: wrong shapes or types, or a side shorter than 8 px.
    """
    return psnr(*map(_decimate, float_images(prediction, truth)))


def decimation(height: int, width: int) -> int:
    """Every how many pixels ``coarse_psnr`` keeps one; its blur has half of that as sigma.

    Raises:
        ImageError: a side is shorter than 8 px.
    """
    if min(height, width) < COARSE_CELLS:
        least = f"at least {COARSE_CELLS} px a side"
        raise ImageError(f"images of {height} x {width} pixels: PSNR at 1/8 needs {least}")
    return round(min(height, width) / COARSE_CELLS)


def _decimate(images: Float[Array, "*b H W 3"]) -> Float[Array, "*b h w 3"]:
    factor = decimation(*images.shape[-3:-1])
    rows, columns = (jnp.asarray(_blur_matrix(size, factor)) for size in images.shape[-3:-1])
    return jnp.einsum("yh,...hwc,xw->...yxc", rows, images, columns, precision=jax.lax.Precision.HIGHEST)


def _blur_matrix(size: int, factor: int) -> np.ndarray:
    """(kept, size): the Gaussian around every kept pixel, cut at 4 sigma, edges reflected."""
    sigma = factor / 2
    offsets = np.arange(-int(4 * sigma + 0.5), int(4 * sigma + 0.5) + 1)
    taps = np.exp(-0.5 * (offsets / sigma) ** 2)
    centres = np.arange(factor // 2, size, factor)
    sources = (centres[:, None] + offsets) % (2 * size)
    sources = np.minimum(sources, 2 * size - 1 - sources)
    matrix = np.zeros((len(centres), size))
    np.add.at(matrix, (np.arange(len(centres))[:, None], sources), taps / taps.sum())
    return matrix.astype(np.float32)


def histogram_intersection(prediction: Images, truth: Images) -> Float[Array, "*b"]:
    """Share of the pixels that the 6 x 6 x 6 RGB histograms of two images have in common, in [0, 1].

    Values outside [0, 1] count in the outermost bins.
    """
    prediction, truth = float_images(prediction, truth)
    return jnp.sum(jnp.minimum(_histogram(prediction), _histogram(truth)), axis=-1)


def _histogram(images: Float[Array, "*b H W 3"]) -> Float[Array, "*b bins"]:
    """Share of the pixels in every bin. Images are counted in one call, each in its own range of bins."""
    levels = jnp.clip((images * HISTOGRAM_BINS).astype(jnp.int32), 0, HISTOGRAM_BINS - 1)
    red, green, blue = jnp.split(levels, 3, axis=-1)
    bins = rearrange((red * HISTOGRAM_BINS + green) * HISTOGRAM_BINS + blue, "... h w 1 -> ... (h w)")
    pixels, size = bins.shape[-1], HISTOGRAM_BINS**3
    bins = bins.reshape(-1, pixels)
    counts = jnp.bincount((bins + size * jnp.arange(len(bins))[:, None]).ravel(), length=size * len(bins))
    return counts.reshape(*images.shape[:-3], size) / pixels


def laplacian_energy(images: Images) -> Float[Array, "*b"]:
    """Mean square of the five-point Laplacian over inner pixels and channels: how much fine detail an image holds."""
    (x,) = float_images(images)
    inner = x[..., 1:-1, 1:-1, :]
    around = x[..., :-2, 1:-1, :] + x[..., 2:, 1:-1, :] + x[..., 1:-1, :-2, :] + x[..., 1:-1, 2:, :]
    return jnp.mean(jnp.square(around - 4 * inner), axis=(-3, -2, -1))


def frame_change(before: Images, after: Images) -> Float[Array, "*b"]:
    """Mean absolute difference of two frames."""
    before, after = float_images(before, after)
    return jnp.mean(jnp.abs(after - before), axis=(-3, -2, -1))


def horizontal_shift(before: Images, after: Images) -> Int[Array, "*b"]:
    """By how many pixels the picture moved to the right from one frame to the next (a turn to the left is positive).

    The shift in [-3/8 W, 3/8 W] with the least squared error over the columns that both frames show; of shifts that fit
    equally well, as between blank frames, the smallest.
    """
    before, after = float_images(before, after)
    width = before.shape[-2]
    energy = jnp.einsum("...hwc->...w", jnp.square(before))[..., :, None]
    energy = energy + jnp.einsum("...hwc->...w", jnp.square(after))[..., None, :]
    product = jnp.einsum("...hwc,...hxc->...wx", before, after, precision=jax.lax.Precision.HIGHEST)
    # The squared error of every column with every column; a shift is a diagonal of this matrix.
    columns = (energy - 2 * product) / (before.shape[-3] * 3)
    shifts = np.array(sorted(range(-(3 * width // 8), 3 * width // 8 + 1), key=abs))
    diagonals = jnp.stack([jnp.eye(width, k=shift) / (width - abs(shift)) for shift in shifts])
    error = jnp.einsum("...wx,swx->...s", columns, diagonals, precision=jax.lax.Precision.HIGHEST)
    best = jnp.argmax(error <= jnp.min(error, axis=-1, keepdims=True) + TIE, axis=-1)
    return jnp.asarray(shifts)[best]


def nearest_frame(prediction: Images, truth: Images) -> Int[np.ndarray, " t"]:
    """Index of the true frame with the least squared error to every predicted frame; of ties, the one nearest in time.

    NumPy, because videos differ in length and this is one matrix product per video.

    Args:
        prediction: (t, H, W, 3) floats in [0, 1].
        truth: the same shape.

    Raises:
        AssertionError: other shapes.
    """
    chex.assert_shape([prediction, truth], (None, None, None, 3))
    chex.assert_equal_shape([prediction, truth])
    centre = truth.mean(axis=0, keepdims=True)  # small numbers cancel better
    p, q = (rearrange(video - centre, "t h w c -> t (h w c)") for video in (prediction, truth))
    error = (np.sum(p * p, axis=1)[:, None] + np.sum(q * q, axis=1) - 2 * p @ q.T) / p.shape[1]
    index = np.arange(len(truth))
    away = np.abs(index[:, None] - index)
    tied = error <= error.min(axis=1, keepdims=True) + TIE
    return np.argmin(np.where(tied, away, len(truth)), axis=1)
