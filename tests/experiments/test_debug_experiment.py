"""`experiments/minecraft_debug.py` from nothing to a report: recordings, conversion, tokenizer, training, evaluation."""

import importlib
import json
import shlex

import pytest

from rad_jax import main
from rad_jax.data import Episodes
from rad_jax.runs import datasets

STEPS = 2


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, root):
    """A run of two steps on three short recordings, evaluated on one; its commands run in this process.

    Without a memory, which costs most of the time and is trained by other tests.
    """
    directory = tmp_path_factory.mktemp("debug")

    def run_command(command: str) -> None:
        for call in command.split("&&"):
            program, *arguments = shlex.split(call)[2:]
            arguments = [shorter.get(word, word) for word in arguments]
            assert importlib.import_module(program).main(arguments) == 0, call

    shorter = {"12": "3", "4": "1", "61": "30"}  # episodes, frames
    options = [
        *("--config", f"{root}/experiments/minecraft_debug.py:df", "--workdir", str(directory / "run")),
        *(f"--config.data.path={directory / 'train'}", "--config.data.auto_make=true"),
        *(f"--config.evaluate.path={directory / 'test'}", "--config.evaluate.auto_make=true"),
        f"--config.train.steps={STEPS}",
        "--config.sample.steps=2",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "run_command", run_command)
        for mode in ("train", "evaluate"):
            assert main.main([*options, "--mode", mode]) == 0
    return directory


def test_recordings_become_episodes_with_the_actions_of_oasis(workdir):
    train, test = Episodes(workdir / "train", "train"), Episodes(workdir / "test", "test")
    assert train.lengths.tolist() == [30] * 3 and test.lengths.tolist() == [36]
    for episodes in (train, test):
        assert episodes.spec.arrays["frames"] == ((32, 32, 3), "uint8")
        assert episodes.spec.arrays["actions"] == ((25,), "float32")
        assert episodes.spec.info["pose"] == ["x", "y", "z", "pitch", "cos", "sin"]
    assert test.spec.info["protocol"] == "rotate" and int(test.static(0)["n_context"]) == 22
    assert (workdir / "train/tokenizer.npz").exists()


def test_the_report_holds_model_floors_and_ceilings(workdir):
    lines = [json.loads(line) for line in (workdir / "run/metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == STEPS
    rows = json.loads((workdir / "run/evaluation/metrics.json").read_text())["rows"]
    floors = ["repeat last", "mean context", "nearest earlier view"]
    assert list(rows) == ["df", *floors, "tokenizer round trip", "perfect map"]
    # The map is perfect in a rotation: only the codec stands between it and the truth.
    assert rows["perfect map"]["mean"]["psnr"] > 35 > rows["mean context"]["mean"]["psnr"] + 10
    assert (workdir / "run/evaluation/report.html").exists()
