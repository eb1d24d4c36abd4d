"""A disk that is full at each kind of file of a run: two lines with the path, nothing half-written, then the same bits."""

import io
import shutil
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path

import pytest

from rad_jax.main import main
from rad_jax.runs.training_run import open_training_run
from rad_jax.training.log import Writer
from tests.data_prep.commands import contents
from tests.evaluation.toy_scores import predict_truth
from tests.full_disk import fail_each_write, refused, run, small_files
from tests.toy_run import SAVED, assert_same, read_metrics, read_state

CHECKPOINT = 30_000  # bytes; the largest files of a toy checkpoint have more


def test_a_training(toy, tmp_path):
    """At each file, the manifest of a checkpoint among them; then it continues as if nothing had been.

    Of one layer and without memory, which write the same files: every time, the step is traced anew.
    """
    small = {"model.depth": 1, "train.steps": SAVED}
    failed, alone = (
        toy.arguments(tmp_path / name, variant="df", **{k.replace(".", "__"): v for k, v in small.items()})
        for name in ("failed", "alone")
    )
    endings = fail_each_write(partial(main, failed), tmp_path / "failed")
    manifest = "checkpoints/#.orbax-checkpoint-tmp/manifest.orbax-checkpoint-tmp/manifest.json"
    kinds = ["tokenizer.npz", "trained_on.json", "config.json", manifest]
    assert sorted(ending.kind for ending in endings) == sorted(kinds)
    for ending in endings:
        refused(ending, tmp_path / "failed")
    assert len(endings[-1].lines) == 2 and endings[-1].lines[1].endswith("there is no earlier one")
    assert run(partial(main, alone)).status == 0
    parts = open_training_run(toy.config("df", small))
    assert_same(read_state(tmp_path / "failed", parts), read_state(tmp_path / "alone", parts))
    assert len(read_metrics(tmp_path / "failed")) == SAVED // 2
    assert read_metrics(tmp_path / "failed") == read_metrics(tmp_path / "alone")


@pytest.fixture
def written(toy, tmp_path, monkeypatch) -> Path:
    predict_truth(monkeypatch)
    results = shutil.ignore_patterns("rollout", "export", "evaluation", "scores")
    return shutil.copytree(toy.written(), tmp_path / "run", ignore=results)


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
        {"test-#-episode-step#-#.mp4"} if mode == "rollout" else {"tokenizer.npz", "manifest.json", "export"}
    )
    for ending in endings:
        refused(ending, written / mode)
    for size in (100,) if mode == "rollout" else (2000, CHECKPOINT):
        expected = contents(written)
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
