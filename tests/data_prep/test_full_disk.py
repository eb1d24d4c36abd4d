"""A disk that is full at each kind of file of a command: a line, nothing half-written, and the same bytes afterwards."""

import shutil
from functools import partial
from pathlib import Path

import pytest
import torch

from data_prep import (
    collect_minerl,
    convert,
    convert_lpips,
    encode_latents,
    fit_tokenizer,
    look,
    make_maze,
    make_voxel,
)
from tests.data_prep import commands
from tests.data_prep.commands import contents
from tests.data_prep.recordings import format_files
from tests.data_prep.test_collect_minerl import Game
from tests.full_disk import fail_each_write, refused, run, small_files
from tests.metrics.test_lpips import random_weights

MAZE = ["--protocol", "rotate", "--room", "--pixels", 16, "--episodes", 3, "--frames", 8]
VOXEL = ["--protocol", "train", "--size", "32x32", "--frames", 10, "--episodes", 1]


def maze(directory: Path) -> list[object]:
    return [make_maze.main, "--out", directory, *MAZE]


def voxel(directory: Path) -> list[object]:
    return [make_voxel.main, "--out", directory, *VOXEL]


def tokenizer(directory: Path) -> list[object]:
    if not directory.exists():
        assert commands.run(*maze(directory)) == 0
    return [fit_tokenizer.main, "--data", directory, "--channels", 2]


def latents(directory: Path) -> list[object]:
    source = directory.with_name("source")
    if not source.exists():
        assert commands.run(*maze(source)) == commands.run(*tokenizer(source)) == 0
    return [encode_latents.main, "--src", source, "--dst", directory, "--batch", 8]


def pictures(directory: Path) -> list[object]:
    source = directory.with_name("source")
    if not source.exists():
        assert commands.run(*maze(source)) == 0
    return [look.main, source, "--out", directory]


def recordings(directory: Path) -> list[object]:
    source = directory.with_name("recordings")
    if not source.exists():
        format_files.vrag(source, name="0/000000", frames=12, seed=0)
    return [convert.main, "--format", "vrag", "--src", source, "--dst", directory, "--size", "16x16"]


def lpips(directory: Path) -> list[object]:
    source = directory.with_name("weights")
    if not source.exists():
        source.mkdir()
        for name, weights in zip(("backbone", "heads"), random_weights("alex"), strict=True):
            torch.save(weights, source / f"{name}.pth")
    files = [f"--{name}={source / name}.pth" for name in ("backbone", "heads")]
    return [convert_lpips.main, "--net", "alex", *files, "--out", directory / "alex.safetensors"]


def minecraft(directory: Path) -> list[object]:
    main = partial(collect_minerl.main, open_game=lambda options: Game())
    return [main, "--out", directory, "--frames", 6, "--episodes", 2]


# Of each command the kinds of files it writes, and sizes in bytes that the first of them, or a later one, exceeds.
COMMANDS = {
    maze: ({"train.progress/plan.json", "room_rotate-train.array_record-#-of-#", "index.json"}, (8, 3000)),
    voxel: ({"#/recipe.json", "#/#.mp4", "#/#.npz"}, (8, 2000)),
    tokenizer: ({"tokenizer.npz", "index.json"}, (8, 1500)),
    latents: ({"tokenizer.npz", "train.progress/#.json", "index.json"}, (8, 5000)),
    pictures: ({"train-#.png", "train-#.mp4"}, (8, 3000)),
    lpips: ({"alex.safetensors"}, (8, 3000)),
    minecraft: ({"#/#.mp4", "#/#.npz"}, (8,)),
    recordings: ({"convert_report.json", "train.progress/#.json", "index.json"}, (8, 60, 2000)),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_kind_of_file(command, tmp_path):
    kinds, sizes = COMMANDS[command]
    directory = tmp_path / "data"
    given = partial(commands.run, *command(directory))
    before = contents(directory) if directory.exists() else None
    assert run(given).status == 0
    expected = contents(directory)

    def begin_again() -> None:
        shutil.rmtree(directory)
        if before is not None:
            command(directory)
            assert contents(directory) == before

    begin_again()
    endings = fail_each_write(given, directory)
    assert kinds <= {ending.kind for ending in endings}
    for ending in endings:
        refused(ending, directory)
    assert contents(directory) == expected
    for size in sizes:
        begin_again()
        with small_files(size):
            ending = run(given)
        refused(ending, directory)
        assert not [path for path in directory.rglob(".*") if path.name.endswith(".tmp")]
        assert run(given).status == 0
        assert contents(directory) == expected
