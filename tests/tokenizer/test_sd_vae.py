"""Stable Diffusion's VAE against diffusers' class on random weights, in the three layouts in which weights are published."""

import json
import re

import jax
import numpy as np
import pytest

from rad_jax import tokenizer as tokenizers
from rad_jax.tokenizer import Tokenizer, TokenizerError, sd_vae
from tests.tokenizer.torch_weights import from_torch, images, perturbed, save, to_torch, torch

diffusers = pytest.importorskip("diffusers")

SIZES = {"block_out_channels": (16, 32, 32), "layers_per_block": 2, "norm_num_groups": 8}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """diffusers' class at a small size, and the directory in which it saved itself."""
    levels = len(SIZES["block_out_channels"])
    torch.manual_seed(0)
    model = perturbed(
        diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            scaling_factor=0.25,
            **SIZES,
        )
    )
    directory = tmp_path_factory.mktemp("vae")
    model.save_pretrained(directory, safe_serialization=True)
    return model, directory


@pytest.fixture(scope="module")
def vae(published):
    return tokenizers.load("sd_vae", published[1] / "diffusion_pytorch_model.safetensors")


def test_encodes_and_decodes_as_diffusers_does(published, vae):
    model, _ = published
    x = images(2, 16, 24, 3)
    with torch.no_grad():
        mean = model.encode(2 * to_torch(x) - 1).latent_dist.mean
        expected = from_torch((model.decode(mean).sample + 1) / 2)
    latents = vae.encode(x)
    assert latents.shape == (2, 4, 6, 4) == (2, *vae.latent_shape(16, 24)) and latents.dtype == np.float32
    assert float(mean.std()) > 0.1 and expected.std() > 0.1
    np.testing.assert_allclose(latents, 0.25 * from_torch(mean), atol=2e-5)
    np.testing.assert_allclose(vae.decode(0.25 * from_torch(mean)), expected, atol=2e-5)
    assert isinstance(vae, Tokenizer) and (vae.name, vae.scale) == ("sd_vae", 0.25)


def to_old(tensors):
    """diffusers before 0.15."""
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    return {
        re.sub(r"(attentions\.0\.)(to_q|to_k|to_v|to_out\.0)", lambda m: m[1] + names[m[2]], name): tensor
        for name, tensor in tensors.items()
    }


def to_ldm(tensors, prefix=""):
    """CompVis: written down part by part, level by level, for three levels of two resnets."""
    resnet = {name: name for name in ("norm1", "conv1", "norm2", "conv2")} | {"conv_shortcut": "nin_shortcut"}
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    names = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    for half, way, count in (("encoder", "down", 2), ("decoder", "up", 3)):
        for ours, theirs in {
            "conv_in": "conv_in",
            "conv_out": "conv_out",
            "conv_norm_out": "norm_out",
        }.items():
            names[f"{half}.{ours}"] = f"{half}.{theirs}"
        for ours, theirs in attention.items():
            names[f"{half}.mid_block.attentions.0.{ours}"] = f"{half}.mid.attn_1.{theirs}"
        blocks = {"mid_block.resnets.0": "mid.block_1", "mid_block.resnets.1": "mid.block_2"}
        for level, theirs in enumerate((0, 1, 2) if way == "down" else (2, 1, 0)):
            for block in range(count):
                blocks[f"{way}_blocks.{level}.resnets.{block}"] = f"{way}.{theirs}.block.{block}"
            sampling = f"{half}.{way}.{theirs}.{way}sample.conv"
            names[f"{half}.{way}_blocks.{level}.{way}samplers.0.conv"] = sampling
        for block, his in blocks.items():
            names |= {f"{half}.{block}.{ours}": f"{half}.{his}.{theirs}" for ours, theirs in resnet.items()}
    found = {}
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        one_pixel = ".attentions.0.to_" in name and leaf == "weight"
        found[f"{prefix}{names[module]}.{leaf}"] = tensor[:, :, None, None] if one_pixel else tensor
    assert len(found) == len(tensors)
    return found


