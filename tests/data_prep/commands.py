"""What tests of commands share."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from data_prep import convert


def run(main: Callable[[list[str]], int], *arguments: object) -> int:
    """The exit status of a command."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code


def vrag(src: Path, dst: Path, *options: object) -> int:
    """The exit status of a conversion of recordings in VRAG's layout."""
    return run(convert.main, "--format", "vrag", "--src", src, "--dst", dst, *options)


def report(dst: Path, split: str = "train") -> dict:
    """What a conversion has reported of a split."""
    return json.loads((dst / "convert_report.json").read_text())[split]


def contents(directory: Path) -> dict[str, bytes]:
    """All files below a directory but the locks, by relative path."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def refused(capsys, program: str) -> str:
    """The only line that a command has printed, an error."""
    error = capsys.readouterr().err
    assert error.startswith(f"{program}: error: ") and error.count("\n") == 1, error
    return error


def killed(module: str, directory: Path, job: list[str], pattern: str, root: Path) -> dict[Path, int]:
    """Kills a command when two files match a pattern; returns the times of those that do then."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, "--out", directory, *job],
        cwd=root,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        stderr=subprocess.PIPE,
    )
    while len(list(directory.rglob(pattern))) < 2:
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return {path: path.stat().st_mtime_ns for path in directory.rglob(pattern)}
