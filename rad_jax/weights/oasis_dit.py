"""Open-Oasis's diffusion transformer (github.com/etched-ai/open-oasis, DiT-S/2) as a model without memory, with equal outputs.

The file holds 300 weights, and one or more copies of the two tables of rotary frequencies, which are compared with the formula
of `rad_jax.model.rope` and then left out. Sizes are read from the tensors. What the tensors do not determine is set as in the
released program: latents of 18 x 32, heads of 64 features (unless the frequencies say otherwise), a window of 32 frames, clean
frames at level 14. The weights were trained with `OASIS_DIFFUSION`.

Our parameters are stacked over the layers, and kernels are transposed: (in, out) where PyTorch has (out, in).
"""

import os

import jax.numpy as jnp
import numpy as np
from einops import rearrange

from rad_jax.axes import PyTree
from rad_jax.config import ConfigError, DiffusionConfig, MemoryConfig, ModelConfig
from rad_jax.model.names import is_stacked, nested, parameter_shapes
from rad_jax.model.rope import spatial_frequencies, temporal_frequencies
from rad_jax.weights.tensors import WeightsError, match, read_tensors, to_float32, without_wrappers

OASIS_DIFFUSION = DiffusionConfig(schedule="sigmoid", shift=1.0, levels=1000, predict="v")

PATCHES = "x_embedder.proj.weight"
FREQUENCIES = "rotary_emb.freqs"
PUBLISHED = {"width": 1024, "depth": 16, "hidden": 4096, "channels": 16, "patch": 2, "action_dim": 25}
GRID, HEAD_WIDTH, WINDOW, CONTEXT_LEVEL = (18, 32), 64, 32, 14

# Names of our modules -> theirs: those of the whole model, and those of each block.
WHOLE = {
    "embed_patch": "x_embedder.proj",
    "embed_time/layers_0": "t_embedder.mlp.0",
    "embed_time/layers_2": "t_embedder.mlp.2",
    "embed_action": "external_cond",
    "final_modulation/Dense_0": "final_layer.adaLN_modulation.1",
    "unembed_patch": "final_layer.linear",
}
OF_A_BLOCK = {
    "modulation/Dense_0": "adaLN_modulation.1",
    "attention/qkv": "attn.to_qkv",
    "attention/out": "attn.to_out",
    "mlp/Dense_1": "mlp.fc1",  # Linen numbers modules as they are made, and the outer one is made first
    "mlp/Dense_0": "mlp.fc2",
}
ROOTS = {
    "blocks",
    "spatial_rotary_emb",
    "temporal_rotary_emb",
    *(name.partition(".")[0] for name in WHOLE.values()),
}
LEAVES = {"kernel": "weight", "bias": "bias"}


def import_oasis_dit(path: str | os.PathLike) -> tuple[ModelConfig, PyTree]:
    """Reads the weights of an Open-Oasis DiT from a safetensors file.

    Returns:
      The configuration of the model, with memory ``none`` and float32 matrix products, and its parameters (what stands in
      ``{"params": ...}``), float32. Frames are latents (b, t, 18, 32, 16) as the Oasis ViT-VAE's, already scaled; actions
      have 25 entries, the zeroth of a clip is zero.

    Raises:
      WeightsError: in one or two lines, what is wrong with the file or its tensors; nothing is taken from it then.
    """
    config, named = convert_oasis_dit(read_tensors(path), os.fspath(path))
    return config, nested({name: jnp.asarray(array) for name, array in named.items()})


def is_oasis_dit(tensors: dict[str, np.ndarray]) -> bool:
    """Whether tensors have the names of this model, with or without wrappers."""
    return PATCHES in without_wrappers(tensors, ROOTS)


