"""Diffusion as pure functions: schedules, noising, targets, loss weights and the DDIM sampler.

Levels are integers 0..levels-1, 0 the least noisy; -1 stands for a clean frame. A frame at level k is
``sqrt(alpha_bar[k]) * clean + sqrt(1 - alpha_bar[k]) * noise``.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.arrays import linspace
from rad_jax.axes import Array, Float, Int
from rad_jax.config import DiffusionConfig

MAX_BETA = 0.999


def alpha_bar(config: DiffusionConfig) -> np.ndarray:
    """The signal's share of the variance at every level: (levels,) float64, decreasing.

    ``sigmoid`` is the Oasis schedule (from -3 to 3), ``cosine`` that of Nichol and Dhariwal, ``linear`` that of DDPM
    scaled to the number of levels. ``shift`` multiplies the ratio of signal to noise amplitude.
    """
    t = np.linspace(0, 1, config.levels + 1)
    if config.schedule == "sigmoid":
        curve = _from_curve(1 / (1 + np.exp(6 * t - 3)) - 1 / (1 + np.exp(3)))
    elif config.schedule == "cosine":
        curve = _from_curve(np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2)
    else:
        scale = 1000 / config.levels
        curve = np.cumprod(1 - np.clip(np.linspace(1e-4 * scale, 0.02 * scale, config.levels), 0, MAX_BETA))
    ratio = config.shift**2 * curve / (1 - curve)
    return ratio / (1 + ratio)


def _from_curve(curve: np.ndarray) -> np.ndarray:
    """Discretises a decreasing curve over levels + 1 points, with the noise added in one level bounded."""
    beta = np.clip(1 - curve[1:] / curve[:-1], 0, MAX_BETA)
    return np.cumprod(1 - beta)


def coefficients(config: DiffusionConfig, levels: Int[Array, "*b"], like: Array) -> tuple[Array, Array]:
    """Amplitudes of signal and noise at ``levels`` (-1: clean), shaped to broadcast against latents ``like``."""
    table = np.concatenate([alpha_bar(config), [1.0]])  # index -1 is the clean entry
    shape = (*levels.shape, *[1] * (like.ndim - levels.ndim))
    signal = jnp.asarray(np.sqrt(table), like.dtype)[levels]
    noise = jnp.asarray(np.sqrt(1 - table), like.dtype)[levels]
    return signal.reshape(shape), noise.reshape(shape)


def add_noise(config: DiffusionConfig, clean: Array, noise: Array, levels: Int[Array, "*b"]) -> Array:
    """The forward process: ``clean`` and ``noise`` (*b, ...) mixed at ``levels`` (*b)."""
    a, s = coefficients(config, levels, clean)
    return a * clean + s * noise


def target(config: DiffusionConfig, clean: Array, noise: Array, levels: Int[Array, "*b"]) -> Array:
    """What the model is trained to predict: v = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) clean, the noise, or ``clean``."""
    if config.predict == "eps":
        return noise
    if config.predict == "x0":
        return clean
    a, s = coefficients(config, levels, clean)
    return a * noise - s * clean


def clean_and_noise(
    config: DiffusionConfig, noised: Array, prediction: Array, levels: Int[Array, "*b"]
) -> tuple[Array, Array]:
    """The clean latents and the noise that a prediction implies; inverse of `target`."""
    a, s = coefficients(config, levels, noised)
    if config.predict == "v":
        return a * noised - s * prediction, s * noised + a * prediction
    if config.predict == "eps":
        return (noised - s * prediction) / a, prediction
    return prediction, (noised - a * prediction) / s


def loss_weight(config: DiffusionConfig, levels: Int[Array, "*b w"]) -> Float[Array, "*b w"]:
    """The weight of every frame's squared error.

    ``min_snr`` is Hang et al. (arXiv 2303.09556); ``fused_snr`` (Diffusion Forcing, arXiv 2407.01392) adds to a frame's
    signal-to-noise ratio that of the frames before it in the window, smoothed over time with ``fused_decay``.
    """
    ratio = alpha_bar(config) / (1 - alpha_bar(config))
    snr = jnp.asarray(ratio, jnp.result_type(float))[levels]
    if config.weighting == "uniform":
        return jnp.ones_like(snr)
    clipped = jnp.minimum(snr, config.snr_clip)
    if config.weighting == "fused_snr":
        past = config.fused_decay * _smoothed_past(clipped / config.snr_clip, config.fused_decay)
        # 1 - (1 - past) (1 - s / clip), written so that the smallest ratios survive float32
        clipped, snr = (config.snr_clip * past + (1 - past) * s for s in (clipped, snr))
    return {"v": clipped / (snr + 1), "eps": clipped / snr, "x0": clipped}[config.predict]


def _smoothed_past(x: Float[Array, "*b w"], decay: float) -> Float[Array, "*b w"]:
    """``m[t] = decay m[t-1] + (1 - decay) x[t]`` with ``m[0] = x[0]``, seen one frame later; 0 for the first frame."""

    def step(mean: Array, x: Array) -> tuple[Array, Array]:
        return decay * mean + (1 - decay) * x, mean

    first, rest = x[..., 0], jnp.moveaxis(x[..., 1:], -1, 0)
    _, past = jax.lax.scan(step, first, rest)
    return jnp.concatenate([jnp.zeros_like(x[..., :1]), jnp.moveaxis(past, 0, -1)], axis=-1)


def sampler_levels(config: DiffusionConfig, steps: int, highest: int | None = None) -> np.ndarray:
    """The levels a sampler visits, from ``highest`` (the noisiest unless given) to -1 (clean): (steps + 1,) int32.

    Evenly spaced and then cut to integers, as in Open-Oasis: other levels would be another sampler for its weights. (Points
    in float64 would give other integers for one number of steps in seven.)
    """
    highest = config.levels - 1 if highest is None else highest
    return linspace(-1, highest, steps + 1).astype(np.int32)[::-1]


def levels_from(config: DiffusionConfig, steps: int, levels: Int[Array, "*b"]) -> Int[Array, "s *b"]:
    """As `sampler_levels`, from a level of each frame's own."""
    table = np.stack([sampler_levels(config, steps, highest) for highest in range(config.levels)])
    return jnp.moveaxis(jnp.asarray(table)[levels], -1, 0)


def ddim_step(
    config: DiffusionConfig,
    noised: Array,
    prediction: Array,
    level: Int[Array, "*b"],
    next_level: Int[Array, "*b"],
) -> Array:
    """One deterministic DDIM step (eta = 0) from ``level`` to the lower ``next_level``."""
    clean, noise = clean_and_noise(config, noised, prediction, level)
    return add_noise(config, clean, noise, next_level)


def denoise(
    config: DiffusionConfig,
    predict: Callable[[Array, Int[Array, "*b"]], Array],
    noised: Array,
    levels: Int[Array, "s *b"],
) -> Array:
    """DDIM steps along ``levels``, the first of which is that of ``noised``; ``predict`` is of noised latents at a level."""

    def step(noised: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        level, next_level = pair
        return ddim_step(config, noised, predict(noised, level), level, next_level), None

    return jax.lax.scan(step, noised, (levels[:-1], levels[1:]))[0]
