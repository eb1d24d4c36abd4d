"""Runs on data sets that hold latents: the numbers of the frames they were made from, up to float16."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_prep import encode_latents
from rad_jax import tokenizer as tokenizers
from rad_jax.comparison import worker
from rad_jax.config import ConfigError
from rad_jax.data import DataError, Episodes, record_tokenizer
from rad_jax.data.index import write_index
from rad_jax.data.reader import frame_size
from rad_jax.evaluation.stored import read_figure3, read_scores
from rad_jax.main import main
from rad_jax.media import to_uint8
from rad_jax.rollout.predict import predict, read_clip, truth_of
from rad_jax.runs.restore import load_trained
from rad_jax.runs.training_run import open_training_run
from rad_jax.tokenizer import patch_pca
from rad_jax.training.loop import open_batches
from rad_jax.training.step import latents_of
from tests.toy_run import SAVED, SETTINGS, read_metrics, silence
from tests.videos import read_video

MODEL = "lstm-f"
EMPTIED = f"{MODEL}, memory emptied"
BOUNDS = {"repeat last", "mean context", "nearest earlier view", "perfect map"}  # of latents alone


@pytest.fixture(scope="module")
def encoded(toy, tmp_path_factory):
    """The rooms as latents, and the mazes as latents with and without their frames."""
    directory = tmp_path_factory.mktemp("encoded")
    named = ["--tokenizer", "patch_pca", "--weights", str(toy.rooms / "tokenizer.npz")]
    sets = {
        "rooms": (toy.rooms,),
        "kept": (toy.mazes, *named),
        "alone": (toy.mazes, *named, "--no-keep-frames"),
    }
    with silence():
        for name, (src, *more) in sets.items():
            assert encode_latents.main(["--src", str(src), "--dst", str(directory / name), *more]) == 0
    return directory


def test_a_batch_of_latents_is_a_batch_of_frames_encoded(encoded, toy):
    parts = {
        path: open_training_run(toy.config(changes={"data.path": str(path)}))
        for path in (toy.rooms, encoded / "rooms")
    }
    batches = []
    for one in parts.values():
        ahead = open_batches(one, 3)
        batches.append(next(ahead))
        ahead.close()
    frames, latents = batches
    np.testing.assert_array_equal(frames["clip_id"], latents["clip_id"])
    np.testing.assert_array_equal(frames["actions"], latents["actions"])
    tokenizer = parts[toy.rooms].tokenizer
    expected = latents_of({"frames": jnp.asarray(frames["frames"])}, tokenizer, jnp.float32)
    found = latents_of({"latents": jnp.asarray(latents["latents"])}, None, jnp.float32)
    np.testing.assert_allclose(found, expected, rtol=2**-10, atol=1e-5)
    configs = [one.config for one in parts.values()]
    assert configs[0].model == configs[1].model


def test_training_on_latents_is_training_on_frames_up_to_float16(encoded, toy, tmp_path):
    changes = {"data__path": encoded / "rooms", "train__sample_every": SAVED, "train__steps": SAVED}
    assert main(toy.arguments(tmp_path, **changes)) == 0
    losses = [[line["loss"] for line in read_metrics(one)[: SAVED // 2]] for one in (toy.trained, tmp_path)]
    assert len(losses[0]) == len(set(losses[0])) == SAVED // 2
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-3)
    sample = read_video(tmp_path / "samples" / f"{SAVED:08d}.mp4")
    assert len(sample) == SETTINGS["data.clip"] and np.std(sample) > 1


def metrics_of(toy, workdir, path):
    options = {"evaluate__path": path, "evaluate__side_by_side": 0}  # encoding videos takes its time
    assert main(toy.arguments(workdir, "--mode", "evaluate", **options)) == 0
    return json.loads((workdir / "evaluation" / "metrics.json").read_text())


@pytest.fixture(scope="module")
def workdir(toy, tmp_path_factory):
    """A copy of a run with random parameters, to evaluate as one likes."""
    directory = tmp_path_factory.mktemp("run") / "run"
    shutil.copytree(toy.written(MODEL), directory)
    return directory


def test_evaluation_on_latents_with_frames_is_that_on_frames(encoded, workdir, toy):
    expected = metrics_of(toy, workdir, toy.mazes)
    found = metrics_of(toy, workdir, encoded / "kept")
    assert found["rows"].keys() == expected["rows"].keys()
    assert found["metrics_spec"] == expected["metrics_spec"] and found["metrics_spec"]["gt"] == "raw"
    for name, row in expected["rows"].items():
        for metric, value in row["per_video"].items():
            if metric in ("psnr", "ssim"):
                np.testing.assert_allclose(
                    found["rows"][name]["per_video"][metric], value, atol=0.02, err_msg=name
                )
            elif name not in (MODEL, EMPTIED):
                assert found["rows"][name]["per_video"][metric] == value


def test_evaluation_on_latents_alone_says_that_its_truth_is_decoded(encoded, workdir, toy, capsys):
    found = metrics_of(toy, workdir, encoded / "alone")
    assert found["metrics_spec"]["gt"] == "tokenizer-decoded"
    assert set(found["rows"]) == {MODEL, EMPTIED, *BOUNDS}
    assert "the truth is what the tokenizer makes of them" in capsys.readouterr().out
    assert "ground truth: tokenizer-decoded frames" in (workdir / "evaluation" / "report.html").read_text()
    trained = load_trained(workdir)
    raw, stored = Episodes(toy.mazes, "test"), Episodes(encoded / "alone", "test")
    clips = [read_clip(stored, index, trained.config, trained.tokenizer) for index in range(3)]
    predictions = predict(trained, trained.params, clips, 2)
    for index, (clip, prediction) in enumerate(zip(clips, predictions, strict=True)):
        latents = np.float32(stored.read(index)["latents"])
        decoded = np.clip(np.asarray(trained.tokenizer.decode(latents)), 0, 1)
        np.testing.assert_array_equal(clip.frames, np.uint8(np.round(decoded * 255)))
        assert np.abs(np.float64(clip.frames) - raw.read(index)["frames"]).mean() > 1  # not the raw frames
        error = np.square(np.clip(prediction, 0, 1) - clip.frames[clip.context :] / 255.0).mean((1, 2, 3))
        psnr = (-10 * np.log10(error)).mean()
        assert found["rows"][MODEL]["per_video"]["psnr"][index] == pytest.approx(psnr, abs=1e-3)


def test_a_comparison_scores_latents_and_sees_the_same_frames(encoded, workdir, toy):
    settings = {name: toy.arguments(workdir, evaluate__path=encoded / name) for name in ("kept", "alone")}
    settings["raw"] = toy.arguments(workdir)
    seen, scores = {}, {}
    for name, command in settings.items():
        assert worker.main(["run", *command]) == 0
        seen[name], scores[name] = read_figure3(workdir, "return"), read_scores(workdir, "return")
    spec = {name: one.metrics_spec["gt"] for name, one in scores.items()}
    assert spec == {"raw": "raw", "kept": "raw", "alone": "tokenizer-decoded"}
    for name in ("kept", "alone"):
        scale = seen["raw"].influence.max()
        np.testing.assert_allclose(seen[name].influence, seen["raw"].influence, rtol=0.01, atol=1e-3 * scale)
    bounds = workdir.parent / "bounds"
    assert worker.main(["bounds", *toy.arguments(bounds, evaluate__path=encoded / "alone")]) == 0
    assert set(read_scores(bounds, "return").rows) == BOUNDS


def test_a_walk_begins_with_decoded_frames(encoded, workdir, toy):
    command = toy.arguments(
        workdir, "--mode", "rollout", "--actions", "left*3", evaluate__path=encoded / "alone"
    )
    assert main(command) == 0
    trained = load_trained(workdir)
    clip = read_clip(Episodes(encoded / "alone", "test"), 0, trained.config, trained.tokenizer)
    video = read_video(next((workdir / "rollout").glob("*-leftx3-*.mp4")))
    assert len(video) == clip.context + 3
    assert to_uint8(clip.frames).shape == (len(clip.actions), 16, 16, 3)


def test_the_size_of_frames_is_known_without_them(encoded, toy):
    for directory in (toy.mazes, encoded / "kept", encoded / "alone"):
        assert frame_size(Episodes(directory, "test")) == (16, 16)
    assert [truth_of(Episodes(encoded / name, "test")) for name in ("kept", "alone")] == [
        "raw",
        "tokenizer-decoded",
    ]
    nameless = Episodes(encoded / "alone", "test")
    nameless.spec.info.pop("encoded")
    with pytest.raises(DataError, match=r"info\['encoded'\]\['frame_size'\] does not say"):
        frame_size(nameless)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A tokenizer of the same shape that is not the one of the data."""
    path = tmp_path_factory.mktemp("other") / "other.npz"
    patch_pca.fit(np.random.default_rng(0).integers(0, 256, (50, 16, 16, 3), np.uint8), 8, 8).save(path)
    return path


