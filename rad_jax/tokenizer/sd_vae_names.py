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
NOT_THE_VAE = (
    "loss.",
    "model_ema.",
)  # discriminator and perceptual loss; averages that were folded in before publishing

_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_LDM_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0", "norm": "group_norm"}
_LDM_RESNET = {"nin_shortcut": "conv_shortcut"}
_LDM_SAMPLING = {"downsample": "downsamplers.0", "upsample": "upsamplers.0"}


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
        current = _from_old(_from_ldm(name, last))
        if current in found:
            raise WeightsError(
                f"{path}: two tensors for {current}: it mixes layouts of Stable Diffusion's VAE"
            )
        # The LDM layout writes the projections of attention as convolutions of one pixel.
        if ".attentions." in current and tensor.ndim == 4 and tensor.shape[2:] == (1, 1):
            tensor = tensor[:, :, 0, 0]
        found[current] = tensor
    return found


def _from_ldm(name: str, last: int) -> str:
    half, _, rest = name.partition(".")
    if half not in ("encoder", "decoder"):
        return name
    if found := re.fullmatch(r"mid\.block_([12])\.(\w+)\.(\w+)", rest):
        block, layer, leaf = found.groups()
        return f"{half}.mid_block.resnets.{int(block) - 1}.{_LDM_RESNET.get(layer, layer)}.{leaf}"
    if (found := re.fullmatch(r"mid\.attn_1\.(\w+)\.(\w+)", rest)) and found[1] in _LDM_ATTENTION:
        return f"{half}.mid_block.attentions.0.{_LDM_ATTENTION[found[1]]}.{found[2]}"
    if found := re.fullmatch(r"norm_out\.(\w+)", rest):
        return f"{half}.conv_norm_out.{found[1]}"
    if not (found := re.fullmatch(r"(down|up)\.(\d{1,3})\.(block|downsample|upsample)\.(.+)", rest)):
        return name
    way, level, part, rest = found.groups()
    blocks = f"{half}.{way}_blocks.{int(level) if way == 'down' else last - int(level)}"
    if part != "block":
        return f"{blocks}.{_LDM_SAMPLING[part]}.{rest}"
    index, _, rest = rest.partition(".")
    layer, _, leaf = rest.partition(".")
    return f"{blocks}.resnets.{index}.{_LDM_RESNET.get(layer, layer)}.{leaf}"


def _from_old(name: str) -> str:
    found = re.fullmatch(r"(.+\.attentions\.0)\.(query|key|value|proj_attn)\.(\w+)", name)
    return f"{found[1]}.{_OLD_ATTENTION[found[2]]}.{found[3]}" if found else name
