"""A few damaged files for every reader; ``python -m tests.fuzz --inputs 100000`` gives it many."""

import random
import re
import subprocess
import sys
import warnings
import zipfile

import pytest

from rad_jax.errors import UserError
from tests.fuzz import engine
from tests.fuzz.mutations import mutate
from tests.fuzz.readers import READERS, Reader

INPUTS, FEW = 30, 3
# Tracing their networks takes seconds; their files are safetensors, which have a reader of their own here.
TRACED = {"oasis_dit", "sd_vae", "sd_vae config", "oasis_vae", "taesd", "lpips", "tokenizer with decoder"}
SLOW = ("video", "export config", "metrics", "oasis_vae config", "scores", "checkpoint", "tfds")


@pytest.mark.parametrize("name", [name for name in READERS if name not in TRACED])
def test_a_damaged_file_is_refused_or_read(name, tmp_path):
    if name.startswith(("torch", "recording oasis")):
        pytest.importorskip("torch")
    inputs = FEW if name.startswith(SLOW) else INPUTS
    found = list(engine.outcomes(name, range(inputs), 0, tmp_path))
    assert [outcome for outcome in found if outcome.failure] == []


def untyped() -> None:
    raise KeyError("of the program")


def warned() -> None:
    warnings.warn("strange", stacklevel=1)


def long() -> None:
    raise UserError("one\ntwo\nthree")


def slow() -> None:
    sum(range(10**5))


def large() -> None:
    bytearray(64 * 2**20)[::4096] = bytes(64 * 2**8)


@pytest.mark.parametrize(
    ("fault", "words"),
    [(untyped, "KeyError"), (warned, "UserWarning"), (long, "3 lines"), (slow, " s$"), (large, "MiB")],
)
def test_each_kind_of_failure_is_seen(fault, words, tmp_path, monkeypatch):
    def make(folder):
        (folder / "x").write_bytes(b"whole")
        return [folder / "x"], lambda: (folder / "x").read_bytes() == b"whole" or fault()

    monkeypatch.setitem(READERS, "faulty", Reader(make))
    monkeypatch.setattr(engine, "SECONDS", 1e-6 if fault is slow else 60.0)
    monkeypatch.setattr(engine, "GROWTH", 32 * 2**20)
    (outcome,) = engine.outcomes("faulty", range(1), 0, tmp_path)
    assert re.search(words, outcome.failure)


def test_an_input_is_a_function_of_its_number(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a", bytes(1000))
    for data in ((tmp_path / "x.zip").read_bytes(), b'{"a": [1, 2.5, {"b": null}]}', bytes(100)):
        drawn = [mutate(data, random.Random(f"0 x {number}")) for number in range(50)]
        assert drawn == [mutate(data, random.Random(f"0 x {number}")) for number in range(50)]
        assert len(set(drawn)) > 30


def test_the_command_reports_a_reader(root):
    command = [sys.executable, "-m", "tests.fuzz", "--inputs", "5", "--reader", "example"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    head, line, *_ = done.stdout.splitlines()
    assert head.split()[:2] == ["reader", "inputs"] and line.split()[:2] == ["example", "5"]
