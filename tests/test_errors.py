"""Every exception of both packages ends a command in a line or two, and so do failures of the system."""

import ast
import builtins
import errno
import os
import signal
import subprocess
import sys

import pytest

from rad_jax.config import ConfigError
from rad_jax.errors import ADVICE, Stopped, UserError, describe, explain, failure_of_the_system, run, shown
from tests.toy_run import ROOT

CAUGHT = {"NoWalkError"}  # always caught: another world is tried


def test_a_value_as_large_as_its_file_is_cut_and_a_path_is_not():
    path = f"{'/tmp/' + 'directory/' * 30}config.json"
    text = str(ConfigError(f"{path} cannot be used (tokenizer.preview={'x' * 5000}: TAESD)"))
    assert text.startswith(path) and text.endswith(" TAESD)") and len(text) < 1500 and "xxx... TAESD" in text


def test_every_exception_class_is_a_user_error():
    files = [path for package in ("rad_jax", "data_prep") for path in (ROOT / package).rglob("*.py")]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text()))]
    bases = {
        node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        for node in nodes
        if isinstance(node, ast.ClassDef)
    }

    def above(name: str) -> set[str]:
        """The names of a class and of all that it derives from."""
        return {name}.union(*map(above, bases.get(name, ())))

    known = {
        name
        for name, kind in vars(builtins).items()
        if isinstance(kind, type) and issubclass(kind, BaseException)
    }
    exceptions = {name for name in bases if above(name) & known and not name.startswith("_")} - CAUGHT
    assert len(exceptions) > 15
    assert {name for name in exceptions if "UserError" not in above(name)} == set()


def test_statuses():
    assert explain(UserError("a")) == (1, "error: a")
    assert explain(ConfigError("a")) == (2, "error: a")
    assert explain(OSError(28, "No space left", "file"))[0] == 1
    assert explain(Stopped("a")) == (130, "a")
    assert explain(KeyboardInterrupt())[0] == 130
    assert explain(KeyError("a")) is None
    assert explain(BrokenPipeError(32, "Broken pipe")) == (141, "")
    assert explain(MemoryError("Unable to allocate 9 GiB"))[0] == 1
    assert "9 GiB" in explain(MemoryError("Unable to allocate 9 GiB"))[1]
    assert explain(RuntimeError("Unable to initialize backend 'x': no"))[0] == 1
    assert explain(RuntimeError("a")) is None


@pytest.mark.parametrize("number", ADVICE)
def test_failures_of_the_system_name_the_file_and_say_what_to_do(number, tmp_path):
    error = OSError(number, os.strerror(number), str(tmp_path / "a" / "b\n\x1b[2J"))
    line = describe(error)
    assert line.startswith(f"{tmp_path}/a/b\\n\\x1b[2J: ") and line.endswith(f"; {ADVICE[number]}")
    assert os.strerror(number)[1:] in line and "\n" not in line and "\x1b" not in line
    assert ("bytes are free" in line) == (number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
    found = failure_of_the_system(RuntimeError(f"write() failed: {os.strerror(number)}; at byte 3"), "file")
    assert (found.errno, found.filename) == (number, "file")


def test_what_no_system_said_is_not_guessed():
    assert failure_of_the_system(RuntimeError("a shape"), "file") is None
    assert describe(OSError("no space left")) == "no space left"


def fail(error):
    raise error


def test_a_command_ends_in_lines_without_effects(capsys):
    assert run(lambda: 3) == 0
    assert run(lambda: fail(ConfigError("a\x1b[2J\nb\u202e"))) == 2
    assert capsys.readouterr().err == "error: a\\x1b[2J\nb\\u202e\n"
    assert run(lambda: fail(KeyboardInterrupt()), "name: ", status=2, stopped="it stopped") == 130
    assert run(lambda: fail(UserError("a")), "name: ", status=2) == 2
    assert capsys.readouterr().err == "name: it stopped\nname: error: a\n"
    with pytest.raises(KeyError):
        run(lambda: fail(KeyError("x")))
    assert shown("grün\t\r") == "grün\\t\\r"


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_end_a_command_as_an_interrupt_does(ending, capsys):
    usual = signal.default_int_handler if ending is signal.SIGINT else signal.SIG_DFL
    before = signal.signal(ending, usual)  # tests may run under nohup
    try:
        assert run(lambda: signal.raise_signal(ending)) == 130
        assert capsys.readouterr().err == "stopped\n" and signal.getsignal(ending) is usual
    finally:
        signal.signal(ending, before)


def test_a_signal_that_is_ignored_stays_ignored(capsys):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run(lambda: signal.raise_signal(signal.SIGHUP)) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_nobody_reads_or_that_does_not_fit(unbuffered):
    program = "import sys; from rad_jax.errors import run; sys.exit(run(lambda: print('x' * 10)))"
    reader, writer = os.pipe()
    os.close(reader)
    options = {"stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    options["env"] = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    ended = subprocess.run([sys.executable, "-c", program], stdout=writer, **options)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")
    with open("/dev/full", "w") as full:
        ended = subprocess.run([sys.executable, "-c", program], stdout=full, **options)
    assert ended.returncode == 1 and ended.stderr.startswith("error: no space left on device; ")
    assert ended.stderr.count("\n") == 1
