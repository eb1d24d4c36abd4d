"""Patch PCA against plain float64 linear algebra; the file it is stored in; the residual decoder."""

import dataclasses
import pickle
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_prep import fit_tokenizer
from rad_jax import tokenizer
from rad_jax.arrays import fingerprint
from rad_jax.data import Episodes, EpisodeSpec, write_split
from rad_jax.tokenizer import TokenizerError, patch_pca
from tests.hostile import Attack


def pictures(count=40, size=16, seed=0):
    """Smooth coloured pictures with a little texture, uint8 (count, size, size, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    phase, freq = rng.uniform(0, 6, (2, count, 3, 1, 1)), rng.uniform(0.3, 1.2, (count, 3, 1, 1))
    waves = 0.5 + 0.35 * np.sin(freq * x * 6 + phase[0]) * np.cos(freq * y * 4 + phase[1])
    edges = 0.15 * np.sign(np.sin(freq * (x + y) * 9 + phase[0]))
    return (255 * np.clip(np.moveaxis(waves + edges, 1, -1), 0, 1)).astype(np.uint8)


def images_of(frames):
    return jnp.asarray(frames, jnp.float32) / 255


def literal_patches(frames, p):
    """(m, rows, cols, p * p * 3) by plain loops: row in the patch, column in the patch, colour."""
    m, height, width, _ = frames.shape
    out = np.zeros((m, height // p, width // p, p * p * 3))
    for row in range(height // p):
        for col in range(width // p):
            out[:, row, col] = frames[:, row * p : row * p + p, col * p : col * p + p].reshape(m, -1) / 255.0
    return out


@pytest.fixture(scope="module")
def corrected():
    """A tokenizer with a trained residual decoder."""
    frames = pictures(200, 32)
    return patch_pca.fit(frames, 8, 6).with_decoder(frames, 60, 0)


def test_is_the_pca_of_the_patches():
    frames, p, k = pictures(), 4, 7
    pca = patch_pca.fit(frames, p, k)
    patches = literal_patches(frames, p).reshape(-1, 48)
    centred = patches - patches.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:k].T
    directions *= np.sign(directions[np.abs(directions).argmax(0), np.arange(k)])
    latents = centred @ directions
    scale = 1 / np.sqrt((latents**2).mean())
    np.testing.assert_allclose(pca.mean, patches.mean(0), atol=1e-6)
    np.testing.assert_allclose(pca.basis, directions, atol=2e-5)
    np.testing.assert_allclose(pca.scale, scale, rtol=1e-6)
    np.testing.assert_allclose(pca.encode(images_of(frames)).reshape(-1, k), latents * scale, atol=2e-5)
    best = (latents @ directions.T + patches.mean(0)).reshape(len(frames), 4, 4, 48)
    decoded = 255 * np.asarray(pca.decode(pca.encode(images_of(frames))))
    np.testing.assert_allclose(literal_patches(decoded, p), best, atol=1e-5)


def test_one_scale_unit_variance_and_errors_of_latents_are_errors_of_pixels():
    frames = pictures()
    pca = patch_pca.fit(frames, 8, 12)
    latents = pca.encode(images_of(frames))
    assert float(jnp.mean(latents**2)) == pytest.approx(1.0, abs=1e-4)
    assert float(jnp.std(latents[..., 0])) > 2 * float(jnp.std(latents[..., -1]))  # not whitened
    np.testing.assert_allclose(pca.basis.T @ pca.basis, np.eye(12), atol=1e-6)
    assert float(pca.decode(30 * latents).max()) > 1  # not clipped
    noise = 0.1 * jax.random.normal(jax.random.key(0), latents.shape)
    pixels = jnp.sum((pca.decode(latents + noise) - pca.decode(latents)) ** 2)
    np.testing.assert_allclose(pixels, jnp.sum(noise**2) / pca.scale**2, rtol=1e-4)


def test_all_channels_lose_nothing():
    frames = pictures(60, 32)
    pca = patch_pca.fit(frames, 8, 192)
    np.testing.assert_allclose(pca.decode(pca.encode(images_of(frames))), images_of(frames), atol=5e-6)


@pytest.mark.parametrize("leading", [(), (2, 1, 3), (0,)])
def test_shapes_for_any_leading_axes_and_jit(corrected, leading):
    pca = corrected
    images = jax.random.uniform(jax.random.key(0), (*leading, 16, 24, 3))
    latents = jax.jit(pca.encode)(images)
    assert latents.shape == (*leading, *pca.latent_shape(16, 24)) == (*leading, 2, 3, 6)
    assert latents.dtype == jnp.float32
    decoded = jax.jit(pca.decode)(latents.astype(jnp.bfloat16))
    assert decoded.shape == images.shape and decoded.dtype == jnp.float32
    if leading == (2, 1, 3):
        np.testing.assert_allclose(pca.decode(latents)[1, 0, 2], pca.decode(latents[1, 0, 2]), atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.encode(jnp.zeros((20, 16, 3))), "20 x 16 .* 8 pixels"),
        (lambda t: patch_pca.fit(pictures(), 8, 193), "192 channels, .*193"),
        (lambda t: patch_pca.fit(pictures(), 5, 4), "patches of 5"),
        (lambda t: patch_pca.fit(pictures() / 255, 8, 4), "uint8"),
        (lambda t: patch_pca.fit(pictures()[:0], 8, 4), "uint8 frames"),
    ],
)
def test_refuses_what_does_not_fit(call, message):
    with pytest.raises(TokenizerError, match=message):
        call(patch_pca.fit(pictures(), 8, 5))


@pytest.mark.parametrize("with_decoder", [False, True])
def test_saved_and_loaded_is_the_same(tmp_path, corrected, with_decoder):
    plain = dataclasses.replace(corrected, decoder=None)
    pca = corrected if with_decoder else plain
    assert plain.fingerprint != corrected.fingerprint
    latents = pca.encode(images_of(pictures()))
    np.testing.assert_array_equal(latents, plain.encode(images_of(pictures())))
    pca.save(tmp_path / "tokenizer.npz")
    again = tokenizer.load("patch_pca", tmp_path / "tokenizer.npz", fingerprint=pca.fingerprint)
    assert (again.name, again.scale, again.fingerprint) == ("patch_pca", pca.scale, pca.fingerprint)
    # What was compiled for one serves the other.
    assert jax.tree.structure(again) == jax.tree.structure(pca) and hash(again) == hash(pca)
    assert jax.tree.structure(plain) != jax.tree.structure(corrected)
    np.testing.assert_array_equal(again.encode(images_of(pictures())), latents)
    np.testing.assert_array_equal(again.decode(latents), pca.decode(latents))
    assert [p.name for p in tmp_path.iterdir()] == ["tokenizer.npz"]


def test_loading_by_name(tmp_path):
    patch_pca.fit(pictures(), 8, 5).save(tmp_path / "t.npz")
    with pytest.raises(TokenizerError, match=r"'pach_pca'.* patch_pca"):
        tokenizer.load("pach_pca", tmp_path / "t.npz")
    with pytest.raises(TokenizerError, match=r"tokenizer.path"):
        tokenizer.load("patch_pca")
    with pytest.raises(TokenizerError, match=r"absent\.npz; .*python -m data_prep.fit_tokenizer"):
        tokenizer.load("patch_pca", tmp_path / "absent.npz")
    with pytest.raises(TokenizerError, match=r"t.npz is another tokenizer"):
        tokenizer.load("patch_pca", tmp_path / "t.npz", fingerprint="0" * 64)


def rewrite(path, **changes):
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{**arrays, **changes})


def flipped(path):
    # npz stores without compression: a flipped byte of the basis is caught by the zip's own checksum.
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


@pytest.mark.parametrize(
    "damage",
    [
        flipped,
        lambda path: path.write_bytes(path.read_bytes()[:-300]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(pickle.dumps({"mean": 1})),
        lambda path: rewrite(path, mean=np.zeros(192, np.float32)),
        lambda path: rewrite(path, scale=np.float64(2.0)),
        lambda path: rewrite(path, extra=np.zeros(1)),
        lambda path: rewrite(path, fingerprint=np.array("f" * 64)),
        lambda path: np.savez(path, mean=np.zeros(192)),
        lambda path: np.savez(path, patch=np.array(8), fingerprint=fingerprint({"patch": np.array(8)})),
    ],
)
def test_a_damaged_or_altered_file_is_refused(tmp_path, damage):
    path = tmp_path / "tokenizer.npz"
    patch_pca.fit(pictures(), 8, 5).save(path)
    damage(path)
    with pytest.raises(TokenizerError) as info:
        patch_pca.load(path)
    assert str(path) in str(info.value) and "\n" not in str(info.value)


def claimed(path):
    with zipfile.ZipFile(path, "w") as archive, archive.open("mean.npy", "w") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (2**40,)}
        )


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (claimed, r"'mean' of 4398046511104 bytes is too large"),
        (
            lambda path: np.savez_compressed(path, mean=np.zeros(10**6), fingerprint=""),
            "arrays of .* bytes in a",
        ),
        (lambda path: np.savez(path, **{str(n): np.zeros(1) for n in range(60)}), "60 arrays"),
    ],
)
def test_a_small_file_of_large_arrays_is_refused_before_they_are_made(tmp_path, write, words):
    write(tmp_path / "t.npz")
    with pytest.raises(TokenizerError, match=rf"t\.npz .*{words}"):
        patch_pca.load(tmp_path / "t.npz")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("scale", lambda array: np.array(np.inf)),
        ("patch", lambda array: np.array([8])),
        ("basis", lambda array: array * np.float32(np.nan)),
        ("basis", lambda array: array.astype("f8")),
        ("decoder/Conv_0/kernel", lambda array: array[..., :-1]),
        ("decoder/Conv_0/bias", lambda array: None),
    ],
)
def test_a_file_with_a_right_fingerprint_of_wrong_arrays_is_refused(tmp_path, corrected, name, change):
    arrays = corrected._arrays()
    arrays[name] = change(arrays[name])
    arrays = {name: array for name, array in arrays.items() if array is not None}
    np.savez(tmp_path / "t.npz", fingerprint=np.array(fingerprint(arrays)), **arrays)
    with pytest.raises(TokenizerError, match=r"t\.npz cannot be used") as caught:
        patch_pca.load(tmp_path / "t.npz")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [MemoryError, RecursionError])
def test_a_file_that_is_too_much_is_one_line(tmp_path, error, monkeypatch):
    def fail(*args, **options):
        raise error

    patch_pca.fit(pictures(), 8, 5).save(tmp_path / "t.npz")
    monkeypatch.setattr(np, "empty", fail)
    with pytest.raises(TokenizerError, match=error.__name__):
        patch_pca.load(tmp_path / "t.npz")


def test_a_pickle_in_the_file_is_not_run(tmp_path):
    path = tmp_path / "tokenizer.npz"
    patch_pca.fit(pictures(), 8, 5).save(path)
    rewrite(path, mean=np.array([Attack(tmp_path / "sprung")], dtype=object))
    with pytest.raises(TokenizerError, match="pickled objects"):
        patch_pca.load(path)
    assert not (tmp_path / "sprung").exists()


def test_the_decoder_improves_pictures_it_has_not_seen(corrected):
    test = images_of(pictures(24, 32, seed=1))
    latents = corrected.encode(test)
    latents += 0.05 * jax.random.normal(jax.random.key(1), latents.shape)
    plain = dataclasses.replace(corrected, decoder=None)
    before, after = (float(jnp.mean((t.decode(latents) - test) ** 2)) for t in (plain, corrected))
    assert 10 * np.log10(before / after) > 1.0


def write(directory, *episodes):
    """A data set of one split; two episodes a shard."""
    spec = EpisodeSpec(
        "pictures", {"frames": (episodes[0].shape[1:], "uint8")}, {}, {"source": "test"}, chunk=3
    )

    def make(indices):
        return ({"frames": episodes[index]} for index in indices)

    write_split(directory, "train", spec, make, len(episodes), episodes_per_shard=2)
    return Episodes(directory, "train")


def test_the_command_writes_and_records(tmp_path, capsys):
    write(tmp_path, *(pictures(7, seed=seed) for seed in range(9)))
    assert fit_tokenizer.main(["--data", str(tmp_path), "--channels", "6", "--decoder-steps", "2"]) == 0
    recorded = Episodes(tmp_path, "train").tokenizer
    loaded = tokenizer.load(recorded["name"], tmp_path / recorded["path"], recorded["fingerprint"])
    assert loaded.latent_shape(16, 16) == (2, 2, 6) and loaded.decoder is not None
    printed = capsys.readouterr().out
    assert "held-out frames: " in printed and "dB" in printed and loaded.fingerprint[:12] in printed


def test_the_command_refuses_in_one_line_and_leaves_what_was_there(tmp_path, capsys):
    assert fit_tokenizer.main(["--data", str(tmp_path / "none")]) == 2
    write(tmp_path, *(pictures(7, seed=seed) for seed in range(9)))
    assert fit_tokenizer.main(["--data", str(tmp_path)]) == 0
    before = (tmp_path / "tokenizer.npz").read_bytes()
    for wrong in (["--patch", "5"], ["--channels", "500"], ["--split", "test"]):
        capsys.readouterr()
        assert fit_tokenizer.main(["--data", str(tmp_path), *wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit):
        fit_tokenizer.main(["--data", str(tmp_path), "--frames", "0"])
    assert (tmp_path / "tokenizer.npz").read_bytes() == before


def test_frames_are_drawn_evenly_and_without_repetition(tmp_path):
    numbers = np.arange(15, dtype=np.uint8)[:, None, None, None].repeat(3, -1)
    episodes = write(tmp_path, *np.split(numbers, [5, 6]))

    def drawn(indices, count, seed=0):
        return fit_tokenizer.random_frames(episodes, indices, count, seed)[:, 0, 0, 0]

    assert sorted(drawn(range(3), 100)) == list(range(15))
    assert sorted(drawn(range(1, 3), 100)) == list(range(5, 15))
    counts = np.zeros(15)
    for seed in range(200):
        counts[drawn(range(3), 3, seed)] += 1
    assert counts.sum() == 600 and np.abs(counts - 40).max() < 25


def test_the_reported_reconstruction_is_the_psnr_of_the_round_trip():
    frames = pictures()
    pca = patch_pca.fit(frames, 8, 5)
    images = np.asarray(frames, np.float64) / 255
    error = (np.clip(np.asarray(pca.decode(pca.encode(images_of(frames)))), 0, 1) - images) ** 2
    expected = np.mean([-10 * np.log10(e.mean()) for e in error])
    assert fit_tokenizer.reconstruction_psnr(pca, frames) == pytest.approx(expected, abs=1e-4)
