"""The command where there is no simulator: one line says what is missing, and nothing is written."""

import ctypes.util
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from data_prep import make_memory_maze
from data_prep.worlds.maze.command_line import recorded_command
from data_prep.worlds.memory_maze import package
from data_prep.worlds.memory_maze.package import PINS, MemoryMazeError
from data_prep.worlds.memory_maze.recipe import MemoryMazeRecipe

TRAIN = "--protocol train --episodes 1"


@pytest.fixture
def installed(monkeypatch):
    """The packages are there, as far as their metadata say."""
    monkeypatch.setattr(package, "version", PINS.__getitem__)
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: f"lib{name}.so")
    monkeypatch.delenv("MUJOCO_GL", raising=False)


def run(*arguments) -> int:
    try:
        return make_memory_maze.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code


def one_line(capsys) -> str:
    error = capsys.readouterr().err
    assert error.startswith("make_memory_maze: error: ") and error.count("\n") == 1, error
    return error


@pytest.mark.parametrize("missing", PINS)
def test_a_missing_package_is_named_with_the_way_to_get_it(missing, installed, monkeypatch, tmp_path, capsys):
    def version(name: str) -> str:
        if name == missing:
            raise PackageNotFoundError(name)
        return PINS[name]

    monkeypatch.setattr(package, "version", version)
    assert run("--out", tmp_path / "data", *TRAIN.split()) == 2
    assert f"the package {missing} is not installed" in (error := one_line(capsys))
    assert 'pip install -e ".[memory-maze]"' in error and not list(tmp_path.iterdir())


def test_another_version_is_refused(installed, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(package, "version", lambda name: "4.0.0" if name == "mujoco" else PINS[name])
    assert run("--out", tmp_path / "data", *TRAIN.split()) == 2
    assert "mujoco is 4.0.0, expected 3.3.3" in one_line(capsys) and not list(tmp_path.iterdir())


def test_a_missing_opengl_library_names_the_packages(installed, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    assert run("--out", tmp_path / "data", *TRAIN.split()) == 2
    error = one_line(capsys)
    assert "no OpenGL library" in error and "libegl1" in error and "libosmesa6" in error
    assert not list(tmp_path.iterdir())


def test_the_backend_is_what_was_chosen_or_what_is_there(installed, monkeypatch):
    assert package.backend() == "egl"
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: "there" if name == "OSMesa" else None)
    assert package.backend() == "osmesa"
    monkeypatch.setenv("MUJOCO_GL", "EGL")
    assert package.backend() == "egl"
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(MemoryMazeError, match="MUJOCO_GL is 'glfw', expected egl or osmesa"):
        package.backend()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--protocol spin --episodes 1", "protocol: 'spin' is unknown"),
        ("--protocol train --size 7 --episodes 1", "size: Memory Maze has no size 7"),
        ("--protocol train --episodes 0", "--episodes: expected an integer >= 1, not '0'"),
        ("--protocol train --episodes 1 --workers 0", "--workers: expected an integer >= 1, not '0'"),
        ("--protocol train --episodes 1 --workers all", "not 'all'"),
        ("--protocol train --episodes 1 --room", "unrecognized arguments: --room"),
        (
            "--protocol train --episodes 1 --shard-episodes -1",
            "--shard-episodes: expected an integer >= 1, not '-1'",
        ),
        ("--protocol train --episodes 1 --frames 1002", "frames: 1002 is longer"),
        ("--protocol train", "the following arguments are required: --episodes"),
        # Found out in the ray-cast maze, without starting MuJoCo a thousand times.
        (
            "--protocol return --episodes 1 --min-frames 20 --max-frames 20",
            "protocol return: 20 worlds have no such walk",
        ),
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
    expected = (
        "--out DIR --episodes 7 --protocol return --split test --seed 3 --size 11 --no-border --look-around"
    )
    assert (
        recorded_command("make_memory_maze", recipe, 7) == f"python -m data_prep.make_memory_maze {expected}"
    )


def test_the_writer_loads_neither_mujoco_nor_jax(root):
    """It would take memory that its workers need, and the workers load its modules again."""
    code = "import sys, data_prep.make_memory_maze; print([m for m in ('jax', 'mujoco') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
