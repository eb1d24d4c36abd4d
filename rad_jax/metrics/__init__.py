"""Image metrics, of which LPIPS needs weights, and the memory metrics, which need none.

How they are averaged: ``rad_jax.reports.statistics``.
"""

from rad_jax.metrics.forgetting import (
    coarse_psnr,
    frame_change,
    histogram_intersection,
    horizontal_shift,
    laplacian_energy,
    nearest_frame,
)
from rad_jax.metrics.image import ImageError, psnr, ssim
from rad_jax.metrics.lpips import Lpips, load_lpips, lpips

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