def checkpoint(tensors):
    """A whole Stable Diffusion checkpoint, of which the VAE is a part."""
    other = torch.zeros(2, 2)
    names = (
        "model.diffusion_model.input_blocks.0.0.weight",
        "model_ema.decay",
        "cond_stage_model.transformer.text_model.embeddings.position_ids",
        "betas",
        "first_stage_model.loss.discriminator.main.0.weight",
    )
    return to_ldm(tensors, "first_stage_model.") | dict.fromkeys(names, other)


def with_losses(tensors):
    """An autoencoder's own checkpoint."""
    names = "loss.logvar", "loss.perceptual_loss.lin0.model.1.weight", "model_ema.decay"
    return to_ldm(tensors) | dict.fromkeys(names, torch.ones(1))


@pytest.mark.parametrize("layout", [to_old, to_ldm, with_losses, checkpoint])
def test_all_layouts_load_to_the_same_bits(tmp_path, published, vae, layout):
    model, directory = published
    config = json.loads((directory / "config.json").read_text())
    path = save(tmp_path, layout(model.state_dict()), config)
    other = sd_vae.load(path)
    jax.tree.map(np.testing.assert_array_equal, other.params, vae.params)
    assert other.fingerprint == vae.fingerprint and other.module == vae.module


def test_the_fingerprint_is_of_everything_that_latents_depend_on(tmp_path, published, vae):
    model, directory = published
    config = json.loads((directory / "config.json").read_text())
    tensors = model.state_dict()
    moved = {"quant_conv.bias": tensors["quant_conv.bias"] + 1e-6}
    seen = {vae.fingerprint}
    for change, weights in (({"scaling_factor": 0.5}, {}), ({"norm_num_groups": 4}, {}), ({}, moved)):
        seen.add(sd_vae.load(save(tmp_path, tensors | weights, config | change)).fingerprint)
    assert len(seen) == 4


def without(name):
    return lambda tensors: {n: t for n, t in tensors.items() if n != name}


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        (without("decoder.conv_in.bias"), {}, "1 missing .decoder.conv_in.bias"),
        (lambda t: t | {"extra.weight": torch.ones(1)}, {}, "1 unexpected .extra.weight"),
        (
            lambda t: t | {"quant_conv.weight": torch.ones(8, 8, 3, 3)},
            {},
            r"1 wrong .quant_conv.weight: .*3, 3",
        ),
        (lambda t: t | to_old(t), {}, "two tensors for decoder.mid_block.attentions.0.to_"),
        (lambda t: {"a.weight": torch.ones(2)}, {}, "0 of 248 tensors match; 248 missing"),
        (lambda t: t | {"conv.bias": torch.full((2,), np.nan)}, {}, "NaN"),
        (lambda t: t, None, r"\(16, 32, 32\) .* config.json .*norm_num_groups"),
        (lambda t: t, {"norm_num_groups": 5}, "5 groups"),
        (lambda t: t, {"norm_num_groups": "8"}, "norm_num_groups='8'"),
        (lambda t: t, {"scaling_factor": 0}, "scaling_factor=0"),
        (lambda t: t, {"act_fn": "relu"}, "act_fn='relu'"),
        (lambda t: t, {"shift_factor": 0.1}, "shift_factor=0.1"),
        (lambda t: t, {"_class_name": "AutoencoderTiny"}, r"\(16, 32, 32\) .*config.json"),
    ],
)
def test_other_weights_are_refused_in_one_or_two_lines(tmp_path, published, change, config, message):
    model, directory = published
    whole = json.loads((directory / "config.json").read_text())
    path = save(tmp_path, change(model.state_dict()), None if config is None else whole | config)
    with pytest.raises(TokenizerError, match=message) as info:
        tokenizers.load("sd_vae", path)
    assert len(str(info.value).splitlines()) <= 2 and str(tmp_path) in str(info.value)


@pytest.mark.parametrize("text", ["{", "[]", "3", "[" * 100_000, '{"scaling_factor": NaN}'])
def test_a_config_that_cannot_be_read_is_named(tmp_path, published, text):
    path = save(tmp_path, published[0].state_dict())
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(TokenizerError, match=r"config\.json"):
        tokenizers.load("sd_vae", path)
