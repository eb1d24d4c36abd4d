"""A tokenizer that another one decodes for."""

import dataclasses

import jax
import numpy as np

from rad_jax.tokenizer import Tokenizer
from rad_jax.tokenizer.preview import PreviewTokenizer
from tests.tokenizer.test_network import images, small_vae


def test_it_is_the_tokenizer_but_for_what_it_decodes():
    vae = small_vae()
    other = dataclasses.replace(vae, name="other", scale=1.0, fingerprint="11")
    preview = PreviewTokenizer(vae, other)
    assert isinstance(preview, Tokenizer)
    for name in ("name", "scale", "fingerprint"):
        assert getattr(preview, name) == getattr(vae, name) != getattr(other, name)
    assert preview.latent_shape(8, 12) == vae.latent_shape(8, 12)
    latents = vae.encode(images(2))
    np.testing.assert_array_equal(preview.encode(images(2)), latents)
    np.testing.assert_array_equal(preview.decode(latents), other.decode(latents))
    assert np.abs(preview.decode(latents) - vae.decode(latents)).max() > 0.1


def test_as_an_argument_its_weights_are_no_part_of_the_program():
    vae = small_vae()
    preview = PreviewTokenizer(vae, vae)
    assert len(jax.tree.leaves(preview)) == 2 * len(jax.tree.leaves(vae))
    round_trip = jax.make_jaxpr(lambda tokenizer, x: tokenizer.decode(tokenizer.encode(x)))
    assert sum(np.asarray(c).nbytes for c in round_trip(preview, images(2)).consts) < 500