def test_training_refuses_latents_of_another_tokenizer(encoded, toy, tmp_path):
    shutil.copytree(encoded / "rooms", tmp_path / "rooms")
    record_tokenizer(tmp_path / "rooms", "sd_vae", "ab" * 32, "vae.safetensors")
    with pytest.raises(ConfigError, match=r"tokenizer\.name=patch_pca: .* belongs to sd_vae;") as info:
        open_training_run(toy.config(changes={"data.path": str(tmp_path / "rooms")}))
    assert "\n" not in str(info.value)


def test_latents_of_nobody_knows_which_tokenizer_are_refused(encoded, other, toy, tmp_path):
    shutil.copytree(encoded / "rooms", tmp_path / "rooms")
    index = json.loads((tmp_path / "rooms" / "index.json").read_text())
    write_index(tmp_path / "rooms", index | {"tokenizer": None})
    changes = {"data.path": str(tmp_path / "rooms"), "tokenizer.path": str(other)}
    with pytest.raises(DataError, match="has latents of an unknown tokenizer, the model works on") as info:
        open_training_run(toy.config(changes=changes))
    assert "\n" not in str(info.value)


def test_evaluation_refuses_latents_of_another_tokenizer(encoded, other, workdir, toy, tmp_path, capsys):
    shutil.copytree(encoded / "kept", tmp_path / "mazes")
    record_tokenizer(tmp_path / "mazes", "patch_pca", tokenizers.load("patch_pca", other).fingerprint, other)
    for mode in ("evaluate", "rollout"):
        capsys.readouterr()
        assert main(toy.arguments(workdir, "--mode", mode, evaluate__path=tmp_path / "mazes")) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert (
            line.startswith("error: ")
            and "has latents of patch_pca, the model works on those of another patch_pca" in line
            and "encode the episodes" in line
        )


def test_stored_latents_are_what_a_clip_gives(encoded, toy):
    trained = load_trained(toy.written(MODEL))
    raw, kept = (
        read_clip(Episodes(path, "test"), 1, trained.config, trained.tokenizer)
        for path in (toy.mazes, encoded / "kept")
    )
    assert raw.latents is None and kept.latents.dtype == np.float16
    np.testing.assert_array_equal(raw.frames, kept.frames)
    with jax.default_matmul_precision("highest"):
        expected = raw.encoded(trained.tokenizer)
    np.testing.assert_allclose(kept.encoded(trained.tokenizer), expected, rtol=2**-10, atol=1e-5)
