"""Converts names and layouts of PyTorch's parameters to Linen's, for modules that have the same names in both.

encoder.down_blocks.0.resnets.1.conv1.weight (O, I, h, w)   encoder/down_blocks_0/resnets_1/conv1/kernel (h, w, I, O)
encoder.0.attn.qkv.weight (O, I)                            encoder_0/attn/qkv/kernel (I, O)
encoder.0.norm1.weight (C,)                                 encoder_0/norm1/scale (C,)
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from rad_jax.weights.tensors import match

TO_TORCH = {
    2: (1, 0),
    4: (3, 2, 0, 1),
}  # permutation of a kernel's axes, by their number; vectors keep theirs
TO_LINEN = {2: (1, 0), 4: (2, 3, 1, 0)}


def fill(
    module: nn.Module,
    inputs: tuple[tuple[int, ...], ...],
    tensors: Mapping[str, np.ndarray],
    what: str,
    ignore: Callable[[str], bool] = lambda name: False,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns the parameters of ``module`` from PyTorch's tensors; each must exist with the right shape.

    Args:
      module: the Linen module to fill.
      inputs: shapes of the module's arguments, which determine the shapes of its parameters.
      tensors: PyTorch's tensors by name.
      what: where the tensors are from and what they are compared with; the error begins with it.
      ignore: whether a tensor of this name may exist as well; it is left out.

    Returns:
      The tree of float32 parameters, and the tensors that it was made of, as float32.

    Raises:
      WeightsError: see `rad_jax.weights.tensors.match`.
    """
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in inputs]
    expected = flatten_dict(jax.eval_shape(module.init, jax.random.key(0), *arguments)["params"])
    shapes = {_name(path): _permuted(leaf.shape, leaf.ndim) for path, leaf in expected.items()}
    used = {
        name: np.asarray(array, np.float32) for name, array in match(tensors, shapes, what, ignore).items()
    }
    tree = {path: _to_linen(used[_name(path)]) for path in expected}
    return unflatten_dict(tree), used


def _name(path: tuple[str, ...]) -> str:
    *modules, leaf = path
    modules = [re.sub(r"_(\d+)$", r".\1", module) for module in modules]
    return ".".join([*modules, "bias" if leaf == "bias" else "weight"])


def _permuted(shape: tuple[int, ...], ndim: int) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in TO_TORCH.get(ndim, range(ndim)))


def _to_linen(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(TO_LINEN.get(array.ndim)))
