"""A disk that is full at each kind of file of a run: two lines with the path, nothing half-written, the same bits afterwards."""

import io
import logging
import shutil
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path

import pytest

from rad_jax.main import main
from rad_jax.runs.manifest import saved_steps
from rad_jax.runs.training_run import open_training_run
from rad_jax.training.log import Writer
from tests.data_prep.commands import contents
from tests.full_disk import fail_each_write, refused, run, small_files
from tests.toy_run import SAVED, assert_same, read_metrics, read_state

CHECKPOINT = 30_000  # bytes, which the largest files of a toy checkpoint have, and no other file of a run


def test_a_training(toy, tmp_path, caplog):
    """At the first of several saves, and at the last one; then it continues as if nothing had been."""
    parts, expected = open_training_run(toy.config()), toy.trained
    arguments = toy.arguments(tmp_path / "run", train__steps=SAVED, train__sample_every=SAVED // 2)
    caplog.clear()
    endings = fail_each_write(partial(main, arguments), tmp_path / "run")
    manifest = "checkpoints/#.orbax-checkpoint-tmp/manifest.orbax-checkpoint-tmp/manifest.json"
    kinds = ["tokenizer.npz", "trained_on.json", "config.json", "samples/#.mp4", manifest]
    assert sorted(ending.kind for ending in endings) == sorted(kinds)
    for ending in endings:
        if ending.kind.startswith("samples"):
            assert ending.status == 0
        else:
            refused(ending, tmp_path / "run")
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warned) == 1 and str(tmp_path / "run" / "samples") in warned[0]
    assert_same(read_state(tmp_path / "run", parts, SAVED), read_state(expected, parts, SAVED))
    assert read_metrics(tmp_path / "run") == read_metrics(expected)[: SAVED // 2]

    short, saves = toy.arguments(tmp_path / "small"), tmp_path / "small" / "checkpoints"
    last = toy.arguments(tmp_path / "small", train__steps=SAVED // 2)
    caplog.clear()
    for command in (short, last):
        with small_files(CHECKPOINT):
            ending = run(partial(main, command))
        refused(ending, saves)
        assert len(ending.lines) == 2 and ending.lines[1].endswith("there is no earlier one")
        assert not list(saves.iterdir())
    assert run(partial(main, last)).status == 0
    with small_files(CHECKPOINT):
        ending = run(partial(main, toy.arguments(tmp_path / "small", train__steps=SAVED)))
    refused(ending, saves)
    assert ending.lines[1].endswith(f"continues from checkpoint {SAVED // 2}")
    assert saved_steps(saves) == [SAVED // 2] and not caplog.records
    assert run(partial(main, toy.arguments(tmp_path / "small", train__steps=SAVED))).status == 0
    assert_same(read_state(tmp_path / "small", parts, SAVED), read_state(expected, parts, SAVED))


@pytest.fixture
def written(toy, tmp_path) -> Path:
    return shutil.copytree(toy.written(), tmp_path / "run")


def test_an_evaluation(toy, written):
    command = partial(main, toy.arguments(written, "--mode", "evaluate", evaluate__side_by_side=1))
    endings = fail_each_write(command, written)
    files = ["metrics.json", "curves.png", "videos/#.mp4", "report.html", "scores/return.json"]
    kinds = ["scores/return.npz", "scores/return.json", *(f"evaluation/{file}" for file in files)]
    assert sorted(ending.kind for ending in endings) == sorted(kinds)
    for ending in endings:
        refused(ending, written)
    before = contents(written)
    with small_files(100):
        refused(run(command), written)
    assert contents(written) == before


@pytest.mark.parametrize("mode", ["rollout", "export"])
def test_a_video_and_an_export(mode, toy, written):
    command, before = partial(main, toy.arguments(written, "--mode", mode)), contents(written)
    endings = fail_each_write(command, written)
    assert {Path(ending.kind).name for ending in endings} == (
        {"test-#-episode-step#-#.mp#"} if mode == "rollout" else {"tokenizer.npz", "manifest.json"}
    )
    for ending in endings:
        refused(ending, written / mode)
    expected = contents(written)
    for size in (100, 2000, CHECKPOINT):
        with small_files(size):
            ending = run(command)
        assert ending.status == 1 and 1 <= len(ending.lines) <= 2 and "file too large" in ending.lines[0]
        assert contents(written) == expected, "what was there before is not the same"
        shutil.rmtree(written / mode)
        with small_files(size):
            assert run(command).lines[0].split()[0] == "error:"
        assert contents(written) == before
        assert run(command).status == 0


def test_records_of_a_training(tmp_path, caplog):
    errors = io.StringIO()
    with redirect_stderr(errors), small_files(200):
        writer = Writer(tmp_path)
        for step in range(20):
            writer.scalars(step, {"loss": 1.0})
        writer.close()
    assert errors.getvalue() == ""
    assert sorted(record.getMessage().split(" is ")[0] for record in caplog.records) == [
        str(tmp_path / name) for name in ("metrics.jsonl", "tensorboard")
    ]
    assert all(line.endswith(b"}\n") for line in (tmp_path / "metrics.jsonl").read_bytes().splitlines(True))
