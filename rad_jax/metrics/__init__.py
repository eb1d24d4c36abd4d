"""Image metrics and the memory metrics that need no pretrained weights. How they are averaged: ``rad_jax.scores``."""

from rad_jax.metrics.image import ImageError, psnr, ssim
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
    "coarse_psnr",
    "frame_change",
    "histogram_intersection",
    "horizontal_shift",
    "laplacian_energy",
    "nearest_frame",
    "psnr",
    "ssim",
]
