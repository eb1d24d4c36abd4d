"""An evaluation from two runs to numbers and a page, and what is said when something for it is missing."""

import contextlib
import io
import json
import shutil

import chex
import numpy as np
import pytest

from rad_jax.data import Episodes
from rad_jax.evaluation import scores
from rad_jax.files import WorkdirLock
from rad_jax.main import main
from rad_jax.metrics import ssim
from rad_jax.rollout.predict import predict, read_clip
from rad_jax.runs.checkpoints import Checkpoints
from rad_jax.runs.restore import load_trained
from rad_jax.runs.training_run import open_training_run
from tests.toy_run import STEPS, read_state
from tests.videos import read_video

MODEL, TWIN = "lstm-f", "df (no memory)"


@pytest.fixture(scope="module")
def evaluated(toy, tmp_path_factory):
    """A model and its twin on three mazes; returns the work directory, metrics.json, and what was printed."""
    workdir = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(toy.written("lstm-f"), workdir)
    arguments = toy.arguments(workdir, "--mode", "evaluate", "--baseline", str(toy.written("df")))
    measured, steps, printed = [], scores.steps, io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(scores, "steps", lambda video: measured.append(len(video)) or steps(video))
        assert main(arguments) == 0
    # Motion of the true videos, three of them: once for the model, its twin and all bounds.
    assert len(measured) == 3

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    text = (workdir / "evaluation" / "metrics.json").read_text()
    return workdir, json.loads(text, parse_constant=refuse), printed.getvalue()


def test_every_row_and_every_file_is_there(evaluated, toy):
    workdir, metrics, _ = evaluated
    kinds = {name: row["kind"] for name, row in metrics["rows"].items()}
    floors = dict.fromkeys(("repeat last", "mean context", "nearest earlier view"), "floor")
    ceilings = {"tokenizer round trip": "ceiling", "perfect map": "oracle"}
    assert kinds == {
        MODEL: "model",
        f"{MODEL}, memory emptied": "emptied",
        TWIN: "baseline",
        **floors,
        **ceilings,
    }
    assert metrics["model"] == MODEL and set(metrics["differences"]) == set(kinds) - {MODEL}
    mazes = Episodes(toy.mazes, "test")
    assert [video["name"] for video in metrics["videos"]] == mazes.ids
    assert [video["context_frames"] for video in metrics["videos"]] == [36, 33, 34]
    assert metrics["metrics_spec"]["videos"] == 3 and metrics["run"]["protocol"] == "return"
    directory = workdir / "evaluation"
    assert (directory / "curves.png").stat().st_size > 1000
    page = (directory / "report.html").read_text()
    for name in kinds:
        assert name in page
    assert f"{metrics['rows'][MODEL]['mean']['psnr']:.1f}" in page
    videos = sorted(directory.rglob("*.mp4"))
    assert len(videos) == 2  # evaluate.side_by_side
    lengths = {len(mazes.read(index)["frames"]) for index in range(2)}
    assert {len(read_video(video)) for video in videos} == lengths


def test_the_table_is_printed_and_says_once_that_lpips_is_absent(evaluated):
    _, metrics, printed = evaluated
    assert printed.count("no weights") == 1 and "evaluate.lpips=FILE" in printed
    (heads,) = (line.split() for line in printed.splitlines() if "psnr-1/8" in line)
    (cells,) = (line.split() for line in printed.splitlines() if line.startswith(f"{MODEL} "))
    row = dict(zip(heads, cells[1:], strict=True))
    mean = metrics["rows"][MODEL]["mean"]
    assert row["psnr"] == f"{mean['psnr']:.2f}" and row["psnr-1/8"] == f"{mean['psnr_coarse']:.2f}"
    assert row["lpips"] == "n/a"


def psnr(prediction, truth):
    """By the formula, in float64: frames (t, H, W, 3) in [0, 1] -> (t,)."""
    error = np.square(np.clip(np.float64(prediction), 0, 1) - np.float64(truth)).mean((1, 2, 3))
    return -10 * np.log10(error)


def test_the_numbers_are_those_of_the_predictions(evaluated, toy):
    """One video again from the frames that are predicted, by formulas written here."""
    workdir, metrics, _ = evaluated
    episodes, video = Episodes(toy.mazes, "test"), 1
    found = {}
    for name, run in ((MODEL, workdir), (TWIN, toy.written("df"))):
        trained = load_trained(run)
        clips = [read_clip(episodes, index, trained.config, trained.tokenizer) for index in range(3)]
        found[name] = predict(trained, trained.params, clips, 2)[video]
    whole = episodes.read(video)
    frames, oracle = np.float64(whole["frames"]) / 255, np.float64(whole["oracle"]) / 255
    context, truth = frames[:33], frames[33:]
    tokenizer = open_training_run(toy.config()).tokenizer
    found["repeat last"] = np.repeat(context[-1:], len(truth), axis=0)
    found["mean context"] = np.repeat(context.mean(0, keepdims=True), len(truth), axis=0)
    found["tokenizer round trip"] = tokenizer.decode(tokenizer.encode(truth.astype(np.float32)))
    found["perfect map"] = oracle[33:]
    for name, prediction in found.items():
        row = metrics["rows"][name]
        expected = psnr(prediction, truth).mean()
        assert row["per_video"]["psnr"][video] == pytest.approx(expected, abs=1e-3), name
        assert row["mean"]["psnr"] == pytest.approx(np.mean(row["per_video"]["psnr"])), name
    for name in (MODEL, "tokenizer round trip"):
        expected = ssim(np.clip(found[name], 0, 1).astype(np.float32), truth.astype(np.float32)).mean()
        assert metrics["rows"][name]["per_video"]["ssim"][video] == pytest.approx(float(expected), abs=1e-4)
    assert np.abs(found[MODEL] - found[TWIN]).mean() > 0.01
    model, twin = (metrics["rows"][name]["mean"]["psnr"] for name in (MODEL, TWIN))
    assert metrics["differences"][TWIN]["psnr"]["mean"] == pytest.approx(model - twin)


