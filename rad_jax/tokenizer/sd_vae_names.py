"""Converts the three layouts in which weights of Stable Diffusion's VAE are published into one.

current diffusers       encoder.down_blocks.0.resnets.1.conv1, mid_block.attentions.0.to_q (C, C)
diffusers before 0.15   the same, but mid_block.attentions.0.query
CompVis / LDM           encoder.down.0.block.1.conv1, mid.attn_1.q (C, C, 1, 1), levels of the decoder from the image
                        inwards; in a whole Stable Diffusion checkpoint below first_stage_model, beside other networks
"""

import os
import re
from collections.abc import Mapping

import numpy as np

from rad_jax.weights.tensors import WeightsError

CHECKPOINT_PREFIX = "first_stage_model."
# Discriminator and perceptual loss; averages that were folded in before publishing.
NOT_THE_VAE = ("loss.", "model_ema.")
RENAMED = (
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
    (r"(\.attentions\.0)\.norm\.", r"\1.group_norm."),
    (r"(\.attentions\.0)\.(?:q|query)\.", r"\1.to_q."),
    (r"(\.attentions\.0)\.(?:k|key)\.", r"\1.to_k."),
    (r"(\.attentions\.0)\.(?:v|value)\.", r"\1.to_v."),
    (r"(\.attentions\.0)\.(?:proj_out|proj_attn)\.", r"\1.to_out.0."),
    (r"\.(down|up)\.(\d+)\.block\.", r".\1_blocks.\2.resnets."),
    (r"\.(down|up)\.(\d+)\.(down|up)sample\.", r".\1_blocks.\2.\3samplers.0."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"^(encoder|decoder)\.norm_out\.", r"\1.conv_norm_out."),
)


def current_names(tensors: Mapping[str, np.ndarray], path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Renames the VAE's tensors as in current diffusers. Names of no known layout stay as they are.

    Raises:
      WeightsError: two tensors of the file stand for the same parameter.
    """
    if any(name.startswith(CHECKPOINT_PREFIX) for name in tensors):
        inside = {name: tensor for name, tensor in tensors.items() if name.startswith(CHECKPOINT_PREFIX)}
        tensors = {name.removeprefix(CHECKPOINT_PREFIX): tensor for name, tensor in inside.items()}
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(NOT_THE_VAE)}
    levels = [match[1] for name in tensors if (match := re.match(r"decoder\.up\.(\d{1,3})\.", name))]
    last = max(map(int, levels), default=0)
    found: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        current = re.sub(r"^decoder\.up\.(\d{1,3})\.", lambda m: f"decoder.up.{last - int(m[1])}.", name)
        for old, new in RENAMED:
            current = re.sub(old, new, current)
        if current in found:
            raise WeightsError(f"{path}: two tensors for {current}: it mixes layouts of the VAE")
        # The LDM layout writes the projections of attention as convolutions of one pixel.
        if ".attentions." in current and tensor.ndim == 4 and tensor.shape[2:] == (1, 1):
            tensor = tensor[:, :, 0, 0]
        found[current] = tensor
    return found
