"""The ViT-VAE of Oasis against its forward pass written out in PyTorch from its description, on random weights."""

import math

import numpy as np
import pytest
from safetensors.numpy import load_file

from rad_jax import tokenizer as tokenizers
from rad_jax.tokenizer import TokenizerError, oasis_vae
from tests.tokenizer.random_weights import save_random
from tests.tokenizer.torch_weights import images, save, torch

F = torch.nn.functional
CONFIG = {"input_height": 24, "input_width": 40, "enc_heads": 2, "dec_heads": 4}
PATCH, DEPTHS = 8, (2, 3)


def block(w, name, x, heads, grid):
    """One pre-norm transformer block on tokens (m, n, d)."""

    def linear(part, h):
        return F.linear(h, w[name + part + ".weight"], w[name + part + ".bias"])

    def normed(part, h):
        return F.layer_norm(h, h.shape[-1:], w[name + part + ".weight"], w[name + part + ".bias"], 1e-6)

    q, k, v = linear("attn.qkv", normed("norm1", x)).chunk(3, -1)
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k, v))  # m h n e
    angles = rotary(grid, q.shape[-1])
    y = F.scaled_dot_product_attention(turned(q, angles), turned(k, angles), v)
    x = x + linear("attn.proj", y.transpose(1, 2).flatten(2))
    return x + linear("mlp.fc2", F.gelu(linear("mlp.fc1", normed("norm2", x))))


def rotary(grid, width):
    """Angle of every place and every pair of features: a quarter of a head by row, a quarter by column, half not at all."""
    rows, columns = grid
    frequencies = math.pi * torch.linspace(1, rows * columns / 2, width // 8)
    by_row = torch.linspace(-1, 1, rows)[:, None, None] * frequencies
    by_column = torch.linspace(-1, 1, columns)[None, :, None] * frequencies
    shape = (rows, columns, width // 8)
    return torch.cat([by_row.expand(shape), by_column.expand(shape)], -1).flatten(0, 1)


def turned(x, angles):
    """Neighbouring features as the real and imaginary part of numbers that are turned."""
    half = x.shape[-1] // 2
    pairs = torch.view_as_complex(x[..., :half].unflatten(-1, (-1, 2)).contiguous())
    pairs = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([torch.view_as_real(pairs).flatten(-2), x[..., half:]], -1)


def encode(w, x):
    """Images (m, 3, H, W) in [-1, 1] to the mean of the posterior (m, n, channels)."""
    grid = x.shape[2] // PATCH, x.shape[3] // PATCH
    h = F.conv2d(x, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=PATCH)
    h = h.flatten(2).transpose(1, 2)
    for i in range(DEPTHS[0]):
        h = block(w, f"encoder.{i}.", h, CONFIG["enc_heads"], grid)
    h = F.layer_norm(h, h.shape[-1:], w["enc_norm.weight"], w["enc_norm.bias"], 1e-6)
    return F.linear(h, w["quant_conv.weight"], w["quant_conv.bias"]).chunk(2, -1)[0]


def decode(w, z, grid):
    """The inverse, images in about [-1, 1]."""
    h = F.linear(z, w["post_quant_conv.weight"], w["post_quant_conv.bias"])
    for i in range(DEPTHS[1]):
        h = block(w, f"decoder.{i}.", h, CONFIG["dec_heads"], grid)
    h = F.layer_norm(h, h.shape[-1:], w["dec_norm.weight"], w["dec_norm.bias"], 1e-6)
    h = F.linear(h, w["predictor.weight"], w["predictor.bias"])
    return F.fold(h.transpose(1, 2), [PATCH * side for side in grid], PATCH, stride=PATCH)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Encoder and decoder differ in every size. The names are our own; those the original has are in `encode` and `decode`."""
    module = oasis_vae.ViTVAE(PATCH, (3, 5), 4, DEPTHS, (32, 64), (64, 128), (2, 4))
    path = save_random(tmp_path_factory.mktemp("random"), module, (1, 24, 40, 3))
    return {name: torch.tensor(array) for name, array in load_file(path).items()}


@pytest.fixture(scope="module")
def vae(weights, tmp_path_factory):
    return tokenizers.load("oasis_vae", save(tmp_path_factory.mktemp("oasis"), weights, CONFIG))


def test_encodes_and_decodes_as_the_original_does(weights, vae):
    x = images(2, 24, 40, 3)
    mean = encode(weights, 2 * torch.tensor(x).movedim(-1, 1) - 1)
    expected = (decode(weights, mean, (3, 5)) + 1) / 2
    scale = 0.07843137255
    assert vae.scale == scale and vae.latent_shape(24, 40) == (3, 5, 4)
    assert float(mean.std()) > 0.1 and float(expected.std()) > 0.1
    latents = mean.unflatten(1, (3, 5)).numpy()
    np.testing.assert_allclose(vae.encode(x) / scale, latents, atol=2e-5)
    np.testing.assert_allclose(vae.decode(latents * scale), expected.movedim(1, -1), atol=2e-5)


def test_tables_of_positions_in_the_file_are_not_needed(tmp_path, weights, vae):
    more = {
        "encoder.0.attn.rotary_freqs": torch.ones(3, 5, 8),
        "decoder.1.attn.rotary_emb.freqs": torch.ones(4),
    }
    again = oasis_vae.load(save(tmp_path, weights | more, CONFIG))
    assert again.fingerprint == vae.fingerprint
    other = oasis_vae.load(save(tmp_path / "other", weights, CONFIG | {"dec_heads": 2}))
    assert other.fingerprint != vae.fingerprint


def test_only_images_of_its_size(vae):
    for call in (
        lambda: vae.latent_shape(40, 24),
        lambda: vae.encode(np.zeros((24, 32, 3), np.float32)),
        lambda: vae.decode(np.zeros((5, 3, 4), np.float32)),
    ):
        with pytest.raises(TokenizerError, match=r"oasis_vae .*24 x 40"):
            call()


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        ({"dec_norm.bias": None}, CONFIG, "1 missing .dec_norm.bias"),
        ({"extra": torch.ones(1)}, CONFIG, "1 unexpected .extra"),
        ({"decoder.3.norm1.weight": torch.ones(64)}, CONFIG, "missing .decoder.3"),
        ({"quant_conv.weight": torch.ones(8, 16)}, CONFIG, "1 wrong .quant_conv.weight"),
        ({}, CONFIG | {"enc_heads": 3}, r"\(3, 4\) heads"),
        ({}, CONFIG | {"input_width": 41}, r"\(24, 41\)"),
        ({}, CONFIG | {"input_width": "40"}, "config.json: .*'input_width': '40'"),
        ({}, {"input_width": 40}, "config.json: .*'input_height': None"),
        ({}, None, r"\(360, 640\).* config.json .*input_height"),
    ],
)
def test_other_weights_are_refused_in_one_or_two_lines(tmp_path, weights, change, config, message):
    tensors = {name: tensor for name, tensor in (weights | change).items() if tensor is not None}
    with pytest.raises(TokenizerError, match=message) as info:
        tokenizers.load("oasis_vae", save(tmp_path, tensors, config))
    assert len(str(info.value).splitlines()) <= 2 and str(tmp_path) in str(info.value)


def test_weights_of_something_else_are_compared_with_the_published_network(tmp_path):
    with pytest.raises(TokenizerError, match=r"0 of 228 tensors match; 228 missing .*1 unexpected .a"):
        tokenizers.load("oasis_vae", save(tmp_path, {"a": torch.ones(2)}))
