"""Runs side by side: their output, their cores, and that none outlives the others."""

import os
import signal
import subprocess
import sys
import time

import pytest

from experiments.twins import RunFailed, main, run_side_by_side, share_of_cores


def python(code):
    return [sys.executable, "-c", code]


def test_lines_are_marked_and_all_commands_run(capsys):
    run_side_by_side({"df": python("print('one')"), "lstm-f": python("import sys; sys.exit(print('two'))")})
    assert set(capsys.readouterr().out.splitlines()) == {"    df | one", "lstm-f | two"}


def test_both_run_at_the_same_time(tmp_path):
    """Each waits for a file that only the other writes."""
    code = (
        "import pathlib, sys, time; here = pathlib.Path({0!r}); (here / {1!r}).touch()\n"
        "while not (here / {2!r}).exists(): time.sleep(0.01)"
    )
    there = str(tmp_path)
    run_side_by_side({"a": python(code.format(there, "a", "b")), "b": python(code.format(there, "b", "a"))})


def test_a_failure_names_the_run_and_ends_the_other():
    began = time.monotonic()
    with pytest.raises(RunFailed, match="df ended with status 3"):
        run_side_by_side(
            {"df": python("import sys; sys.exit(3)"), "lstm-f": python("import time; time.sleep(60)")}
        )
    assert time.monotonic() - began < 30


def test_an_interrupt_ends_the_runs(tmp_path, root):
    pid = tmp_path / "pid"
    inner = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    outer = f"import sys; from experiments.twins import *; run_side_by_side({{'a': [sys.executable, '-c', {inner!r}]}})"
    process = subprocess.Popen(python(outer), cwd=root, stderr=subprocess.DEVNULL)
    while not (pid.exists() and pid.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) != 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_cores_are_shared_out():
    first, second = share_of_cores(0, 2), share_of_cores(1, 2)
    assert not first & second
    assert len(first) == len(second) == len(os.sched_getaffinity(0)) // 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["experiments/quikstart.py"], "did you mean experiments/quickstart.py?"),
        (["experiments/quickstart.py", "--config.train.stpes=3"], "did you mean train.steps?"),
        (["experiments/quickstart.py", "--steps=3"], "expected --config.key=value"),
        (["experiments/quickstart.py", "--variant", "lstm-x"], "did you mean lstm-f?"),
    ],
)
def test_a_wrong_command_is_refused_before_anything_is_written(
    arguments, message, tmp_path, capsys, root, monkeypatch
):
    monkeypatch.chdir(root)
    assert main([*arguments, "--workdir", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) <= 2
    assert list(tmp_path.iterdir()) == []
