"""Runs on stored latents of a network: on eight devices as on one, and with videos that TAESD draws."""

import contextlib
import dataclasses
import json

import jax
import numpy as np
import pytest

from data_prep import encode_latents
from rad_jax import rollout
from rad_jax import tokenizer as tokenizers
from rad_jax.comparison import worker
from rad_jax.config import ConfigError
from rad_jax.data import Episodes
from rad_jax.main import main
from rad_jax.media import to_uint8
from rad_jax.rollout import video
from rad_jax.runs import stored_config
from rad_jax.runs.export import export, load_pretrained
from rad_jax.runs.training_run import open_training_run
from rad_jax.tokenizer.taesd import open_preview
from rad_jax.training import samples, sharding
from rad_jax.training.log import Writer
from tests.tokenizer.random_weights import save_sd_vae, save_taesd
from tests.toy_run import SETTINGS, read_state, silence
from tests.videos import read_video

VARIANT, STEPS = "df", 4
CONTEXT, CLIP = int(0.6 * SETTINGS["data.clip"]), SETTINGS["data.clip"]


@pytest.fixture(scope="module")
def settings(toy, tmp_path_factory):
    """Of runs whose data sets hold latents of a small VAE, and nothing else."""
    directory = tmp_path_factory.mktemp("latents")
    vae, taesd = save_sd_vae(directory / "sd_vae"), save_taesd(directory / "taesd")
    with silence():
        for source, name in ((toy.rooms, "rooms"), (toy.mazes, "mazes")):
            paths = "--src", str(source), "--dst", str(directory / name)
            options = "--tokenizer", "sd_vae", "--weights", str(vae), "--no-keep-frames"
            assert encode_latents.main([*paths, *options]) == 0
    return {
        "data.path": str(directory / "rooms"),
        "tokenizer.name": "sd_vae",
        "tokenizer.path": str(vae),
        "tokenizer.preview": str(taesd),
        "model.depth": 1,
        "train.steps": STEPS,
        "train.sample_every": STEPS,
        "evaluate.path": str(directory / "mazes"),
        "evaluate.videos": 1,
        "evaluate.side_by_side": 0,
    }


@pytest.fixture(scope="module")
def command(toy, settings):
    """Makes the command line of a run."""

    def line(workdir, *more, **changes):
        values = {key.replace(".", "__"): value for key, value in settings.items()} | changes
        return toy.arguments(workdir, *more, variant=VARIANT, **values)

    return line


@pytest.fixture(scope="module")
def run(command, tmp_path_factory):
    """Trained and evaluated on one device; a program that held weights as constants would be a warning, here an error."""
    workdir = tmp_path_factory.mktemp("one")
    limit = jax.config.jax_captured_constants_warn_bytes
    jax.config.update("jax_captured_constants_warn_bytes", 20_000)
    try:
        with silence():
            assert main(command(workdir)) == 0
            absent = workdir / "absent.safetensors"  # no evaluation opens a preview
            assert main(command(workdir, "--mode", "evaluate", tokenizer__preview=absent)) == 0
    finally:
        jax.config.update("jax_captured_constants_warn_bytes", limit)
    return workdir


@pytest.fixture
def generated(monkeypatch):
    """The latents that are generated from now on."""
    kept, generate = [], rollout.generate

    def keep(*arguments):
        state, latents = generate(*arguments)
        kept.append(latents)
        return state, latents

    monkeypatch.setattr(rollout, "generate", keep)
    return kept


def test_samples_are_what_taesd_makes_of_the_latents(toy, settings, run, generated, monkeypatch, tmp_path):
    config = toy.config(VARIANT, settings)
    parts = open_training_run(config)
    drawn = parts._replace(tokenizer=open_preview(config.tokenizer, parts.tokenizer))
    shown, place = [], sharding.replicated(sharding.make_mesh(config.mesh))  # where a run has them
    params = jax.device_put(read_state(run, parts)[0].ema, place)
    with contextlib.closing(Writer(tmp_path)) as writer:
        shown.append(samples.sample_frames(drawn, params))
        writer.video(STEPS, "samples", shown[0], config.evaluate.fps)
    taesd = tokenizers.load("taesd", settings["tokenizer.preview"])
    columns = np.split(shown[0], samples.VIDEOS, axis=2)
    for index, (column, predicted) in enumerate(zip(columns, generated[0], strict=True)):
        top, bottom = np.split(column, 2, axis=1)
        stored = parts.episodes.read(index, 0, CLIP, ["latents"])["latents"]
        truth = to_uint8(np.asarray(taesd.decode(stored)))
        np.testing.assert_array_equal(top, truth)
        np.testing.assert_array_equal(bottom[:CONTEXT], truth[:CONTEXT])
        np.testing.assert_array_equal(bottom[CONTEXT:], to_uint8(np.asarray(taesd.decode(predicted))))
    (own,), (again,) = (list((one / "samples").iterdir()) for one in (run, tmp_path))
    assert np.abs(read_video(own).astype(int) - read_video(again)).max() <= 1


