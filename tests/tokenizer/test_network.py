"""What all networks have in common: any leading axes, pieces, compiled or not, weights as an argument, several devices."""

import dataclasses
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange
from flax import linen as nn
from safetensors.numpy import save_file

from rad_jax import tokenizer as tokenizers
from rad_jax.data import EpisodeSpec, write_split
from rad_jax.tokenizer import TokenizerError
from rad_jax.tokenizer.network import NetworkTokenizer
from rad_jax.weights.tensors import read_tensors
from tests.tokenizer.random_weights import save_sd_vae, save_taesd


class Small(nn.Module):
    """Patches of 2 x 2 pixels to four features, and back."""

    def setup(self):
        self.down, self.up = nn.Conv(64, (2, 2), (2, 2)), nn.Dense(3 * 4)
        self.mean, self.norm = nn.Dense(4), nn.GroupNorm(4)

    def __call__(self, images):
        return self.decode(self.encode(images))

    def encode(self, images):
        return self.mean(nn.silu(self.norm(self.down(images))))

    def decode(self, latents):
        return rearrange(self.up(nn.silu(latents)), "m r c (y x d) -> m (r y) (c x) d", y=2, x=2)


def small_vae():
    """A network that compiles soon, with random weights."""
    module = Small()
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 4, 4, 3)))["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda s: rng.normal(0, 0.3, s.shape).astype(np.float32), shapes)
    return NetworkTokenizer("small", module, params, 0.5, "00", 2, 4, None, 10 * 8 * 12)


@pytest.fixture(scope="module")
def vae():
    return small_vae()


def images(*leading):
    return np.random.default_rng(1).random((*leading, 8, 12, 3), np.float32)


@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (2, 0)])
def test_shapes_for_any_leading_axes_and_jit(vae, leading):
    x = images(*leading)
    latents = vae.encode(x)
    assert latents.shape == (*leading, 4, 6, 4) == (*leading, *vae.latent_shape(8, 12))
    assert latents.dtype == jnp.float32
    decoded = vae.decode(latents.astype(jnp.bfloat16))
    assert decoded.shape == x.shape and decoded.dtype == jnp.float32
    np.testing.assert_allclose(jax.jit(vae.encode)(x), latents, atol=1e-5)
    if leading == (2, 3):
        np.testing.assert_allclose(latents[1, 2], vae.encode(x[1, 2]), atol=1e-5)
        np.testing.assert_allclose(vae.decode(latents)[1, 2], vae.decode(latents[1, 2]), atol=1e-5)
        np.testing.assert_allclose(jax.vmap(vae.encode)(jnp.asarray(x)), latents, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 30])
def test_pieces_change_nothing(vae, count):
    x = images(5)
    whole = vae.encode(x)
    pieces = dataclasses.replace(vae, pixels_at_once=count * 8 * 12 + 5)
    for version in (x, jnp.asarray(x), x.astype(np.float64), jnp.asarray(x, jnp.bfloat16)):
        tolerance = 1e-5 if version.dtype != jnp.bfloat16 else 0.1
        np.testing.assert_allclose(pieces.encode(version), whole, atol=tolerance)
    np.testing.assert_allclose(jax.jit(pieces.encode)(x), whole, atol=1e-5)
    np.testing.assert_allclose(pieces.decode(np.asarray(whole)), vae.decode(whole), atol=1e-5)


def test_the_pieces_of_long_videos_share_one_program(vae, monkeypatch):
    from rad_jax.tokenizer import network

    sizes, apply = [], network._apply
    monkeypatch.setattr(network, "_apply", lambda *given: sizes.append(given[-1].shape) or apply(*given))
    for count in (11, 23, 37):
        vae.encode(images(count))
    assert set(sizes) == {(10, 8, 12, 3)} and len(sizes) == 2 + 3 + 4
    sizes.clear()
    for count in range(1, 11):
        vae.encode(images(count))
    assert {shape[0] for shape in sizes} == {1, 2, 4, 8, 10}


def constants(function, *arguments):
    """Bytes of the constants of a program."""
    return sum(np.asarray(c).nbytes for c in jax.make_jaxpr(function)(*arguments).consts)


