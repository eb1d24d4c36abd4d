"""Files of random weights in the published layout, of networks as small as one likes; no PyTorch is needed."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from rad_jax.tokenizer.sd_vae import AutoencoderKL
from rad_jax.tokenizer.taesd import TAESD


def save_sd_vae(directory: Path, channels=(8,) * 4, latent=4, groups=2) -> Path:
    """A VAE like Stable Diffusion's with one layer a level, and the config.json that says what shapes cannot."""
    path = save_random(directory, AutoencoderKL(channels, 1, latent, groups), (1, 16, 16, 3))
    config = {"_class_name": "AutoencoderKL", "norm_num_groups": groups, "scaling_factor": 0.5}
    (directory / "config.json").write_text(json.dumps(config))
    return path


def save_taesd(directory: Path, width=8, latent=4, encodes=False) -> Path:
    return save_random(directory, TAESD(width, latent, encodes), (1, 8, 8, 3))


def save_random(directory: Path, module, *inputs, seed=0) -> Path:
    """Weights that keep the size of what they are applied to, as PyTorch names and lays them out."""
    directory.mkdir(parents=True, exist_ok=True)
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in inputs]
    shapes = flatten_dict(jax.eval_shape(module.init, jax.random.key(0), *arguments)["params"])
    rng, tensors = np.random.default_rng(seed), {}
    for (*modules, leaf), array in shapes.items():
        name = ".".join(re.sub(r"_(\d+)$", r".\1", part) for part in modules)
        if leaf == "kernel":
            *window, inner, outer = array.shape
            values = rng.normal(0, (inner * np.prod(window)) ** -0.5, (outer, inner, *window))
        else:
            values = (leaf == "scale") + 0.2 * rng.normal(size=array.shape)
        tensors[f"{name}.{'bias' if leaf == 'bias' else 'weight'}"] = np.float32(values)
    save_file(tensors, directory / "weights.safetensors")
    return directory / "weights.safetensors"