def test_a_walk_is_what_taesd_makes_of_the_latents(command, settings, run, generated, monkeypatch):
    shown = {}
    side_by_side = video.media.side_by_side
    monkeypatch.setattr(
        video.media,
        "side_by_side",
        lambda columns, context: shown.update(columns) or side_by_side(columns, context),
    )
    assert main(command(run, "--mode", "rollout")) == 0
    taesd = tokenizers.load("taesd", settings["tokenizer.preview"])
    episodes = Episodes(settings["evaluate.path"], "test")
    context = int(episodes.static(0)["n_context"])
    vae = tokenizers.load("sd_vae", settings["tokenizer.path"])
    truth, other = (to_uint8(np.asarray(one.decode(episodes.read(0)["latents"]))) for one in (taesd, vae))
    assert np.abs(truth.astype(int) - other).mean() > 25
    np.testing.assert_array_equal(shown["truth"], truth)
    np.testing.assert_array_equal(shown["prediction"][:context], truth[:context])
    predicted = to_uint8(np.asarray(taesd.decode(generated[0][0])))
    np.testing.assert_array_equal(shown["prediction"][context:], predicted)


def test_no_comparison_opens_a_preview(command, run, tmp_path):
    absent = tmp_path / "absent.safetensors"
    for job in ("run", "bounds"):
        options = {"tokenizer__preview": absent, "evaluate__figure3": False}
        assert worker.main([job, *command(run, **options)]) == 0


def test_it_is_no_part_of_what_a_run_is(toy, settings, run):
    config = open_training_run(toy.config(VARIANT, settings)).config
    assert json.loads((run / "config.json").read_text())["tokenizer"]["preview"] == config.tokenizer.preview
    without = dataclasses.replace(config.tokenizer, preview="")
    stored_config.check_same_run(dataclasses.replace(config, tokenizer=without), run)
    with silence():
        assert load_pretrained(export(run), settings["tokenizer.path"]).config.tokenizer.preview == ""


@pytest.mark.parametrize("name", ["patch_pca", "oasis_vae"])
def test_other_tokenizers_have_none(name, toy, settings, tmp_path, capsys):
    changes = {"tokenizer__name": name, "tokenizer__preview": "taesd.safetensors"}
    assert main(toy.arguments(tmp_path / "run", **changes)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: tokenizer.preview=taesd.safetensors: ")
    assert "sd_vae or taesd" in line and f"those of {name} (tokenizer.name)" in line


def test_files_that_do_not_fit_are_one_line_and_nothing_is_written(
    toy, command, settings, run, tmp_path, capsys
):
    (tmp_path / "text.safetensors").write_bytes(b"hello")
    (tmp_path / "taesd.pth").write_bytes(b"\x80\x02.")
    files = {
        tmp_path / "absent.safetensors": "there is no file",
        tmp_path / "text.safetensors": "not an intact safetensors file",
        tmp_path / "taesd.pth": "is not a .safetensors file",
        settings["tokenizer.path"]: "against TAESD: 0 of",
        save_taesd(
            tmp_path / "sd3", latent=16
        ): "latents of 16 channels, 8 pixels a side; those of sd_vae have 4 and 8",
    }
    config, vae = (
        toy.config(VARIANT, settings).tokenizer,
        tokenizers.load("sd_vae", settings["tokenizer.path"]),
    )
    for path, words in files.items():
        with pytest.raises(ConfigError) as info:
            open_preview(dataclasses.replace(config, preview=str(path)), vae)
        (line,) = str(info.value).splitlines()
        assert line.startswith(f"tokenizer.preview={path}: ") and words in line
    other_cells = tokenizers.load("sd_vae", save_sd_vae(tmp_path, channels=(8, 8, 8)))
    with pytest.raises(ConfigError, match="4 channels, 8 pixels a side; those of sd_vae have 4 and 4"):
        open_preview(config, other_cells)
    assert open_preview(dataclasses.replace(config, preview=""), vae) is vae
    for workdir, mode in ((tmp_path / "run", "train"), (run, "rollout")):
        assert main(command(workdir, "--mode", mode, tokenizer__preview=path)) == 2
        assert capsys.readouterr().err == f"error: {line}\n"
    assert not (tmp_path / "run").exists()
