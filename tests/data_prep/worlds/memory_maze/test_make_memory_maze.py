"""The command where there is no simulator: one line says what is missing, and nothing is written."""

import ctypes.util
import os
import subprocess
import sys
from functools import partial
from importlib.metadata import PackageNotFoundError

import pytest

from data_prep import make_memory_maze
from data_prep.worlds.maze.episodes import recorded_command
from data_prep.worlds.memory_maze import package
from data_prep.worlds.memory_maze.package import PINS, MemoryMazeError
from data_prep.worlds.memory_maze.recipe import MemoryMazeRecipe
from tests.data_prep import commands

TRAIN = "--protocol train --episodes 1"


@pytest.fixture
def installed(monkeypatch):
    """The packages are there, as far as their metadata say."""
    monkeypatch.setattr(package, "version", PINS.__getitem__)
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: f"lib{name}.so")
    for name in ("MUJOCO_GL", "LP_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # so that it is as before at the end
        monkeypatch.delenv(name)


run = partial(commands.run, make_memory_maze.main)
one_line = partial(commands.refused, program="make_memory_maze")


@pytest.mark.parametrize(
    ("changed", "messages"),
    [
        *(({name: None}, [f"the package {name}", 'pip install -e ".[memory-maze]"']) for name in PINS),
        ({"mujoco": "4.0.0"}, ["mujoco is 4.0.0, expected 3.3.3"]),
        ({"library": None}, ["OpenGL", "libegl1", "libosmesa6"]),
    ],
)
def test_what_is_missing_is_named_with_the_way_to_get_it(
    changed, messages, installed, monkeypatch, tmp_path, capsys
):
    def version(name: str) -> str:
        found = {**PINS, **changed}[name]
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr(package, "version", version)
    if "library" in changed:
        monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    assert run("--out", tmp_path / "data", *TRAIN.split()) == 2
    error = one_line(capsys)
    assert all(message in error for message in messages) and not list(tmp_path.iterdir())


def test_the_backend_is_what_was_chosen_or_what_is_there(installed, monkeypatch):
    assert package.backend() == "egl"
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: "there" if name == "OSMesa" else None)
    assert package.backend() == "osmesa"
    monkeypatch.setenv("MUJOCO_GL", "EGL")
    assert package.backend() == "egl"
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(MemoryMazeError, match="MUJOCO_GL is 'glfw'"):
        package.backend()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--protocol train --size 7 --episodes 1", "size: 7"),
        ("--protocol train --episodes 1 --workers 0", "--workers"),
        ("--protocol train --episodes 1 --room", "--room"),
        # Found out in the ray-cast maze, without starting MuJoCo a thousand times.
        ("--protocol return --episodes 1 --min-frames 20 --max-frames 20", "protocol return: 20 "),
    ],
)
def test_wrong_options_are_one_line_and_write_nothing(
    options, message, installed, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr("data_prep.worlds.maze.protocols._WORLDS", 20)
    assert run("--out", tmp_path / "data", *options.split()) == 2
    assert message in one_line(capsys) and not list(tmp_path.iterdir())


def test_the_recorded_command_leaves_out_what_changes_nothing():
    recipe = MemoryMazeRecipe("return", split="test", size=11, seed=3, look_around=True, border=False)
    words = (
        "--out DIR --episodes 7 --protocol return --split test --seed 3 --size 11 --no-border --look-around"
    )
    expected = f"python -m data_prep.make_memory_maze {words}"
    assert recorded_command("make_memory_maze", recipe, 7) == expected


def test_the_writer_loads_neither_mujoco_nor_jax(root):
    """It would take memory that its workers need, and the workers load its modules again."""
    code = "import sys, data_prep.make_memory_maze; print([m for m in ('jax', 'mujoco') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_process_draws_with_one_thread_unless_told_otherwise(installed, monkeypatch, tmp_path):
    monkeypatch.setattr(make_memory_maze.episodes, "write", lambda *arguments: None)
    for told in (None, "3"):
        monkeypatch.setenv("LP_NUM_THREADS", told or "")
        if told is None:
            monkeypatch.delenv("LP_NUM_THREADS")
        assert run("--out", tmp_path, *TRAIN.split()) == 0
        assert os.environ["LP_NUM_THREADS"] == (told or "1")


def test_memory_limits_the_default(monkeypatch):
    cores = len(os.sched_getaffinity(0))
    for gigabytes, count in ((0.1, 1), (0.8, 1), (1.8, min(2, cores)), (1e6, cores)):
        monkeypatch.setattr(make_memory_maze, "_available_bytes", lambda n=gigabytes: n * 1e9)
        assert make_memory_maze.default_count() == count
    monkeypatch.undo()
    assert 1e7 < make_memory_maze._available_bytes() < 1e14