def convert_oasis_dit(
    tensors: dict[str, np.ndarray], where: str
) -> tuple[ModelConfig, dict[str, np.ndarray]]:
    """As `import_oasis_dit`, for tensors that were read from ``where``, with the parameters by name and on the host.

    Wrappers are left out; see `without_wrappers`.
    """
    tensors = without_wrappers(tensors, ROOTS)
    tables = {name: tensors.pop(name) for name in list(tensors) if name.endswith(FREQUENCIES)}
    try:
        config = _config(tensors, tables)
    except ConfigError as error:
        raise WeightsError(f"{where}: sizes that no model has: {error}") from None
    ours = parameter_shapes(config)
    theirs = {name: _names(name, config.depth) for name in ours}
    shapes = {
        one: _shape(name, ours[name][1:] if is_stacked(name) else ours[name], config.patch)
        for name, layers in theirs.items()
        for one in layers
    }
    found = match(tensors, shapes, f"{where}, as the DiT of Open-Oasis")
    _check_frequencies(tables, config, where)
    named = {}
    for name, layers in theirs.items():
        kernels = [_kernel(found.pop(one), where) for one in layers]
        named[name] = np.stack(kernels) if is_stacked(name) else np.ascontiguousarray(kernels[0])
    return config, named


def _config(tensors: dict[str, np.ndarray], tables: dict[str, np.ndarray]) -> ModelConfig:
    """Reads the sizes from the tensors; for a missing tensor, that of the published model, so that `match` can name it."""

    def size(name: str, axis: int, published: str) -> int:
        shape = np.shape(tensors.get(name, 0))
        return shape[axis] if axis < len(shape) else PUBLISHED[published]

    width = size(PATCHES, 0, "width")
    patch = size(PATCHES, 2, "patch")
    layers = {name.split(".")[1] for name in tensors if name.startswith("blocks.")}
    head_widths = {max(table.size, 1) * (4 if _is_spatial(name) else 2) for name, table in tables.items()}
    if len(head_widths) > 1:
        raise ConfigError(f"{FREQUENCIES} are of heads of {sorted(head_widths)} features")
    return ModelConfig(
        latent=(*GRID, size(PATCHES, 1, "channels")),
        action_dim=size("external_cond.weight", 1, "action_dim"),
        patch=patch,
        width=width,
        depth=len(layers) or PUBLISHED["depth"],
        heads=max(width // (head_widths or {HEAD_WIDTH}).pop(), 1),
        mlp_ratio=size("blocks.0.s_mlp.fc1.weight", 0, "hidden") / max(width, 1),
        window=WINDOW,
        context_level=CONTEXT_LEVEL,
        dtype="float32",
        memory=MemoryConfig(kind="none"),
    )


def _is_spatial(name: str) -> bool:
    return name.endswith(("s_attn." + FREQUENCIES, "spatial_" + FREQUENCIES))


def _check_frequencies(tables: dict[str, np.ndarray], config: ModelConfig, where: str) -> None:
    """Raises WeightsError unless the tables are those that our model computes, as exactly as their type can hold them."""
    for name, found in tables.items():
        formula = spatial_frequencies if _is_spatial(name) else temporal_frequencies
        expected = formula(config.width // config.heads)
        exact = (expected.astype(dtype).astype(np.float64) for dtype in ("f4", "f2", jnp.bfloat16))
        if found.shape != expected.shape or not any(np.allclose(found, e, 1e-5, 0) for e in exact):
            first, theirs = (table.ravel()[:3].round(4).tolist() for table in (expected, found))
            raise WeightsError(
                f"{where}: {name} are not the frequencies of this model, which begin {first}; found {theirs}"
            )


def _names(name: str, depth: int) -> list[str]:
    """Returns their names of our parameter ``name``, one for each layer over which it is stacked."""
    module, _, leaf = name.rpartition("/")
    if not is_stacked(name):
        return [f"{WHOLE[module]}.{LEAVES[leaf]}"]
    axis, _, part = module.removeprefix("block/").partition("_")
    return [f"blocks.{layer}.{axis[0]}_{OF_A_BLOCK[part]}.{LEAVES[leaf]}" for layer in range(depth)]


def _shape(name: str, shape: tuple[int, ...], patch: int) -> tuple[int, ...]:
    """Returns their shape of our parameter ``name``, which has ``shape`` in one layer."""
    if name == "embed_patch/kernel":
        return shape[1], shape[0] // patch**2, patch, patch
    return shape[::-1]


def _kernel(weight: np.ndarray, where: str) -> np.ndarray:
    """Returns one of their weights in our layout, as float32."""
    if weight.ndim == 4:  # the patch embedding, a convolution there; our channels of a patch come last
        weight = rearrange(weight, "out c p q -> out (p q c)")
    return to_float32(weight.T, where)
