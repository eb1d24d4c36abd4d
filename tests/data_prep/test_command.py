"""Every command ends with one line and a status that says which kind of end it was."""

import importlib

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
