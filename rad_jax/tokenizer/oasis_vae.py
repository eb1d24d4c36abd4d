"""The ViT-VAE of Oasis (Decart and Etched 2024, ``vit-l-20.safetensors``), the paper's tokenizer for Minecraft.

Patches of 20 x 20 pixels, an encoder of six transformer blocks, 16 channels, a decoder of twelve blocks:
360 x 640 -> 18 x 32 x 16, 229 M parameters. Positions are rotary and depend on the grid, which the weights do not determine, so
images of other sizes are refused.
"""

import math
import os
import pathlib
import re
import reprlib

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn

from rad_jax.axes import Array, Float
from rad_jax.files.json_files import has_form
from rad_jax.model.rope import rotate, spatial_angles
from rad_jax.tokenizer.network import NetworkTokenizer, published_config
from rad_jax.weights.tensors import WeightsError, read_tensors, without_wrappers

NAME = "oasis_vae"
SCALE = 0.07843137255
IMAGE, HEADS, WIDTH, PATCH = (360, 640), (16, 16), 1024, 20
CONFIG = ("input_height", "input_width", "enc_heads", "dec_heads")
ROOTS = {
    "patch_embed",
    "encoder",
    "enc_norm",
    "quant_conv",
    "post_quant_conv",
    "decoder",
    "dec_norm",
    "predictor",
}
LARGEST, MOST_PATCHES = 2**16, 2**14  # side of an image and number of heads; patches of an image
PIXELS_AT_ONCE = 2**22  # 18 images of 360 x 640


class Block(nn.Module):
    """A pre-norm transformer block with full attention over the tokens of an image."""

    heads: int
    grid: tuple[int, int]
    hidden: int

    @nn.compact
    def __call__(self, x: Float[Array, "m n d"]) -> Float[Array, "m n d"]:
        width, (rows, columns) = x.shape[-1] // self.heads, self.grid
        half = width // 2  # of each head's features: only these turn with the position
        angles = spatial_angles(rows, columns, half, max_frequency=float(rows * columns)).astype(np.float32)
        qkv = nn.Dense(3 * x.shape[-1], name="attn.qkv")(_norm("norm1")(x))
        q, k, v = rearrange(qkv, "m n (part h e) -> part m h n e", part=3, h=self.heads)
        q, k = (jnp.concatenate([rotate(y[..., :half], angles), y[..., half:]], -1) for y in (q, k))
        weights = jax.nn.softmax(jnp.einsum("mhqe,mhke->mhqk", q, k) / math.sqrt(width))
        y = rearrange(jnp.einsum("mhqk,mhke->mhqe", weights, v), "m h n e -> m n (h e)")
        x = x + nn.Dense(x.shape[-1], name="attn.proj")(y)
        h = nn.Dense(self.hidden, name="mlp.fc1")(_norm("norm2")(x))
        return x + nn.Dense(x.shape[-1], name="mlp.fc2")(nn.gelu(h, approximate=False))


class PatchEmbed(nn.Module):
    """Patches to tokens, by a convolution whose windows do not overlap."""

    width: int
    patch: int

    @nn.compact
    def __call__(self, images: Float[Array, "m H W 3"]) -> Float[Array, "m rows cols d"]:
        size = (self.patch, self.patch)
        return nn.Conv(self.width, size, size, padding="VALID", name="proj")(images)


class ViTVAE(nn.Module):
    """Images in [0, 1] to the mean of the posterior, and back.

    Attributes:
      grid: rows and columns of patches.
      depths, widths, hidden, heads: of the encoder and of the decoder.
    """

    patch: int
    grid: tuple[int, int]
    channels: int
    depths: tuple[int, int]
    widths: tuple[int, int]
    hidden: tuple[int, int]
    heads: tuple[int, int]

    def setup(self) -> None:
        def blocks(half: int) -> list[Block]:
            return [Block(self.heads[half], self.grid, self.hidden[half]) for _ in range(self.depths[half])]

        self.patch_embed = PatchEmbed(self.widths[0], self.patch)
        self.encoder, self.enc_norm = blocks(0), _norm(None)
        self.quant_conv = nn.Dense(2 * self.channels)
        self.post_quant_conv = nn.Dense(self.widths[1])
        self.decoder, self.dec_norm = blocks(1), _norm(None)
        self.predictor = nn.Dense(3 * self.patch**2)

    def __call__(self, images: Float[Array, "m H W 3"]) -> Float[Array, "m H W 3"]:
        """Encodes and decodes, which touches all parameters."""
        return self.decode(self.encode(images))

    def encode(self, images: Float[Array, "m H W 3"]) -> Float[Array, "m rows cols ch"]:
        """Returns the mean, unscaled. The other half of the moments is the log-variance."""
        x = rearrange(self.patch_embed(2 * images - 1), "m rows cols d -> m (rows cols) d")
        for block in self.encoder:
            x = block(x)
        mean, _ = jnp.split(self.quant_conv(self.enc_norm(x)), 2, axis=-1)
        return rearrange(mean, "m (rows cols) ch -> m rows cols ch", rows=self.grid[0])

    def decode(self, latents: Float[Array, "m rows cols ch"]) -> Float[Array, "m H W 3"]:
        """Returns images. The predictor orders the values of a patch by colour first."""
        x = self.post_quant_conv(rearrange(latents, "m rows cols ch -> m (rows cols) ch"))
        for block in self.decoder:
            x = block(x)
        x = self.predictor(self.dec_norm(x))
        layout = "m (rows cols) (c y x) -> m (rows y) (cols x) c"
        return (rearrange(x, layout, rows=self.grid[0], c=3, y=self.patch) + 1) / 2


