"""Image metrics, of which LPIPS needs weights, and the memory metrics, which need none.

How they are averaged: ``rad_jax.scores``.
"""

from rad_jax.metrics.image import ImageError, psnr, ssim
from rad_jax.metrics.lpips import Lpips, load_lpips, lpips
from rad_jax.metrics.memory import (
    coarse_psnr,
    frame_change,
    histogram_intersection,
    horizontal_shift,
    laplacian_energy,
    nearest_frame,
)

__all__ = [
    "ImageError",
    "Lpips",
    "coarse_psnr",
    "frame_change",
    "histogram_intersection",
    "horizontal_shift",
    "laplacian_energy",
    "load_lpips",
    "lpips",
    "nearest_frame",
    "psnr",
    "ssim",
]
