"""A tokenizer that is a network: its weights are an argument of compiled programs, and it runs in chunks of bounded memory.

Closed over by a compiled function, its weights would be compiled into the program: hundreds of megabytes that each compilation
reads and each cached program holds.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from rad_jax.arrays import apply_in_chunks, fingerprint
from rad_jax.axes import Array, Float, PyTree
from rad_jax.files.json_files import read_json
from rad_jax.tokenizer.base import Tokenizer, Unchecked
from rad_jax.weights import torch_layout
from rad_jax.weights.tensors import WeightsError


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["params", "decoder"],
    meta_fields=["name", "module", "scale", "fingerprint", "cell", "channels", "image", "pixels_at_once"],
)
@dataclasses.dataclass(frozen=True, eq=False)
class NetworkTokenizer(Tokenizer):
    """See `Tokenizer`.

    Attributes:
      module: its methods ``encode`` and ``decode`` map images (m, H, W, 3) in [0, 1] to unscaled latents and back.
      params: parameters of the module, on the host or on devices.
      pixels_at_once: pixels that are computed together, which bounds the memory of activations.
      decoder: of the same latents, scale included, which decodes instead: for videos to look at, not for evaluations.
    """

    name: str
    module: nn.Module
    params: PyTree
    scale: float
    fingerprint: str
    cell: int
    channels: int
    image: tuple[int, int] | None
    pixels_at_once: int
    decoder: "NetworkTokenizer | None" = None

    @classmethod
    def of_weights(
        cls,
        tensors: Mapping[str, np.ndarray],
        what: str,
        *,
        module: nn.Module,
        cell: int,
        image: tuple[int, int] | None = None,
        settings: Mapping[str, Any] | None = None,
        **attributes: Any,
    ) -> "NetworkTokenizer":
        """Fills ``module`` with PyTorch's ``tensors``; ``what`` as in `torch_layout.fill`.

        ``settings`` are what latents depend on beside the weights, and enter the fingerprint; the others are the attributes.

        Raises:
          WeightsError: the tensors are not exactly those of the network.
        """
        inputs = ((1, *(image or (cell, cell)), 3),)
        params, used = torch_layout.fill(module, inputs, tensors, what)
        made_of = used | {name: np.asarray(value) for name, value in (settings or {}).items()}
        attributes |= {"fingerprint": fingerprint(made_of), "cell": cell, "image": image}
        return cls(module=module, params=params, **attributes)

    def _encode(self, images: Unchecked) -> Float[Array, "... rows cols ch"]:
        return self._run("encode", images, math.prod(images.shape[-3:-1]))

    def _decode(self, latents: Unchecked) -> Float[Array, "... H W 3"]:
        if self.decoder is not None:
            return self.decoder._decode(latents)
        return self._run("decode", latents, math.prod(latents.shape[-3:-1]) * self.cell**2)

    def _run(self, method: str, x: Unchecked, pixels: int) -> Float[Array, "..."]:
        at_once = max(1, self.pixels_at_once // pixels)
        run = functools.partial(_apply, self.module, self.scale, method)
        leaves = (x, *jax.tree.leaves(self.params))
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return run(at_once, self.params, x)
        params = self._beside(x)
        if any(isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1 for leaf in leaves):
            # A loop over chunks would leave all devices but one idle.
            return run(at_once, params, x)
        return _run_on_one_device(run, at_once, params, x)

    @functools.cached_property
    def _copies(self) -> dict[Any, PyTree]:
        return {}

    def _beside(self, x: Unchecked) -> PyTree:
        """Returns the weights, replicated on the devices of ``x``. They are transferred once."""
        if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(self.params)):
            return self.params
        place = None  # the default device; uncommitted weights move to where they are used
        if isinstance(x, jax.Array) and x.committed:
            if isinstance(x.sharding, NamedSharding):
                place = NamedSharding(x.sharding.mesh, PartitionSpec())
            elif isinstance(x.sharding, SingleDeviceSharding):
                place = x.sharding
        if place not in self._copies:
            self._copies[place] = jax.device_put(self.params, place)
        return self._copies[place]


def _run_on_one_device(
    run: Callable[..., Float[Array, "..."]], at_once: int, params: PyTree, x: Unchecked
) -> Float[Array, "..."]:
    """Runs chunks of one size (for a single chunk, a power of two), so that few programs are compiled."""
    leading, count = x.shape[:-3], math.prod(x.shape[:-3])
    flat = x.reshape(count, *x.shape[-3:])
    each = min(at_once, 1 << max(0, count - 1).bit_length())
    results = []
    for first in range(0, max(count, 1), each):
        chunk = jnp.asarray(flat[first : first + each], jnp.float32)
        missing = each - len(chunk)
        chunk = jnp.pad(chunk, [(0, missing), (0, 0), (0, 0), (0, 0)]) if missing else chunk
        results.append(run(each, params, chunk))
        jax.block_until_ready(results[-2:-1])  # at most two chunks are queued on the device
    joined = (jnp.concatenate(results) if len(results) > 1 else results[0])[:count]
    return joined.reshape(*leading, *joined.shape[1:])


@functools.partial(jax.jit, static_argnames=("module", "scale", "method", "at_once"))
def _apply(
    module: nn.Module, scale: float, method: str, at_once: int, params: PyTree, x: Unchecked
) -> Float[Array, "..."]:
    run = functools.partial(module.apply, {"params": params}, method=method)
    x = jnp.asarray(x, jnp.float32)
    if method == "encode":
        return apply_in_chunks(run, at_once, x) * scale
    return apply_in_chunks(run, at_once, x / scale)


def published_config(weights: Path) -> dict[str, Any]:
    """Returns what the ``config.json`` beside a weight file says; nothing if there is none.

    Raises:
      WeightsError: it cannot be read, or holds no JSON object.
    """
    path = weights.with_name("config.json")
    try:
        return read_json(path, dict) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
