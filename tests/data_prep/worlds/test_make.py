"""The commands of the ray-cast worlds: continuing after a kill, refusing."""

import importlib

import pytest

from tests.data_prep import commands
from tests.data_prep.commands import contents

# Of each command: a job, and the files that show how far it is.
JOBS = {
    "make_maze": (
        "--protocol rotate --room --pixels 16 --episodes 300 --shard-episodes 20",
        "*-of-*[0-9]",
        15,
    ),
    "make_voxel": ("--protocol rotate --split train --size 16x16 --frames 20 --episodes 8", "*.npz", 8),
}


def run(program: str, *arguments: object) -> int:
    return commands.run(importlib.import_module(f"data_prep.{program}").main, *arguments)


@pytest.mark.parametrize("program", JOBS)
def test_a_killed_run_continues_to_the_same_bytes(program, tmp_path, root):
    options, pattern, count = JOBS[program]
    job = options.split()
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    finished = commands.killed(f"data_prep.{program}", killed, job, pattern, root)
    assert len(finished) < count
    for directory in (killed, whole):
        assert run(program, "--out", directory, *job) == 0
    assert contents(killed) == contents(whole)
    unchanged = sum(path.stat().st_mtime_ns == then for path, then in finished.items())
    assert unchanged >= len(finished) - 1, "what was finished was made again"


@pytest.mark.parametrize(
    ("program", "options"),
    [
        ("make_maze", "--protocol train --size 8 --episodes 1"),
        ("make_maze", "--protocol train --episodes 0"),
        ("make_maze", "--protocol train --episodes 1 --shard-episodes 0"),
        ("make_maze", "--protocol rotate --room --size 5 --episodes 1"),
        ("make_maze", "--protocol return --size 5 --episodes 1 --min-frames 20 --max-frames 20"),
        ("make_voxel", "--protocol spin --episodes 1"),
        ("make_voxel", "--protocol train --episodes 1 --first -1"),
        ("make_voxel", "--protocol train --episodes 2 --first 999999"),
        ("make_voxel", "--protocol train --episodes 1 --worker a/b"),
        ("make_voxel", "--protocol train --episodes 1 --worker .."),
    ],
)
def test_wrong_options_are_one_line_and_write_nothing(program, options, tmp_path, capsys):
    assert run(program, "--out", tmp_path / "data", *options.split()) == 2
    commands.refused(capsys, program)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("program", JOBS)
def test_another_recipe_in_the_directory_is_refused(program, tmp_path, capsys):
    job = [*JOBS[program][0].split(), "--episodes", "1"]
    assert run(program, "--out", tmp_path, *job) == 0
    before = contents(tmp_path)
    capsys.readouterr()
    assert run(program, "--out", tmp_path, *job, "--seed", 1) == 2
    assert "seed = 0, not 1" in commands.refused(capsys, program)
    assert contents(tmp_path) == before