def test_as_an_argument_its_weights_are_no_part_of_the_program(vae):
    x = jnp.asarray(images(2))
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(vae))
    assert held > 5_000
    for tokenizer in (vae, dataclasses.replace(vae, decoder=vae)):
        assert constants(lambda t, x: t.decode(t.encode(x)), tokenizer, x) < 500
    assert constants(lambda x: vae.encode(x), x) > held / 4  # what is to be avoided
    found = jax.jit(lambda t, x: t.encode(x))(vae, x)
    np.testing.assert_allclose(found, vae.encode(x), atol=1e-5)


def test_neither_are_they_of_the_step_of_a_run_whose_data_are_images(tmp_path, toy):
    from rad_jax.runs.training_run import open_training_run
    from rad_jax.training import loop, sharding
    from rad_jax.training.step import compile_step
    from tests.toy_run import abstract_state

    spec = EpisodeSpec(
        "rooms",
        {"frames": ((16, 16, 3), "uint8"), "actions": ((2,), "float32")},
        info={"actions": ["left", "right"]},
    )
    episode = {"frames": np.zeros((24, 16, 16, 3), np.uint8), "actions": np.zeros((24, 2), np.float32)}
    write_split(tmp_path / "rooms", "train", spec, lambda _: [episode], 1, episodes_per_shard=1)
    changes = {
        "data.path": str(tmp_path / "rooms"),
        "tokenizer.name": "sd_vae",
        "tokenizer.path": str(save_sd_vae(tmp_path, channels=(8, 16))),
        "model.patch": 4,
        "model.depth": 1,
    }
    run = open_training_run(toy.config(changes=changes))
    assert run.config.model.latent == (8, 8, 4)
    state, mesh = abstract_state(run), sharding.make_mesh(run.config.mesh)
    step = compile_step(run.model, run.config, mesh)
    batches = loop.open_batches(run, 0)
    batch = {name: array for name, array in next(batches).items() if name != "clip_id"}
    batches.close()
    encoder = run.tokenizer.params["encoder"]
    limit = jax.config.jax_captured_constants_warn_bytes
    jax.config.update(
        "jax_captured_constants_warn_bytes", sum(x.nbytes for x in jax.tree.leaves(encoder)) // 4
    )
    try:
        step.lower(run.tokenizer, state, batch)  # with a warning if it held them, and warnings are errors
        with pytest.raises(UserWarning, match="captured"):
            jax.jit(run.tokenizer.encode).lower(batch["frames"] / np.float32(255))
    finally:
        jax.config.update("jax_captured_constants_warn_bytes", limit)


def test_a_preview_is_the_tokenizer_but_for_what_it_decodes(vae):
    other = dataclasses.replace(vae, name="other", scale=1.0, fingerprint="11")
    preview = dataclasses.replace(vae, decoder=other)
    latents = vae.encode(images(2))
    np.testing.assert_array_equal(preview.encode(images(2)), latents)
    np.testing.assert_array_equal(preview.decode(latents), other.decode(latents))
    assert np.abs(preview.decode(latents) - vae.decode(latents)).max() > 0.1


def test_what_is_known_without_weights_stays_on_the_host(vae):
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(vae.params))
    again = jax.tree.map(lambda leaf: leaf, vae)
    assert (again.name, again.scale, again.fingerprint) == (vae.name, vae.scale, vae.fingerprint)


def test_differentiates(vae):
    gradient = jax.grad(lambda z: vae.decode(z).sum())(jnp.ones((2, 3, 4)))
    assert gradient.shape == (2, 3, 4) and float(jnp.abs(gradient).min()) > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.encode(jnp.zeros((9, 12, 3))), "9 x 12 .* 2 pixels .* small"),
        (lambda t: t.latent_shape(8, 13), "8 x 13"),
        (lambda t: t.encode(jnp.zeros((8, 12, 4))), r"not float32\[8, 12, 4\]"),
        (lambda t: t.encode(jnp.zeros((8, 12, 3), jnp.uint8)), "uint8"),
        (lambda t: t.encode(jnp.zeros((12, 3))), r"not float32\[12, 3\]"),
        (lambda t: t.decode(jnp.zeros((4, 6, 3))), r"4 channels, not shape \[4, 6, 3\]"),
    ],
)
def test_refuses_what_does_not_fit(vae, call, message):
    with pytest.raises(TokenizerError, match=message):
        call(vae)


