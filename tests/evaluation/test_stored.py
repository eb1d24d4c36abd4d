"""Cached scores are those of the predictions, and are computed again only when their key has changed."""

import json
import shutil
import weakref

import numpy as np
import pytest

from rad_jax.comparison import worker
from rad_jax.data import Episodes
from rad_jax.data.index import write_index
from rad_jax.evaluation import bounds, scores
from rad_jax.evaluation.stored import (
    bounds_keys,
    is_current,
    is_intact,
    newest_step,
    read_scores,
    read_shown,
    run_keys,
)
from rad_jax.files.json_files import sealed
from rad_jax.media import to_uint8
from rad_jax.reports.statistics import jsonable
from rad_jax.rollout.costs import state_bytes
from rad_jax.rollout.predict import predict, read_clip
from rad_jax.runs.checkpoints import Checkpoints
from rad_jax.runs.restore import load_trained
from rad_jax.runs.training_run import open_training_run
from tests.toy_run import STEPS, read_state

UNSCORED = shutil.ignore_patterns("scores", "evaluation")


@pytest.fixture(scope="module")
def scored(toy, tmp_path_factory):
    """A run with its scores, and bounds, on one set."""
    workdir = tmp_path_factory.mktemp("scored") / "run"
    shutil.copytree(toy.written("lstm-f"), workdir, ignore=UNSCORED)
    assert worker.main(["run", *toy.arguments(workdir)]) == 0
    assert worker.main(["bounds", *toy.arguments(workdir.parent / "bounds")]) == 0
    return workdir


def test_the_scores_are_those_of_the_predictions(scored, toy):
    trained = load_trained(scored)
    episodes = Episodes(toy.mazes, "test")
    clips = [read_clip(episodes, index, trained.config, trained.tokenizer) for index in range(3)]
    predictions = predict(trained, trained.params, clips, 2)
    found = read_scores(scored, "return")
    assert [video["name"] for video in found.videos] == episodes.ids
    name, emptied = found.rows
    row = found.rows[name]
    assert name == trained.config.name and row["kind"] == "model" and row["note"] == f"{STEPS} steps"
    assert emptied == "memory emptied" and found.rows[emptied]["kind"] == "emptied"
    assert found.rows[emptied]["per_video"]["psnr"] != row["per_video"]["psnr"]
    assert found.about[name]["state_bytes"] == state_bytes(trained.config.model)
    assert row["per_frame"]["yaw_error"]["count"][:2] == [0, 3]  # undefined values survive the file
    shown = read_shown(scored, "return")
    assert len(shown) == 2  # evaluate.side_by_side
    for frames, prediction in zip(shown, predictions, strict=False):
        np.testing.assert_array_equal(frames, to_uint8(prediction))
    assert "CPU core" in found.about[name]["hardware"]


def test_the_key_is_what_the_numbers_depend_on(scored, toy, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(scored, workdir)
    episodes = Episodes(toy.mazes, "test")

    def current(changes=None, episodes=episodes, name="return"):
        config = toy.config("lstm-f", {"evaluate.figure3": False} | (changes or {}))
        return is_current(workdir, run_keys(config, workdir, STEPS, {name: episodes}))

    assert current()
    assert current({"evaluate.batch": 1, "evaluate.fps": 9})  # no number depends on them
    assert not current({"sample.steps": 1})
    assert not current({"evaluate.videos": 2})
    assert not current({"evaluate.side_by_side": 1})
    assert not current(name="loop")
    moved = tmp_path / "moved"
    shutil.copytree(toy.mazes, moved)
    assert current({"evaluate.path": str(moved)}, Episodes(moved, "test"))
    index = json.loads((moved / "index.json").read_text())
    index["splits"]["test"]["episodes"][0]["crc"] += 1
    write_index(moved, index)
    assert not current({"evaluate.path": str(moved)}, Episodes(moved, "test"))
    for found, expected in ((episodes, True), (Episodes(moved, "test"), False)):
        keys = run_keys(toy.config(), workdir, STEPS, {"return": found})
        assert is_current(workdir, {"return.figure3": keys["return.figure3"]}) is expected
    (workdir / "scores" / "return.npz").rename(tmp_path / "aside")
    assert not current()
    (tmp_path / "aside").rename(workdir / "scores" / "return.npz")
    path = workdir / "scores" / "return.json"
    text = path.read_text()
    content = json.loads(text)
    for damaged in (
        "{",
        "{}",
        "[]",
        "[" * 90_000,
        text.replace('"psnr":', '"pnsr":'),
        text.replace("0.5", "0.6"),
    ):
        path.write_text(damaged)
        assert damaged != text and not current()
    for name, value in (
        ("videos", []),
        ("rows", {"a": 3}),
        ("about", {}),
        ("key", 3),
        ("predictions", "0" * 64),
    ):
        path.write_text(json.dumps(sealed(content | {name: value})))
        assert not current()
    for name in ("sha256", "predictions"):  # which an earlier version did not store
        del content[name]
        path.write_text(json.dumps(content if name == "sha256" else sealed(content)))
        assert current()


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
    keys = run_keys(toy.config(), workdir, STEPS + 1, {"return": Episodes(toy.mazes, "test")})
    assert not any(is_current(workdir, {name: key}) for name, key in keys.items())
    files = (workdir / "checkpoints" / str(STEPS + 1) / "state").rglob("*")
    file = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    assert newest_step(workdir) == STEPS + 1 and not is_intact(workdir, STEPS + 1)
    before = (workdir / "scores" / "return.json").read_bytes()
    assert worker.main(["run", *toy.arguments(workdir)]) == 1
    assert f"checkpoint {STEPS + 1} is damaged; train on from step {STEPS}" in capsys.readouterr().err
    assert (workdir / "scores" / "return.json").read_bytes() == before


def test_bounds_depend_on_the_tokenizer_and_not_on_a_run(scored, toy):
    config, sets = toy.config("df"), {"return": Episodes(toy.mazes, "test")}
    keys = bounds_keys(config, open_training_run(config).tokenizer.fingerprint, sets)
    assert jsonable(keys) == keys
    assert is_current(scored.parent / "bounds", keys)
    assert not is_current(scored.parent / "bounds", bounds_keys(config, "0" * 64, sets))


def test_only_one_batch_of_clips_is_in_memory(toy, tmp_path, monkeypatch):
    """However many there are: a clip is read with its batch, and let go of when it is scored."""
    workdir, alive, others = shutil.copytree(toy.written("lstm-f"), tmp_path / "run", ignore=UNSCORED), [], []
    read_clip = scores.read_clip

    def read(*arguments, **named):
        others.append(sum(frames() is not None for frames in alive))
        clip = read_clip(*arguments, **named)
        alive.append(weakref.ref(clip.frames))
        return clip

    for module in (scores, bounds):
        monkeypatch.setattr(module, "read_clip", read)
    settings = {"evaluate__figure3": False}  # two clips in a batch
    assert worker.main(["run", *toy.arguments(workdir, **settings)]) == 0
    assert worker.main(["bounds", *toy.arguments(tmp_path / "bounds", **settings)]) == 0
    assert others == [0, 1, 0] + [0, 0, 0]
