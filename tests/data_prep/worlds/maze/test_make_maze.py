"""The commands: writing, continuing after a kill, refusing, looking."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from data_prep import look, make_maze
from data_prep.worlds.maze.dataset import make_episodes
from data_prep.worlds.maze.recipe import Recipe
from rad_jax.data import Episodes
from rad_jax.media import read_video

ROOM = ["--protocol", "rotate", "--room", "--pixels", "16"]


def run(*arguments) -> int:
    try:
        return make_maze.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code


def contents(directory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_writes_training_and_evaluation_episodes_in_one_call(tmp_path, capsys):
    train, test = tmp_path / "train", tmp_path / "test"
    assert run("--out", train, *ROOM, "--episodes", 7, "--test-out", test, "--test-episodes", 3) == 0
    assert "7/7" in capsys.readouterr().err
    written = Episodes(train, "train"), Episodes(test, "test")
    assert [len(split) for split in written] == [7, 3]
    recipes = [Recipe("rotate", split, room=True, size=3, pixels=16) for split in ("train", "test")]
    for split, recipe in zip(written, recipes, strict=True):
        for number, episode in enumerate(make_episodes(recipe, range(len(split)))):
            for name, array in split.read(number).items():
                assert np.array_equal(array, episode[name]), name
            for name, array in split.static(number).items():
                assert np.array_equal(array, episode[name]), name
    assert written[0].spec.info["protocol"] == "rotate" and written[1].spec.info["context"] == 14


def test_the_recorded_command_writes_the_same_data_set(tmp_path):
    options = [
        "--protocol",
        "rotate",
        "--size",
        "5",
        "--pixels",
        "16",
        "--turn-degrees",
        "22.5",
        "--no-border",
    ]
    assert run("--out", tmp_path / "a", *options, "--split", "test", "--context", 18, "--episodes", 2) == 0
    command = Episodes(tmp_path / "a", "test").spec.info["command"].split()
    assert command[:3] == ["python", "-m", "data_prep.make_maze"]
    assert run(*[str(tmp_path / "b") if word == "DIR" else word for word in command[3:]]) == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_killed_run_continues_to_the_same_bytes(tmp_path, root):
    job = [*ROOM, "--episodes", "300", "--shard-episodes", "20"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen(
        [sys.executable, "-m", "data_prep.make_maze", "--out", killed, *job],
        cwd=root,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        stderr=subprocess.PIPE,
    )
    while len(list(killed.glob("*-of-*[0-9]"))) < 2:
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    finished = {path.name: path.stat().st_mtime_ns for path in killed.glob("*-of-*[0-9]")}
    assert not (killed / "index.json").exists() and len(finished) < 15
    assert run("--out", killed, *job) == 0
    assert run("--out", whole, *job) == 0
    assert contents(killed) == contents(whole)
    again = {name: (killed / name).stat().st_mtime_ns for name in finished}
    unchanged = sum(again[name] == finished[name] for name in finished)
    assert unchanged >= len(finished) - 1, "finished shards were made again"


@pytest.mark.parametrize(
    "options",
    [
        "--protocol spin --episodes 1",
        "--protocol train --size 8 --episodes 1",
        "--protocol train --episodes -3",
        "--protocol train --episodes 0",
        "--protocol train --episodes many",
        "--protocol train --episodes 1 --pixels 30",
        "--protocol train --episodes 1 --colour red",
        "--protocol train --episodes 1 --shard-episodes 0",
        "--protocol train",
        "--episodes 1",
        "--protocol loop --split train --episodes 1",
        "--protocol rotate --episodes 1 --turn-degrees 7",
        "--protocol rotate --room --size 5 --episodes 1",
        "--protocol rotate --episodes 1 --test-out elsewhere",
        "--protocol rotate --episodes 1 --test-episodes 1",
        "--protocol train --episodes 1 --test-out elsewhere --test-episodes 1",
        "--protocol return --size 5 --episodes 1 --min-frames 20 --max-frames 20",
    ],
)
def test_wrong_options_are_one_line_and_write_nothing(options, tmp_path, capsys):
    assert run("--out", tmp_path / "data", *options.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("make_maze: error: ") and error.count("\n") == 1, error
    assert not list(tmp_path.iterdir())


def test_another_data_set_in_the_directory_stays_as_it_is(tmp_path, capsys):
    assert run("--out", tmp_path, *ROOM, "--episodes", 2) == 0
    before = contents(tmp_path)
    capsys.readouterr()
    assert run("--out", tmp_path, *ROOM, "--episodes", 2, "--seed", 1) == 2
    assert "seed = 0, not 1" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_look_makes_sheet_and_video(tmp_path, capsys):
    assert run("--out", tmp_path, *ROOM, "--episodes", 2, "--split", "test") == 0
    assert look.main([str(tmp_path), "--split", "test", "--episodes", "1"]) == 0
    assert {path.name for path in (tmp_path / "look").iterdir()} == {"test-000001.png", "test-000001.mp4"}
    video = read_video(tmp_path / "look" / "test-000001.mp4")
    assert len(video) == 25 and video.shape[2] > 1.5 * video.shape[1], "truth and perfect map side by side"
    capsys.readouterr()
    assert look.main([str(tmp_path), "--split", "test", "--episodes", "2"]) == 2
    assert look.main([str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_help_can_be_printed(capsys):
    with pytest.raises(SystemExit) as exit:
        make_maze.main(["--help"])
    assert exit.value.code == 0 and "60%" in capsys.readouterr().out
