"""Scores that are kept: they are those of the predictions, and they are computed again only when they have to be."""

import json
import shutil

import numpy as np
import pytest

from rad_jax.data import Episodes
from rad_jax.evaluation.scores import jsonable
from rad_jax.evaluation.stored import (
    bounds_key,
    is_current,
    is_intact,
    newest_step,
    read_scores,
    read_shown,
    run_key,
)
from rad_jax.main import main
from rad_jax.media import to_uint8
from rad_jax.rollout.predict import predict, read_clip
from rad_jax.runs.checkpoints import Checkpoints
from rad_jax.runs.restore import load_trained
from rad_jax.runs.training_run import open_training_run
from tests.toy_run import STEPS, read_state


@pytest.fixture(scope="module")
def scored(toy, tmp_path_factory):
    """A run with its scores, and bounds, on one set."""
    workdir = tmp_path_factory.mktemp("scored") / "run"
    shutil.copytree(toy.written("lstm-f"), workdir)
    assert main(toy.arguments(workdir, "--mode", "score")) == 0
    assert main(toy.arguments(workdir.parent / "bounds", "--mode", "bounds")) == 0
    return workdir


def psnr(prediction, truth):
    error = np.square(np.clip(np.float64(prediction), 0, 1) - np.float64(truth) / 255).mean((1, 2, 3))
    return -10 * np.log10(error)


def test_the_scores_are_those_of_the_predictions(scored, toy):
    trained = load_trained(scored)
    episodes = Episodes(toy.mazes, "test")
    clips = [read_clip(episodes, index, trained.config, trained.tokenizer) for index in range(3)]
    predictions = predict(trained.model, trained.params, trained.tokenizer, trained.config, clips, 2)
    found = read_scores(scored, "return")
    assert [video["name"] for video in found.videos] == episodes.ids
    ((name, row),) = found.rows.items()
    assert name == trained.config.name and row["kind"] == "model" and row["note"] == f"{STEPS} steps"
    for clip, prediction, value, score in zip(
        clips, predictions, row["per_video"]["psnr"], found.frames[name], strict=True
    ):
        by_frame = psnr(prediction, clip.frames[clip.context :])
        np.testing.assert_allclose(score.frames["psnr"], by_frame, atol=1e-3)
        assert value == pytest.approx(by_frame.mean(), abs=1e-3)
    assert np.isnan(found.frames[name][0].frames["yaw_error"][0])  # undefined values survive the file
    shown = read_shown(scored, "return")
    assert len(shown) == 2  # evaluate.side_by_side
    for frames, prediction in zip(shown, predictions, strict=False):
        np.testing.assert_array_equal(frames, to_uint8(prediction))
    assert "CPU core" in found.about["hardware"]


def test_bounds_need_no_run(scored, toy):
    found = read_scores(scored.parent / "bounds", "return")
    kinds = {name: row["kind"] for name, row in found.rows.items()}
    assert kinds == {
        "repeat last": "floor",
        "mean context": "floor",
        "tokenizer round trip": "ceiling",
        "perfect map": "oracle",
    }
    whole = Episodes(toy.mazes, "test").read(1)
    context = found.videos[1]["context_frames"]
    last = np.float64(whole["frames"][context - 1 : context]) / 255
    expected = psnr(last, whole["frames"][context:]).mean()
    assert found.rows["repeat last"]["per_video"]["psnr"][1] == pytest.approx(expected, abs=1e-3)


def test_the_key_is_what_the_numbers_depend_on(scored, toy, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(scored, workdir)
    episodes = Episodes(toy.mazes, "test")

    def current(changes=None, episodes=episodes):
        config = toy.config("lstm-f", changes or {})
        return is_current(workdir, "return", run_key(config, workdir, episodes))

    assert current()
    assert current({"evaluate.batch": 1, "evaluate.fps": 9})  # no number depends on them
    assert not current({"sample.steps": 1})
    assert not current({"evaluate.videos": 2})
    assert not current({"evaluate.side_by_side": 1})
    assert not is_current(workdir, "loop", run_key(toy.config(), workdir, episodes))
    moved = tmp_path / "moved"
    shutil.copytree(toy.mazes, moved)
    assert current({"evaluate.path": str(moved)}, Episodes(moved, "test"))
    assert not current(
        episodes=Episodes(moved, "test")
    )  # what frames see is measured on the configuration's own set
    index = json.loads((moved / "index.json").read_text())
    index["splits"]["test"]["episodes"][0]["crc"] += 1
    (moved / "index.json").write_text(json.dumps(index))
    assert not current({"evaluate.path": str(moved)}, Episodes(moved, "test"))
    (workdir / "scores" / "return.npz").rename(tmp_path / "aside")
    assert not current()
    (tmp_path / "aside").rename(workdir / "scores" / "return.npz")
    (workdir / "scores" / "return.json").write_text("{")
    assert not current()


def test_another_checkpoint_is_another_key_and_a_damaged_one_is_not_scored(scored, toy, tmp_path, capsys):
    """The newest one is the one that is asked for; an older one would be another model."""
    workdir = tmp_path / "run"
    shutil.copytree(scored, workdir)
    parts = open_training_run(toy.config())
    state, _ = read_state(workdir, parts)
    tokenizer = {"name": parts.tokenizer.name, "fingerprint": parts.tokenizer.fingerprint}
    with Checkpoints(workdir / "checkpoints", parts.config.checkpoint) as checkpoints:
        checkpoints.save(STEPS + 1, state, {"tokenizer": tokenizer})
    assert newest_step(workdir) == STEPS + 1 and is_intact(workdir, STEPS + 1)
    key = run_key(toy.config(), workdir, Episodes(toy.mazes, "test"))
    assert not is_current(workdir, "return", key)
    files = (workdir / "checkpoints" / str(STEPS + 1) / "state").rglob("*")
    file = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    assert newest_step(workdir) == STEPS + 1 and not is_intact(workdir, STEPS + 1)
    before = (workdir / "scores" / "return.json").read_bytes()
    assert main(toy.arguments(workdir, "--mode", "score")) == 1
    assert f"checkpoint {STEPS + 1} is damaged; train on from step {STEPS}" in capsys.readouterr().err
    assert (workdir / "scores" / "return.json").read_bytes() == before


def test_bounds_depend_on_the_tokenizer_and_not_on_a_run(scored, toy):
    config, episodes = toy.config("df"), Episodes(toy.mazes, "test")
    key = bounds_key(config, open_training_run(config).tokenizer.fingerprint, episodes)
    assert jsonable(key) == key
    assert is_current(scored.parent / "bounds", "return", key)
    assert not is_current(scored.parent / "bounds", "return", bounds_key(config, "0" * 64, episodes))


def test_what_is_scored_is_not_scored_again(scored, toy, capsys):
    path = scored / "scores" / "return.json"
    before = path.stat().st_mtime_ns
    assert main(toy.arguments(scored, "--mode", "score")) == 0
    assert capsys.readouterr().out == "return: scored before\n" and path.stat().st_mtime_ns == before


def test_a_missing_run_is_one_line(toy, tmp_path, capsys):
    assert main(toy.arguments(tmp_path / "none", "--mode", "score")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path / 'none'} holds no run") and list(tmp_path.iterdir()) == []
