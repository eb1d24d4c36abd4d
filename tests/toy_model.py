"""A model small enough to be compiled in a test, with parameters that make every path count."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.config import MemoryConfig, ModelConfig, always_needs_pose
from rad_jax.model import RAD

LATENT, ACTION, WINDOW = (4, 4, 3), 3, 4
# The same model as overrides of a configuration, with a batch of two clips.
SETTINGS = {
    "data.clip": 8,
    "model.latent": LATENT,
    "model.action_dim": ACTION,
    "model.width": 16,
    "model.depth": 2,
    "model.heads": 2,
    "model.window": WINDOW,
    "model.dtype": "float32",
    "memory.action_width": 8,
    "memory.head_width": 8,
    "train.batch": 2,
    "train.windows": 2,
}


def toy_model(stride=1, window="shared", *, kind="lstm", dtype="float32", remat=False, **memory) -> RAD:
    small = {"action_width": 8, "head_width": 8, "state": 4, "slots": 2, "slot_frames": 2}
    settings = {"prefetch_segment": 4 * stride, **small, **memory}
    return RAD(
        ModelConfig(
            latent=LATENT,
            action_dim=ACTION,
            pose=(1, 1) if always_needs_pose(kind) else None,
            width=16,
            depth=2,
            heads=2,
            mlp_ratio=1.0,
            window=WINDOW,
            context_level=2,
            dtype=dtype,
            remat=remat,
            memory=MemoryConfig(kind=kind, stride=stride, window=window, **settings),
        )
    )


def toy_posed(kind="bank", **memory) -> RAD:
    """A model that is given a position and a heading; a bank keeps three frames, of which two are read."""
    settings = {"capacity": 3, "retrieved": 2, "radius": 1.0, "novelty": 0.1, **memory}
    config = toy_model(dtype="float64").config
    memory = dataclasses.replace(config.memory, kind=kind, **settings)
    return RAD(dataclasses.replace(config, pose=(1, 1), memory=memory))


def toy_params(model: RAD, seed: int = 0):
    """Parameters moved away from their start, where gates and the last layer are zero."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.3, s.shape), s.dtype), shapes_of(model.config))


def shapes_of(config: ModelConfig):
    """The shapes of the parameters, traced once for all ways to run them."""
    ways = ("stride", "window", "prefetch_segment", "mixer_segment", "bptt", "bptt_frames", "frames", "drop")
    same = {name: getattr(MemoryConfig(), name) for name in ways}
    memory = dataclasses.replace(config.memory, **same)
    return _shapes_of(dataclasses.replace(config, remat=False, memory=memory))


@functools.cache
def _shapes_of(config: ModelConfig):
    dtype = config.state_dtype
    frames, actions = jnp.zeros((1, 1, *LATENT), dtype), jnp.zeros((1, 1, ACTION), dtype)
    return jax.eval_shape(RAD(config).init, jax.random.key(0), frames, jnp.zeros((1, 1), int), actions)[
        "params"
    ]


def toy_clip(batch: int, length: int, dtype="float32", seed: int = 1):
    """Latents (b, t, rows, cols, ch) and actions (b, t, a)."""
    rng = np.random.default_rng(seed)
    return (
        jnp.asarray(rng.normal(size=(batch, length, *LATENT)), dtype),
        jnp.asarray(rng.normal(size=(batch, length, ACTION)), dtype),
    )
