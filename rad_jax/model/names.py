"""Names of the leaves of a tree ("params/block/spatial_attention/kernel"), and the parameters of a model by name.

Rules about parameters (what is sharded, decayed, frozen, stored) are rules about such a name and a shape.
The block of the model is one `nn.scan` over layers, so everything below ``block`` carries a leading layer axis; the
optimiser's moments and the moving average keep the names of the parameters they belong to.
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict

from rad_jax.axes import PyTree
from rad_jax.config import ModelConfig
from rad_jax.model.rad import RAD


def name_of(key_path: tuple) -> str:
    """The name of one leaf, its keys, fields and indices joined by slashes."""
    return jax.tree_util.keystr(key_path, simple=True, separator="/")


def map_named(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Like `jax.tree.map`, with the leaf's name as the function's first argument."""
    return jax.tree_util.tree_map_with_path(
        lambda path, *leaves: function(name_of(path), *leaves), tree, *rest
    )


def named_leaves(tree: Any) -> dict[str, Any]:
    """All leaves by name, in tree order."""
    return {name_of(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def is_stacked(name: str) -> bool:
    """Whether the leaf has a leading layer axis."""
    return "block" in name.split("/")


def is_memory(name: str) -> bool:
    """Whether a parameter belongs to the recurrent branch."""
    return "block/memory/" in name


def init_params(config: ModelConfig, seed: int = 0) -> PyTree:
    """The parameters before the first step (what stands in ``{"params": ...}``)."""
    frames = jnp.zeros((1, 1, *config.latent), config.state_dtype)
    actions = jnp.zeros((1, 1, config.action_dim), config.state_dtype)
    return RAD(config).init(jax.random.key(seed), frames, jnp.zeros((1, 1), int), actions)["params"]


@functools.lru_cache(maxsize=16)  # to trace a model takes a second, and one command asks several times
def parameter_shapes(config: ModelConfig) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes of all parameters of a model; none is allocated."""
    shapes = jax.eval_shape(lambda: init_params(config))
    return MappingProxyType({name: leaf.shape for name, leaf in named_leaves(shapes).items()})


def nested(named: Mapping[str, Any]) -> PyTree:
    """The inverse of `named_leaves` for parameters."""
    return unflatten_dict({tuple(name.split("/")): leaf for name, leaf in named.items()})
