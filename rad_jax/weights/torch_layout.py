"""Converts names and layouts of PyTorch's parameters to Linen's, for modules that have the same names in both.

encoder.down_blocks.0.resnets.1.conv1.weight (O, I, h, w)   encoder/down_blocks.0.resnets.1/conv1/kernel (h, w, I, O)
encoder.0.attn.qkv.weight (O, I)                            encoder_0/attn.qkv/kernel (I, O)
encoder.0.norm1.weight (C,)                                 encoder_0/norm1/scale (C,)

A module may be named as several of PyTorch's, with dots, where only the innermost does something. What Linen numbers itself
(`encoder_0`) is an entry of a list in PyTorch (`encoder.0`).
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from rad_jax.weights.tensors import match, to_float32

# The order in which PyTorch has the axes of a parameter of ours, by their number.
TO_TORCH = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}


def fill(
    module: nn.Module,
    inputs: tuple[tuple[int, ...], ...],
    tensors: Mapping[str, np.ndarray],
    what: str,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns the parameters of ``module`` from PyTorch's tensors; each must exist with the right shape.

    Args:
      module: the Linen module to fill.
      inputs: shapes of the module's arguments, which determine the shapes of its parameters.
      tensors: PyTorch's tensors by name.
      what: where the tensors are from and what they are compared with; the error begins with it.

    Returns:
      The tree of float32 parameters, and the tensors that it was made of, as float32.

    Raises:
      WeightsError: see `rad_jax.weights.tensors.match`.
    """
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in inputs]
    leaves = flatten_dict(jax.eval_shape(module.init, jax.random.key(0), *arguments)["params"])
    shapes = {
        _name(path): tuple(leaf.shape[axis] for axis in TO_TORCH[leaf.ndim]) for path, leaf in leaves.items()
    }
    matching = match(tensors, shapes, what)
    used = {name: to_float32(array, what) for name, array in matching.items()}
    tree = {
        path: used[_name(path)].transpose(np.argsort(TO_TORCH[leaf.ndim])) for path, leaf in leaves.items()
    }
    return unflatten_dict(jax.tree.map(np.ascontiguousarray, tree)), used


def _name(path: tuple[str, ...]) -> str:
    *modules, leaf = (re.sub(r"_(\d+)$", r".\1", module) for module in path)
    return ".".join([*modules, "bias" if leaf == "bias" else "weight"])
