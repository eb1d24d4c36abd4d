"""The parameters of a model by name, before there are any."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict

from rad_jax.axes import PyTree
from rad_jax.config import ModelConfig
from rad_jax.model import RAD
from rad_jax.paths import named_leaves


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Names (see `rad_jax.paths`) and shapes of all parameters of a model; none is allocated."""

    def init():
        frames = jnp.zeros((1, 1, *config.latent), config.state_dtype)
        actions = jnp.zeros((1, 1, config.action_dim), config.state_dtype)
        return RAD(config).init(jax.random.key(0), frames, jnp.zeros((1, 1), int), actions)

    return {name: leaf.shape for name, leaf in named_leaves(jax.eval_shape(init)["params"]).items()}


def nested(named: Mapping[str, Any]) -> PyTree:
    """The inverse of `named_leaves` for parameters."""
    return unflatten_dict({tuple(name.split("/")): leaf for name, leaf in named.items()})