def test_videos_of_an_earlier_larger_evaluation_are_removed_and_others_are_refused_meanwhile(
    evaluated, toy, tmp_path, capsys
):
    workdir = shutil.copytree(evaluated[0], tmp_path / "run")
    (workdir / "evaluation" / "videos" / "mine.mp4").touch()
    command = toy.arguments(workdir, "--mode", "evaluate", evaluate__side_by_side=1)
    before = (workdir / "evaluation" / "metrics.json").read_bytes()
    with WorkdirLock(workdir / "evaluation"):
        assert main(command) == 1
    assert "evaluation is in use by process" in capsys.readouterr().err
    assert (workdir / "evaluation" / "metrics.json").read_bytes() == before
    assert main(command) == 0
    assert {path.name for path in (workdir / "evaluation" / "videos").iterdir()} == {"00.mp4", "mine.mp4"}


def test_what_is_evaluated_is_the_average_of_the_last_checkpoint(toy):
    trained = load_trained(toy.written())
    state, step = read_state(toy.written(), open_training_run(toy.config()))
    assert trained.step == step == STEPS
    chex.assert_trees_all_equal(trained.params, state.ema)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_equal(state.params, state.ema)


def errors_of(arguments, capsys) -> tuple[int, list[str]]:
    capsys.readouterr()
    status = main(arguments)
    captured = capsys.readouterr()
    assert captured.out == ""
    return status, captured.err.splitlines()


@pytest.mark.parametrize("mode", ["evaluate", "rollout"])
def test_a_missing_evaluation_data_set_is_named_with_its_command(mode, toy, tmp_path, capsys):
    arguments = toy.arguments(toy.written(), "--mode", mode, evaluate__path=tmp_path / "none")
    status, (problem, command) = errors_of(arguments, capsys)
    assert status == 1 and problem.startswith("error: ") and str(tmp_path / "none") in problem
    assert command.startswith("make it with: ") and f"--out {tmp_path / 'none'}" in command


@pytest.mark.parametrize("mode", ["evaluate", "rollout"])
def test_a_missing_run_is_one_line(mode, toy, tmp_path, capsys):
    status, (line,) = errors_of(toy.arguments(tmp_path / "none", "--mode", mode), capsys)
    assert status == 2 and line.startswith(f"error: {tmp_path / 'none'} holds no run")
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_a_checkpoint_is_one_line(toy, tmp_path, capsys):
    shutil.copy(toy.written() / "config.json", tmp_path)
    (tmp_path / "checkpoints").mkdir()
    status, (line,) = errors_of(toy.arguments(tmp_path, "--mode", "evaluate"), capsys)
    assert status == 2 and line == f"error: {tmp_path} holds no checkpoint yet: train first"


def test_another_model_than_the_run_holds_is_refused_by_key(toy, capsys):
    arguments = toy.arguments(toy.written(), "--mode", "evaluate", memory__gate_init=0.25)
    status, (line,) = errors_of(arguments, capsys)
    assert status == 2 and "memory.gate_init=0.25" in line


def test_a_wrong_baseline_is_one_line(toy, tmp_path, capsys):
    other = toy.written("df", "action+pose")
    for baseline, begins, words in (
        (tmp_path / "none", f"error: --baseline {tmp_path / 'none'}: ", "holds no run"),
        (other, "error: --baseline ", "action+pose"),
    ):
        command = toy.arguments(toy.written(), "--mode", "evaluate", "--baseline", str(baseline))
        status, (line,) = errors_of(command, capsys)
        assert status == 2 and line.startswith(begins) and words in line


def test_another_tokenizer_than_that_of_training_is_refused(toy, tmp_path, capsys):
    parts = open_training_run(toy.config())
    state, _ = read_state(toy.written(), parts)
    for name in ("config.json", "trained_on.json", "tokenizer.npz"):
        shutil.copy(toy.written() / name, tmp_path)
    with Checkpoints(tmp_path / "checkpoints", parts.config.checkpoint) as checkpoints:
        checkpoints.save(1, state, {"tokenizer": {"name": "patch_pca", "fingerprint": "0" * 64}})
    status, (line,) = errors_of(toy.arguments(tmp_path, "--mode", "evaluate"), capsys)
    assert status == 2 and "was trained with another tokenizer" in line


def test_training_data_are_not_for_evaluation(toy, capsys):
    arguments = toy.arguments(
        toy.written(), "--mode", "evaluate", evaluate__path=toy.rooms, evaluate__split="train"
    )
    status, (line,) = errors_of(arguments, capsys)
    assert status == 1 and "not made for evaluation" in line
