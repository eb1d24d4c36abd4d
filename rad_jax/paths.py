"""Names of the leaves of a tree: "params/block/spatial_attention/kernel".

Rules about parameters (what is sharded, decayed, frozen, stored) are rules about such a name and a shape.
The block of the model is one `nn.scan` over layers, so everything below `SCANNED` carries a leading layer axis;
the optimiser's moments and the moving average keep the names of the parameters they belong to.
"""

from collections.abc import Callable
from typing import Any

import jax

SCANNED = "block"
"""Name of the scanned module: its parameters are stacked over layers on axis 0."""


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
    return SCANNED in name.split("/")