@pytest.mark.parametrize(
    ("name", "tensor", "shape"),
    [
        ("sd_vae", "encoder.down_blocks.{}.resnets.0.conv1.weight", (32, 1, 1, 1)),
        ("sd_vae", "encoder.down_blocks.0.resnets.{}.conv1.weight", (32, 1, 1, 1)),
        ("oasis_vae", "encoder.{}.norm1.weight", (1,)),
    ],
)
def test_a_file_of_many_names_makes_no_network_of_as_many_parts(tmp_path, monkeypatch, name, tensor, shape):
    tensors = {tensor.format(number): np.ones(shape, np.float32) for number in range(2000)}
    save_file(tensors | {"post_quant_conv.bias": np.ones(4, np.float32)}, tmp_path / "t.safetensors")
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKL"}')

    def stop(*args, module, **more):
        raise LookupError(module)

    monkeypatch.setattr(NetworkTokenizer, "of_weights", stop)
    with pytest.raises(LookupError) as made:
        tokenizers.load(name, tmp_path / "t.safetensors")
    (module,) = made.value.args
    assert max(module.depths) <= 100 if name == "oasis_vae" else len(module.channels) * module.layers <= 64


def test_eight_devices():
    """A batch that is split over devices stays split, with its weights on all of them, and in pieces or not."""
    program = """
        import dataclasses
        import jax, numpy as np
        from jax.sharding import PartitionSpec as P
        from rad_jax.training import sharding
        from rad_jax.config import MeshConfig
        from test_network import images, small_vae

        vae = small_vae()
        mesh = sharding.make_mesh(MeshConfig(data=2, fsdp=4))
        places = sharding.replicated(mesh), sharding.batch_sharding(mesh)
        everywhere = jax.device_put(vae, places[0])
        encode = jax.jit(lambda t, x: t.encode(x), in_shardings=places)
        for leading, at_once in (((8, 5), 1000), ((8, 5), 16), ((16,), 8)):
            x = images(*leading)
            alone = vae.encode(x)
            split = jax.device_put(x, places[1])
            placed = dataclasses.replace(everywhere, pixels_at_once=at_once * 8 * 12)
            compiled = encode.lower(placed, split).compile()
            assert not any(f"all-{kind}" in compiled.as_text() for kind in ("gather", "reduce", "to-all"))
            np.testing.assert_allclose(compiled(placed, split), alone, atol=1e-5)
            pieces = dataclasses.replace(vae, pixels_at_once=at_once * 8 * 12)
            found = pieces.encode(split)
            assert found.sharding.spec[0] == ("data", "fsdp"), found.sharding
            (copy,) = pieces._copies.values()
            assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(copy)} == {8}
            np.testing.assert_allclose(found, alone, atol=1e-5)
        last = jax.device_put(x, jax.devices()[7])
        on_last = vae.encode(last)
        assert on_last.devices() == {jax.devices()[7]} and on_last.committed and not alone.committed
        np.testing.assert_allclose(on_last, alone, atol=1e-5)
        decoded = pieces.decode(found)
        assert decoded.sharding.spec[0] == ("data", "fsdp") and len(decoded.addressable_shards) == 8
        np.testing.assert_allclose(decoded, vae.decode(alone), atol=1e-4)
        print("agreed")
    """
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8",
    }
    environment["PYTHONPATH"] = os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "agreed\n"


@pytest.mark.parametrize("prefix", ["module._orig_mod.", "vae."])
@pytest.mark.parametrize(("name", "save_weights"), [("taesd", save_taesd), ("sd_vae", save_sd_vae)])
def test_a_prefix_of_all_names_changes_nothing(name, save_weights, prefix, tmp_path):
    path = save_weights(tmp_path)
    expected = tokenizers.load(name, path).fingerprint
    save_file({prefix + tensor: array for tensor, array in read_tensors(path).items()}, path)
    assert tokenizers.load(name, path).fingerprint == expected


def test_values_that_float32_cannot_hold_are_refused(tmp_path):
    path = save_taesd(tmp_path)
    tensors = {tensor: array.astype("f8") for tensor, array in read_tensors(path).items()}
    tensors["decoder.layers.0.bias"][0] = 1e300
    save_file(tensors, path)
    with pytest.raises(TokenizerError, match="float64 values that float32 cannot hold"):
        tokenizers.load("taesd", path)
