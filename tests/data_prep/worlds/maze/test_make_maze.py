"""The commands: writing, continuing after a kill, refusing, looking."""

from functools import partial

import numpy as np
import pytest

from data_prep import look, make_maze
from data_prep.worlds.maze.dataset import make_episodes
from data_prep.worlds.maze.recipe import Recipe
from rad_jax.data import Episodes
from rad_jax.media import read_video
from tests.data_prep import commands
from tests.data_prep.commands import contents

ROOM = ["--protocol", "rotate", "--room", "--pixels", "16"]


run = partial(commands.run, make_maze.main)


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
    finished = commands.killed("data_prep.make_maze", killed, job, "*-of-*[0-9]", root)
    assert not (killed / "index.json").exists() and len(finished) < 15
    assert run("--out", killed, *job) == 0
    assert run("--out", whole, *job) == 0
    assert contents(killed) == contents(whole)
    unchanged = sum(path.stat().st_mtime_ns == then for path, then in finished.items())
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
    commands.refused(capsys, "make_maze")
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
    assert run("--help") == 0 and "60%" in capsys.readouterr().out
