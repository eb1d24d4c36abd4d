"""Metrics of images, of which LPIPS needs weights. How they are averaged: ``rad_jax.reports.statistics``.

Those that tell a model that forgot from one that drifted: ``rad_jax.metrics.forgetting``.
"""

from rad_jax.metrics.image import ImageError, psnr, ssim
from rad_jax.metrics.lpips import Lpips, load_lpips, lpips

__all__ = ["ImageError", "Lpips", "load_lpips", "lpips", "psnr", "ssim"]
