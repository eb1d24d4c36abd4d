"""The command line: what is wrong with it is said in two lines at most, before anything is written."""

import os
import subprocess
import sys
import tempfile

import jax
import pytest

from rad_jax.main import _use_compilation_cache, main
from rad_jax.runs import datasets
from rad_jax.training import estimate
from tests.toy_run import EXPERIMENT, ROOT


def status(arguments) -> int:
    try:
        return main(arguments)
    except SystemExit as stop:
        return stop.code


REMOTE = "gs://bucket/a"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--config"),
        (["--config"], "--config"),
        (["--stpes", "3"], "argument '--stpes'"),
        (["extra"], "argument 'extra'"),
        (["train.steps=500"], "--config.train.steps=500?"),
        (["--train.steps=500"], "--config.train.steps=500?"),
        (["train.stpes=5"], "; did you mean --config.train.steps=5?"),
        (["--train.stpes=5"], "; did you mean --config.train.steps=5?"),
        (["--confg.train.steps=5"], "; did you mean --config.train.steps=5?"),
        (["--seed=5"], "; did you mean --config.seed=5?"),
        (["--config.train.stpes=3"], "train.steps?"),
        (["--config.train.steps"], "section.key=value"),
        (["--config.model.width=30"], "model.width=30"),
        (["--config.data.clip=2"], "data.clip=2"),
        (["--config.optimizer.learning_rate=1e39"], "optimizer.learning_rate=1e+39"),
        (["--config.train.init_from=hf://a"], "train.init_from=hf://a"),
        (["--mode", "trian"], "trian"),
        (["--episode", "first"], "--episode"),
        (["--workdir", REMOTE], REMOTE),
        (["--mode", "evaluate", "--baseline", REMOTE], REMOTE),
        (["--config", f"{EXPERIMENT}:lstm-x"], "lstm-f?"),
        (["--config", str(EXPERIMENT).replace("quick", "quik")], "quikstart.py"),
        (["--config", "gs://bucket/a.py"], "gs://bucket/a.py"),
        (["--config", "quickstart"], "FILE.py:VARIANT"),
        (["--config.name=../a"], "--workdir DIR"),
        (["--config.name=a:"], "--workdir DIR"),
        (["--config.name=a b"], "--workdir DIR"),
        (["--config.name=.hidden"], "--workdir DIR"),
    ],
)
def test_a_wrong_command_exits_2_and_writes_nothing(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    experiment = ["--config", f"{EXPERIMENT}:lstm-f"] if arguments else []
    assert status([*experiment, *arguments]) == 2
    captured = capsys.readouterr()
    assert words in captured.err and len(captured.err.splitlines()) <= 2, captured.err
    assert captured.out == "" and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("mode", "directory"),
    [("train", "runs/quickstart/df"), ("evaluate", "runs/quickstart/df"), ("compare", "runs/quickstart")],
)
def test_a_run_has_a_directory_of_its_own_if_none_is_named(
    mode, directory, toy, tmp_path, monkeypatch, capsys
):
    """And where the data are missing, it is not made."""
    monkeypatch.chdir(tmp_path)
    missing = ["--config.data.auto_make=false", "--config.evaluate.auto_make=false"]
    assert status(["--config", f"{EXPERIMENT}:df", "--mode", mode, *missing]) in (1, 2)
    captured = capsys.readouterr()
    assert captured.out == f"work directory: {directory}\n" and captured.err.startswith("error: ")
    assert mode != "evaluate" or directory in captured.err  # it is also where the run is looked for
    assert list(tmp_path.iterdir()) == []


def test_a_mistyped_path_is_an_error_with_the_command_that_would_make_its_data(tmp_path, capsys):
    """The experiment makes missing data, but only where it has them itself."""
    arguments = ["--config", f"{EXPERIMENT}:lstm-f", "--workdir", str(tmp_path / "run")]
    assert main([*arguments, f"--config.data.path={tmp_path / 'tpyo'}"]) == 1
    problem, command = capsys.readouterr().err.splitlines()
    assert problem.startswith("error: ") and str(tmp_path / "tpyo") in problem
    assert command.startswith("make it with: ") and "make_maze" in command
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["", "a/b"])
def test_a_work_directory_that_cannot_be_is_one_line_before_data_are_made(
    below, tmp_path, monkeypatch, capsys
):
    (tmp_path / "run").write_text("not a directory")
    monkeypatch.setattr(datasets, "run_command", None)
    arguments = ["--config", f"{EXPERIMENT}:df", "--config.data.auto_make=true"]
    arguments += ["--workdir", str(tmp_path / "run" / below), f"--config.data.path={tmp_path / 'none'}"]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'run'}: not a directory; ") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("module", "interrupted", "ending", "status"),
    [
        ("rad_jax.main", "ml_collections", "SIGINT", 130),
        ("rad_jax.main", "ml_collections", "SIGTERM", 130),
        ("rad_jax.comparison.worker run", "ml_collections", "SIGHUP", 130),
        ("data_prep.look", "numpy", "SIGINT", -2),
        ("data_prep.look", "numpy", "SIGTERM", -2),
    ],
)
def test_an_interrupt_while_a_command_imports_has_no_traceback(module, interrupted, ending, status, tmp_path):
    """A shell shows 130 for a process that ended by SIGINT, -2 here."""
    (tmp_path / f"{interrupted}.py").write_text(f"import signal\nsignal.raise_signal(signal.{ending})\n")
    command = [
        sys.executable,
        "-m",
        *module.split(),
        "--config",
        str(EXPERIMENT),
        "--workdir",
        str(tmp_path / "run"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (status, "stopped\n")


@pytest.mark.parametrize("mode", ["show", "plan"])
def test_what_only_prints_keeps_no_compiled_programs(mode, tmp_path, monkeypatch, capsys):
    def forbidden():
        raise AssertionError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules["rad_jax.main"], "_use_compilation_cache", forbidden)
    monkeypatch.setattr(estimate, "estimate_step", lambda config: "printed")
    assert main(["--config", f"{EXPERIMENT}:df", "--mode", mode]) == 0
    assert capsys.readouterr().out and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("xdg", "home", "expected"),
    [
        ("xdg", "home", "xdg"),
        ("", "home", "home/.cache"),
        (None, "home", "home/.cache"),
        ("relative", "home", "home/.cache"),
        (None, None, "tmp/rad_jax-"),  # a user id without an account, as containers have
        ("relative", "relative", "tmp/rad_jax-"),
        ("file", "home", "tmp/rad_jax-"),
        (None, "file", "tmp/rad_jax-"),
    ],
)
def test_compiled_programs_are_kept_where_the_user_can_write(xdg, home, expected, tmp_path, monkeypatch):
    used = {}
    (tmp_path / "file").touch()
    (tmp_path / "tmp").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(jax.config, "update", used.__setitem__)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    for name, value in (("XDG_CACHE_HOME", xdg), ("HOME", home)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, str(tmp_path / value) if value not in ("", "relative") else value)
    if home is not None:
        monkeypatch.setattr(os.path, "expanduser", lambda path: path.replace("~", os.environ["HOME"]))
    _use_compilation_cache()
    assert used["jax_compilation_cache_dir"].startswith(str(tmp_path / expected))
    assert {path.name for path in tmp_path.iterdir()} <= {"file", "tmp", "xdg", "home"}


def test_help_fits_a_terminal_and_shows_what_is_for_users(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert status(["--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert all(f"\n  {mode} " in text for mode in ("train", "evaluate", "compare", "plan"))
