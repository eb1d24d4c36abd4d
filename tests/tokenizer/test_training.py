"""A run whose data are images and whose tokenizer is a network."""

import json

import jax
import pytest

from data_prep import make_maze
from rad_jax.main import main
from rad_jax.runs import manifest
from tests.tokenizer.torch_weights import perturbed
from tests.toy_run import silence

diffusers = pytest.importorskip("diffusers")


def test_images_are_encoded_with_the_weights_as_data(tmp_path, toy):
    """A program that holds the weights as constants would be a warning, and here a warning is an error."""
    vae = perturbed(
        diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(16, 32),
            norm_num_groups=4,
        )
    )
    vae.save_pretrained(tmp_path)
    with silence():
        options = "--protocol rotate --room --pixels 16 --episodes 8 --out"
        assert make_maze.main([*options.split(), str(tmp_path / "rooms")]) == 0
    settings = {
        "data__path": str(tmp_path / "rooms"),
        "tokenizer__name": "sd_vae",
        "tokenizer__path": str(tmp_path / "diffusion_pytorch_model.safetensors"),
        "model__patch": 4,
        "model__depth": 1,
        "train__steps": 1,
    }
    arguments = toy.arguments(tmp_path / "run", **settings)
    limit = jax.config.jax_captured_constants_warn_bytes
    weights = sum(tensor.nbytes for tensor in vae.encoder.state_dict().values())
    jax.config.update("jax_captured_constants_warn_bytes", weights // 4)
    try:
        assert main(arguments) == 0
    finally:
        jax.config.update("jax_captured_constants_warn_bytes", limit)
    metadata = json.loads((tmp_path / "run" / "checkpoints" / "1" / manifest.FILE).read_text())["metadata"]
    assert metadata["tokenizer"]["name"] == "sd_vae"
    assert metadata["config"]["model"]["latent"] == [8, 8, 4]
