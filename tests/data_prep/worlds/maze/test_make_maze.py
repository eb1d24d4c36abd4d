"""The command and its files: what is in them, the command that they record, pictures of them."""

from functools import partial

import numpy as np

from data_prep import look, make_maze
from data_prep.make_maze import make_episodes
from data_prep.worlds.maze.recipe import Recipe
from rad_jax.data import Episodes
from tests.data_prep import commands
from tests.data_prep.commands import contents
from tests.videos import read_video

ROOM = ["--protocol", "rotate", "--room", "--pixels", "16"]

run = partial(commands.run, make_maze.main)


def test_writes_training_and_evaluation_episodes_and_look_shows_them(tmp_path, capsys):
    for split, count, context in (("train", 7, None), ("test", 3, 14)):
        assert run("--out", tmp_path / split, *ROOM, "--episodes", count, "--split", split) == 0
        assert f"{count}/{count}" in capsys.readouterr().err
        written = Episodes(tmp_path / split, split)
        assert len(written) == count and written.spec.info.get("context") == context
        episodes = make_episodes(Recipe("rotate", split, room=True, size=3, pixels=16), range(count))
        for number, episode in enumerate(episodes):
            for name, array in {**written.read(number), **written.static(number)}.items():
                assert np.array_equal(array, episode[name]), name
    directory = tmp_path / "test"
    assert look.main([str(directory), "--split", "test", "--episodes", "1"]) == 0
    assert {path.name for path in (directory / "look").iterdir()} == {"test-000001.png", "test-000001.mp4"}
    video = read_video(directory / "look" / "test-000001.mp4")
    assert len(video) == 25 and video.shape[2] > 1.5 * video.shape[1], "truth and perfect map side by side"
    capsys.readouterr()
    assert look.main([str(directory), "--split", "test", "--episodes", "3"]) == 2
    assert look.main([str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_the_recorded_command_writes_the_same_data_set(tmp_path):
    options = (
        "--protocol rotate --size 5 --pixels 16 --turn-degrees 22.5 --no-border --split test --context 18"
    )
    assert run("--out", tmp_path / "a", *options.split(), "--episodes", 2) == 0
    command = Episodes(tmp_path / "a", "test").spec.info["command"].split()
    assert command[:3] == ["python", "-m", "data_prep.make_maze"]
    assert run(*[str(tmp_path / "b") if word == "DIR" else word for word in command[3:]]) == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
