"""TAESD against diffusers' class on random weights."""

import numpy as np
import pytest

from rad_jax import tokenizer as tokenizers
from rad_jax.tokenizer import TokenizerError
from tests.tokenizer.torch_weights import from_torch, images, perturbed, save, to_torch, torch

diffusers = pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def published():
    torch.manual_seed(0)
    width = (16,) * 4
    return perturbed(
        diffusers.AutoencoderTiny(encoder_block_out_channels=width, decoder_block_out_channels=width)
    )


def test_encodes_and_decodes_as_diffusers_does(tmp_path, published):
    taesd = tokenizers.load("taesd", save(tmp_path, published.state_dict()))
    x = images(2, 16, 24, 3)
    latents = np.random.default_rng(0).normal(size=(2, 2, 3, 4)).astype(np.float32)
    with torch.no_grad():
        expected = published.encode(2 * to_torch(x) - 1).latents
        image = (published.decode(to_torch(4 * latents)).sample + 1) / 2
    assert taesd.scale == 1 and taesd.latent_shape(16, 24) == (2, 3, 4)
    np.testing.assert_allclose(taesd.encode(x), from_torch(expected), atol=2e-5)
    np.testing.assert_allclose(taesd.decode(4 * latents), from_torch(image), atol=2e-5)


def test_the_decoder_alone_in_the_layout_of_its_author(tmp_path, published):
    whole = tokenizers.load("taesd", save(tmp_path / "whole", published.state_dict()))
    tensors = {}
    for name, tensor in published.decoder.layers.state_dict().items():
        index, _, rest = name.partition(".")
        tensors[f"{int(index) + 1}.{rest}"] = tensor  # their list begins with the clamp
    alone = tokenizers.load("taesd", save(tmp_path / "alone", tensors))
    latents = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    np.testing.assert_array_equal(alone.decode(latents), whole.decode(latents))
    assert alone.fingerprint != whole.fingerprint
    with pytest.raises(TokenizerError, match=r"TAESD.*encode"):
        alone.encode(images(16, 16, 3))


def test_the_encoder_alone_is_refused(tmp_path, published):
    path = save(tmp_path, published.encoder.layers.state_dict())
    with pytest.raises(TokenizerError, match=r"missing .*unexpected") as info:
        tokenizers.load("taesd", path)
    assert "\n" not in str(info.value)