def load(path: str | os.PathLike) -> NetworkTokenizer:
    """Reads weights (.safetensors).

    Patch size, depths and widths are read from the weights. Image size and numbers of heads come from a ``config.json`` beside
    them (``input_height``, ``input_width``, ``enc_heads``, ``dec_heads``), or are the published ones.

    Raises:
      WeightsError: the file cannot be read, or its tensors are not exactly those of this network.
    """
    path = pathlib.Path(path)
    # Some files hold tables of positions, which are computed here.
    tables = "rotary_freqs", "rotary_emb.freqs"
    named = without_wrappers(read_tensors(path), ROOTS)
    tensors = {name: array for name, array in named.items() if not name.endswith(tables)}
    image, heads = _sizes_of_config(path)
    module = _sized(tensors, image, heads, path)
    return NetworkTokenizer.of_weights(
        tensors,
        f"{path} against the ViT-VAE of Oasis",
        settings={"image": image, "heads": heads},
        name=NAME,
        module=module,
        scale=SCALE,
        cell=module.patch,
        channels=module.channels,
        image=image,
        pixels_at_once=PIXELS_AT_ONCE,
    )


def _norm(name: str | None) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-6, use_fast_variance=False, name=name)


def _sized(
    tensors: dict[str, np.ndarray], image: tuple[int, int], heads: tuple[int, int], path: pathlib.Path
) -> ViTVAE:
    """Returns the network with the sizes of the weights, or the published sizes where tensors are missing."""

    def size(name: str, ndim: int, axis: int, published: int) -> int:
        tensor = tensors.get(name)
        return tensor.shape[axis] if tensor is not None and tensor.ndim == ndim and tensor.size else published

    def depth(half: str, published: int) -> int:  # of at most 100: a file may hold any number of names
        found = [int(m[1]) for name in tensors if (m := re.match(rf"{half}\.(\d\d?)\.norm1\.", name))]
        return max(found) + 1 if found else published

    widths = size("enc_norm.bias", 1, 0, WIDTH), size("dec_norm.bias", 1, 0, WIDTH)
    patch = size("patch_embed.proj.weight", 4, 3, PATCH)
    fits = patch and all(width % (8 * h) == 0 for width, h in zip(widths, heads))
    if not fits or any(side % patch for side in image) or math.prod(image) > MOST_PATCHES * patch**2:
        raise WeightsError(
            f"{path}: widths {widths} and patches of {patch} do not go with {heads} heads and images of {image}; for other "
            f"weights than the published ones put a config.json beside them with {', '.join(CONFIG)}"
        )
    return ViTVAE(
        patch=patch,
        grid=(image[0] // patch, image[1] // patch),
        channels=size("quant_conv.bias", 1, 0, 32) // 2,
        depths=(depth("encoder", 6), depth("decoder", 12)),
        widths=widths,
        hidden=tuple(size(f"{half}.0.mlp.fc1.bias", 1, 0, 4 * WIDTH) for half in ("encoder", "decoder")),
        heads=heads,
    )


def _sizes_of_config(path: pathlib.Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns image size and numbers of heads from the config.json beside the weights, or the published ones."""
    config = published_config(path)
    if not set(config) & set(CONFIG):
        return IMAGE, HEADS
    height, width, *heads = values = [config.get(name) for name in CONFIG]
    if any(not has_form(value, int) or not 1 <= value <= LARGEST for value in values):
        found = f"{path.with_name('config.json')}: {reprlib.repr(dict(zip(CONFIG, values)))}"
        raise WeightsError(f"{found}: expected four integers from 1 to {LARGEST}")
    return (height, width), tuple(heads)
