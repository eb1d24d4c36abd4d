"""The DiT of Open-Oasis: imported weights against the same network written out in PyTorch, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from rad_jax.model import RAD
from rad_jax.model.names import named_leaves, parameter_shapes
from rad_jax.weights import WeightsError, import_oasis_dit
from rad_jax.weights.oasis_dit import convert_oasis_dit, is_oasis_dit
from tests.weights import oasis_torch

torch = oasis_torch.torch

FREQUENCIES = "blocks.0.t_attn.rotary_emb.freqs"


@pytest.fixture(scope="module")
def weights():
    return oasis_torch.random_weights()


@pytest.fixture(scope="module")
def tensors(weights):
    return {name: weight.numpy() for name, weight in weights.items()}


@pytest.fixture(scope="module")
def imported(tensors, tmp_path_factory):
    path = tmp_path_factory.mktemp("oasis") / "dit.safetensors"
    save_file(tensors, path)
    return import_oasis_dit(path)


@pytest.mark.parametrize(("frames", "grid"), [(2, (18, 32)), (32, (4, 6))])
def test_predictions_are_those_of_the_torch_program(frames, grid, weights, imported):
    """Noisy and clean levels in one window; latents of the published size, and every action alone in a whole window."""
    config, params = imported
    config = dataclasses.replace(config, latent=(*grid, 16))
    rng = np.random.default_rng(frames)
    x = rng.normal(size=(2, frames, 16, *grid)).astype(np.float32)
    levels = rng.integers(0, 1000, (2, frames))
    levels[0, :-1], levels[:, -1] = 14, (999, 0)
    actions = rng.normal(size=(2, frames, 25)).astype(np.float32)
    each = np.eye(26, 25, -1, dtype=np.float32)[:frames]
    actions[0, : len(each)] = each
    with torch.no_grad():
        expected = oasis_torch.predict(weights, *map(torch.from_numpy, (x, levels, actions)), heads=2)
    expected = expected.permute(0, 1, 3, 4, 2).numpy()
    found, memory = jax.jit(RAD(config).apply)(
        {"params": params}, jnp.moveaxis(x, 2, -1), jnp.asarray(levels), jnp.asarray(actions)
    )
    assert expected.std() > 0.5 and jax.tree.leaves(memory) == []
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-5)


def test_the_configuration_is_read_from_the_tensors(imported):
    config, params = imported
    sizes = (config.width, config.depth, config.heads, config.mlp_ratio, config.patch, config.action_dim)
    assert sizes == (128, 2, 2, 4.0, 2, 25)
    assert (config.latent, config.window, config.context_level) == ((18, 32, 16), 32, 14)
    assert (config.memory.kind, config.dtype) == ("none", "float32")
    assert {n: p.shape for n, p in named_leaves(params).items()} == parameter_shapes(config)
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(params))


def test_heads_are_as_wide_as_the_frequencies_say():
    """64 features, unless there are tables of another length; they have to agree."""
    tensors = {n: w.numpy() for n, w in oasis_torch.random_weights(64, 1, head_width=16).items()}
    assert convert_oasis_dit(tensors, "x")[0].heads == 4
    without = {name: t for name, t in tensors.items() if "rotary" not in name}
    assert convert_oasis_dit(without, "x")[0].heads == 1
    mixed = {**tensors, FREQUENCIES: oasis_torch.temporal_frequencies(32).numpy()}
    with pytest.raises(WeightsError, match=r"x: .* heads of \[16, 32\] features"):
        convert_oasis_dit(mixed, "x")


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_other_copies_of_the_frequencies_and_a_prefix_change_nothing(tensors):
    expected = convert_oasis_dit(tensors, "x")
    more = {
        **tensors,
        "temporal_rotary_emb.freqs": tensors[FREQUENCIES],
        "spatial_rotary_emb.freqs": tensors["blocks.0.s_attn.rotary_emb.freqs"],
        "blocks.1.t_attn.rotary_emb.freqs": tensors[FREQUENCIES].astype(np.float16).astype(np.float32),
    }
    prefixes = (
        "diffusion_model.",
        "_orig_mod.",
        "module._orig_mod.",
        "model.",
        "net.",
        "diffusion_model.model.",
    )
    prefixed = [{prefix + name: array for name, array in tensors.items()} for prefix in prefixes]
    prefixed.append({name.replace("_attn", "_attn._orig_mod"): array for name, array in tensors.items()})
    assert all(map(is_oasis_dit, [tensors, *prefixed])) and not is_oasis_dit({"weight": np.ones(1)})
    for variant in (more, *prefixed, {name: t for name, t in tensors.items() if "rotary" not in name}):
        config, named = convert_oasis_dit(variant, "x")
        assert config == expected[0]
        same(named, expected[1])


@pytest.mark.parametrize(
    "other", [lambda f: f * 1.001, lambda f: f[::-1], lambda f: f[None], lambda f: f * 0]
)
def test_frequencies_of_another_model_are_refused(other, tensors):
    with pytest.raises(WeightsError, match=rf"x: {FREQUENCIES} are not the frequencies of this model"):
        convert_oasis_dit({**tensors, FREQUENCIES: other(tensors[FREQUENCIES])}, "x")


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_types_of_floats_become_float32(dtype, tensors, tmp_path):
    path = tmp_path / "dit.safetensors"
    save_file({name: array.astype(dtype) for name, array in tensors.items()}, path)
    _, params = import_oasis_dit(path)
    _, expected = convert_oasis_dit({n: a.astype(dtype).astype(np.float32) for n, a in tensors.items()}, "x")
    same({name: np.asarray(leaf) for name, leaf in named_leaves(params).items()}, expected)


def test_the_published_model_has_300_weights():
    with pytest.raises(WeightsError, match="0 of 300 tensors match; 300 missing"):
        convert_oasis_dit({}, "x")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("external_cond.bias"), r"47 of 48 tensors match; 1 missing \(external_cond.bias\)"),
        (lambda t: t.pop("blocks.1.t_mlp.fc2.weight"), r"1 missing \(blocks.1.t_mlp.fc2.weight\)"),
        (
            lambda t: t.update({f"net.{name}": t.pop(name) for name in list(t)}, ema=np.ones(2, "f4")),
            r"unexpected \(net\.",
        ),
        (lambda t: t.update(ema=np.ones(2, "f4")), r"48 of 48 tensors match; 1 unexpected \(ema\)"),
        (
            lambda t: t.update({"final_layer.linear.bias": np.ones(3, "f4")}),
            r"1 wrong \(final_layer.linear.bias: float32\[3\], expected float32\[64\]\)",
        ),
        (lambda t: t.update({"external_cond.bias": np.ones(128, "i8")}), r"int64\[128\], expected float32\[128\]"),
        (lambda t: t.update({"blocks.7.x": np.ones(1, "f4")}), r"18 missing \(blocks.2.*; 1 unexpected \(blocks.7.x\)"),
        (lambda t: t.update({"x_embedder.proj.weight": np.ones((128, 16), "f4")}), "1 wrong"),
        (lambda t: t.update({"x_embedder.proj.weight": np.ones((0, 16, 2, 2), "f4")}), "model.width=0"),
        (lambda t: t.update({"x_embedder.proj.weight": np.ones((8, 16, 5, 5), "f4")}), "model.patch=5"),
        (lambda t: t.update({"external_cond.bias": np.full(128, 1e300)}), "float32 cannot hold"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(change, words, tensors):
    changed = dict(tensors)
    change(changed)
    with pytest.raises(WeightsError, match=words) as caught:
        convert_oasis_dit(changed, "dit.safetensors")
    assert "\n" not in str(caught.value) and str(caught.value).startswith("dit.safetensors")
