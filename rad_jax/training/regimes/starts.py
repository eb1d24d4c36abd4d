"""Where windows start: anywhere in a clip, or where their last frame sees again what was seen long before.

The last frame of window j revisits a place if its pose is less than ``memory.radius`` from that of some frame i <= j - W, which
at least W frames separate from the window (W = model.window): attention has lost it, and the memory has had to keep it while
other frames came in. Distances are those by which a bank tells poses apart (`rad_jax.model.addressing`).

Training on such windows is half of Memory Forcing's regime (arXiv 2510.03198); there the two kinds of windows are from two data
sets.
"""

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.axes import Array, Bool, Float, Int, Key
from rad_jax.config import NO_POSE, ModelConfig
from rad_jax.model.addressing import pose_of, squared_distance

CANDIDATES_AT_ONCE = 32  # whose distances to all frames of a clip are held together


def revisits(
    config: ModelConfig, actions: Float[Array, "b t a"], candidates: Int[np.ndarray, "c"]
) -> Bool[Array, "b c"]:
    """Whether the last frame of the window that starts at a candidate revisits a place."""
    if not config.heading_at:
        raise ValueError(f"train.revisit: {NO_POSE}")
    pose, number = pose_of(config, actions), jnp.arange(actions.shape[1])

    def of_start(start: Int[Array, ""]) -> Bool[Array, "b"]:
        last = jax.lax.dynamic_index_in_dim(pose, start + config.window - 1, axis=1, keepdims=False)
        apart = jax.vmap(squared_distance)(pose, last)
        return jnp.any((apart < config.memory.radius**2) & (number <= start - config.window), axis=1)

    return jax.lax.map(of_start, jnp.asarray(candidates), batch_size=CANDIDATES_AT_ONCE).T


def draw_starts(
    key: Key[Array, ""],
    candidates: Int[np.ndarray, "c"],
    preferred: Bool[Array, "b c"],
    share: float,
    count: int,
) -> tuple[Int[Array, "b k"], Bool[Array, "b k"]]:
    """Distinct starts, each with probability ``share`` among the preferred ones that are left, else among all that are left.

    Returns:
      The starts, and whether they were drawn among the preferred ones. Where none are left, a start is drawn among all.
    """
    key_share, key_order = jax.random.split(key)
    wanted = jax.random.bernoulli(key_share, share, (count, preferred.shape[0]))
    order = jax.random.uniform(key_order, (count, *preferred.shape))

    def draw(free: Bool[Array, "b c"], numbers: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        wanted, order = numbers
        among = free & preferred
        wanted = wanted & among.any(axis=1)
        chosen = jnp.argmax(jnp.where(jnp.where(wanted[:, None], among, free), order, -1), axis=1)
        return free & (jnp.arange(len(candidates)) != chosen[:, None]), (chosen, wanted)

    _, (chosen, wanted) = jax.lax.scan(draw, jnp.ones_like(preferred), (wanted, order))
    return jnp.asarray(candidates)[chosen].T, wanted.T
