"""Every command ends with one line and a status that says which kind of end it was."""

import importlib
import shutil

import pytest

from data_prep.common import command
from rad_jax.data import DataError
from tests.data_prep import commands

# Of each command: a function that it calls when it begins, options, and whether it goes on after an interrupt.
COMMANDS = {
    "collect_minerl": ("record_worker", "--out DIR --episodes 1", True),
    "convert": ("convert", "--format vrag --src DIR --dst DIR/data", True),
    "convert_lpips": ("_read", "--net alex --backbone x --heads y --out DIR/z.safetensors", False),
    "encode_latents": ("make_jobs", "--src DIR --dst DIR/latents", True),
    "fit_tokenizer": ("Episodes", "--data DIR", False),
    "look": ("Episodes", "DIR", False),
    "make_luanti": ("expect_installed", "--out DIR/r --protocol train --episodes 1", True),
    "make_maze": ("write", "--out DIR/d --protocol train --episodes 1", True),
    "make_memory_maze": ("check_installed", "--out DIR/d --protocol train --episodes 1", True),
    "make_voxel": ("draw_walk", "--out DIR/r --protocol train --episodes 1", True),
}


def run(name, words) -> int:
    return commands.run(importlib.import_module(f"data_prep.{name}").main, *words)


@pytest.mark.parametrize("name", COMMANDS)
def test_wrong_options_are_one_line(name, tmp_path, capsys):
    words = COMMANDS[name][1].replace("DIR", str(tmp_path)).split()
    for wrong in (words[:-2], [*words, "--nothing"], [*words, "--se", "1"]):
        assert run(name, wrong) == 2
        commands.refused(capsys, name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_path_of_another_machine_is_refused_before_anything_is_written(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = COMMANDS[name][1].split()
    places = [at for at, word in enumerate(words) if "DIR" in word or word in ("x", "y")]
    for at in places:
        assert run(name, [*words[:at], "gs://bucket/a", *words[at + 1 :]]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"{name}: error: ") and error.count("\n") == 1 and " gs://bucket/a: " in error
    assert places and not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def rooms(toy, tmp_path_factory):
    """A directory with a data set, one whose index is damaged, one that lacks a shard, a file, and nothing."""
    directory = tmp_path_factory.mktemp("wrong")
    for name in ("rooms", "damaged", "lacking"):
        shutil.copytree(toy.rooms, directory / name)
    (directory / "damaged/index.json").write_text("{")
    next((directory / "lacking").glob("*array_record*")).unlink()
    (directory / "file").write_text("mine")
    return directory


@pytest.mark.parametrize(
    "line",
    [
        *(f"fit_tokenizer --data DIR/{name}" for name in ("nothing", "file", "damaged", "lacking")),
        "fit_tokenizer --data DIR/rooms --split ../rooms",
        "fit_tokenizer --data DIR/rooms --patch 7",
        "fit_tokenizer --data DIR/rooms --channels 1000",
        "fit_tokenizer --data DIR/rooms --frames 0",
        f"fit_tokenizer --data DIR/rooms --decoder-steps 1 --seed {10**29}",
        f"fit_tokenizer --data DIR/rooms --frames {'9' * 5000}",
        *(f"look DIR/{name}" for name in ("nothing", "file", "damaged", "lacking")),
        "look DIR/rooms --episodes 0 99",
        "look DIR/rooms --episodes 0 -1",
        "look DIR/rooms --split test",
        "look DIR/rooms --out DIR/file",
        *(
            f"encode_latents --src DIR/{name} --dst DIR/l"
            for name in ("nothing", "file", "damaged", "lacking")
        ),
        "encode_latents --src DIR/rooms --dst DIR/rooms",
        "encode_latents --src DIR/rooms --dst DIR/file",
        "encode_latents --src DIR/rooms --dst DIR/l --split test",
        "encode_latents --src DIR/rooms --dst DIR/l --shard 2/2",
        "encode_latents --src DIR/rooms --dst DIR/l --tokenizer patch_pca --weights DIR/file",
        "encode_latents --src DIR/rooms --dst DIR/l --tokenizer nothing --weights DIR/file",
        "make_maze --out DIR/file --protocol train --episodes 1",
        "make_maze --out DIR/damaged --protocol train --episodes 1",
        "make_maze --out DIR/m --protocol train --episodes 1 --pixels 0",
        f"make_maze --out DIR/m --protocol train --episodes {10**20}",
        "make_voxel --out DIR/file --protocol train --episodes 1",
        "make_voxel --out DIR/v --protocol train --episodes 1 --size 0x0",
        "make_luanti --out DIR/l --protocol train --episodes 1 --size 0x0",
        "make_luanti --out DIR/l --protocol train --episodes 1 --frames 1",
        "make_luanti --out DIR/l --protocol train --episodes 2 --first 999999",
        "make_luanti --out DIR/file --protocol train --episodes 1",
        "make_memory_maze --out DIR/file --protocol train --episodes 1 --workers 1",
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_half_written(line, rooms, monkeypatch, capsys):
    """Simulators count as installed, and none is started."""
    for simulator, check in (("make_luanti", "expect_installed"), ("make_memory_maze", "check_installed")):
        monkeypatch.setattr(importlib.import_module(f"data_prep.{simulator}"), check, lambda: None)
    monkeypatch.setenv("LP_NUM_THREADS", "1")
    before = commands.contents(rooms)
    name, *words = line.replace("DIR", str(rooms)).split()
    assert run(name, words) == 2
    commands.refused(capsys, name)
    assert commands.contents(rooms) == before


def test_luanti_that_is_not_installed_is_said_with_the_way_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda *arguments, **options: None)
    assert run("make_luanti", ["--out", tmp_path / "l", "--protocol", "train", "--episodes", "1"]) == 2
    assert "apt-get install minetest" in commands.refused(capsys, "make_luanti")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", COMMANDS)
def test_an_interrupt_and_a_failing_disk_are_one_line(name, tmp_path, monkeypatch, capsys):
    called, options, continues = COMMANDS[name]
    words = options.replace("DIR", str(tmp_path)).split()
    goes_on = "continues" if continues else "begins again"
    for reason, status, text in (
        (KeyboardInterrupt(), 130, f"stopped; the same command {goes_on}"),
        (OSError("no space left"), 2, "error: no space left"),
    ):

        def fail(*arguments, reason=reason, **options):
            raise reason

        monkeypatch.setattr(importlib.import_module(f"data_prep.{name}"), called, fail)
        assert run(name, words) == status
        assert capsys.readouterr().err == f"{name}: {text}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_the_text_of_the_module(name, capsys):
    assert run(name, ["--help"]) == 0
    text = importlib.import_module(f"data_prep.{name}").__doc__
    assert text.strip() in capsys.readouterr().out


def test_what_nobody_expects_is_not_hidden(capsys):
    def refuse(error):
        raise error

    with pytest.raises(KeyError):
        command.run("name", lambda: refuse(KeyError("x")))
    assert command.run("name", lambda: refuse(DataError("x"))) == 2
    assert command.run("name", lambda: 3) == 0
    assert capsys.readouterr().err == "name: error: x\n"
