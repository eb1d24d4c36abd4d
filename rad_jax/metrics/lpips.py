"""LPIPS (Zhang et al. 2018), version 0.1, on AlexNet or VGG-16: a distance of images in features of a network.

Features of both images are scaled to unit length at every place; their squared differences are weighted by channel, averaged
over the image and added up over five layers. The weights are learned ones and have to be given: there is no LPIPS without.
Their file is made by ``python -m data_prep.convert_lpips`` from what torchvision and the authors publish.
"""

import functools
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct

from rad_jax.arrays import apply_in_chunks, fingerprint
from rad_jax.axes import Array, Float, PyTree
from rad_jax.config import ConfigError
from rad_jax.config.data import EvaluateConfig
from rad_jax.metrics.image import ImageError, Images, float_images
from rad_jax.weights import torch_layout
from rad_jax.weights.tensors import WeightsError, read_tensors, without_wrappers

VERSION = "0.1"
ROOTS = {"features", "classifier", *(f"lin{tap}" for tap in range(5))}  # of the names of the weights
SHIFT, SCALE = np.float32([-0.030, -0.088, -0.188]), np.float32([0.458, 0.448, 0.450])  # of images in [-1, 1]
PIXELS_AT_ONCE = 2**20


class Net(NamedTuple):
    """A backbone.

    Attributes:
      layers: as torchvision lists them: of a convolution, with the ReLU behind it, (index, channels) and, where they are not
        (3, 1, 1), (size, stride, padding); "pool"; "tap" where features are compared.
      pool: pixels along a side of which a "pool" takes the maximum, every second pixel.
      smallest: least side of an image.
    """

    layers: tuple[tuple[int, ...] | str, ...]
    pool: int
    smallest: int


_ALEXNET = (
    *((0, 64, 11, 4, 2), "tap", "pool", (3, 192, 5, 1, 2), "tap", "pool"),
    *((6, 384), "tap", (8, 256), "tap", (10, 256), "tap"),
)
_VGG16 = (
    *((0, 64), (2, 64), "tap", "pool", (5, 128), (7, 128), "tap", "pool"),
    *((10, 256), (12, 256), (14, 256), "tap", "pool"),
    *((17, 512), (19, 512), (21, 512), "tap", "pool"),
    *((24, 512), (26, 512), (28, 512), "tap"),
)
NETS = {"alex": Net(_ALEXNET, pool=3, smallest=31), "vgg": Net(_VGG16, pool=2, smallest=16)}


class Lpips(struct.PyTreeNode):
    """The weights of LPIPS: ``net`` is "alex" or "vgg". A pytree, to be handed to compiled functions as an argument."""

    net: str = struct.field(pytree_node=False)
    params: PyTree
    fingerprint: str = struct.field(pytree_node=False)

    def check(self, height: int, width: int) -> None:
        """Raises `ImageError` if images are smaller than the network takes."""
        smallest = NETS[self.net].smallest
        if min(height, width) < smallest:
            raise ImageError(
                f"images of {height} x {width} pixels: LPIPS on {self.net} needs at least {smallest} x {smallest}"
            )


class Network(nn.Module):
    """Pairs of images in [0, 1] to their distance."""

    net: str

    @nn.compact
    def __call__(self, a: Float[Array, "m H W 3"], b: Float[Array, "m H W 3"]) -> Float[Array, " m"]:
        net = NETS[self.net]
        x = (2 * jnp.concatenate([a, b]) - 1 - SHIFT) / SCALE
        distance, taps = jnp.zeros(len(a)), 0
        for layer in net.layers:
            if layer == "pool":
                x = nn.max_pool(x, (net.pool, net.pool), (2, 2))
            elif layer == "tap":
                unit = x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-10)
                difference = jnp.square(unit[: len(a)] - unit[len(a) :])
                head = nn.Conv(1, (1, 1), use_bias=False, name=f"lin{taps}.model.1")
                distance += head(difference).mean((1, 2, 3))
                taps += 1
            else:
                index, channels, size, stride, padding = (*layer, 3, 1, 1)[:5]
                conv = nn.Conv(channels, (size, size), stride, padding=padding, name=f"features.{index}")
                x = nn.relu(conv(x))
        return distance


def load_lpips(path: str | os.PathLike) -> Lpips:
    """Reads the weights of one net, as ``python -m data_prep.convert_lpips`` writes them.

    Raises:
      WeightsError: the file is missing, damaged, or of something else.
    """
    tensors = without_wrappers(read_tensors(path), ROOTS)
    net = "vgg" if "features.28.weight" in tensors else "alex"
    params, used = fill(net, tensors, f"{path} against LPIPS on {net}")
    return Lpips(net, jax.tree.map(jnp.asarray, params), fingerprint(used))


def fill(net: str, tensors: dict[str, np.ndarray], what: str) -> tuple[PyTree, dict[str, np.ndarray]]:
    """See `torch_layout.fill`: torchvision's ``features.N`` and the authors' ``linN.model.1``, and nothing else."""
    image = (1, NETS[net].smallest, NETS[net].smallest, 3)
    return torch_layout.fill(Network(net), (image, image), tensors, what)


def lpips(a: Images, b: Images, weights: Lpips) -> Float[Array, "*b"]:
    """The distance of every pair of images, 0 for equal ones.

    Args:
        a: (..., H, W, 3) floats in [0, 1], H and W at least 31 (alex) or 16 (vgg).
        b: the same shape.
        weights: of `load_lpips`.

    Returns:
        (...) float32.

    Raises:
        ImageError: other shapes, values that are not floats, or images smaller than the network takes.
    """
    a, b = float_images(a, b)
    weights.check(*a.shape[-3:-1])
    return _lpips(weights, a, b)


@jax.jit
def _lpips(weights: Lpips, a: Float[Array, "*b H W 3"], b: Float[Array, "*b H W 3"]) -> Float[Array, "*b"]:
    at_once = max(1, PIXELS_AT_ONCE // (a.shape[-3] * a.shape[-2]))
    distance = functools.partial(Network(weights.net).apply, {"params": weights.params})
    return apply_in_chunks(distance, at_once, a, b)


def open_lpips(config: EvaluateConfig, size: tuple[int, int] | None) -> Lpips | None:
    """The weights that the configuration names, for images of ``size`` (height, width; None: unknown); None if it names none.

    Raises:
      ConfigError: the file cannot be used, or the images are too small for its network.
    """
    if not config.lpips:
        return None
    try:
        weights = load_lpips(config.lpips)
        if size:
            weights.check(*size)
    except (WeightsError, ImageError) as error:
        raise ConfigError(f"evaluate.lpips={config.lpips}: {error}") from None
    return weights
