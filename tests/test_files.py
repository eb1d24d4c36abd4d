"""A file is whole or not there."""

import os

import pytest

from rad_jax.files import write_bytes


def test_writes_and_makes_directories(tmp_path):
    write_bytes(tmp_path / "a" / "b.txt", b"one")
    write_bytes(tmp_path / "a" / "b.txt", b"two")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"two"
    assert os.listdir(tmp_path / "a") == ["b.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "b.txt").write_bytes(b"old")

    def fail(*_):
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        write_bytes(tmp_path / "b.txt", b"new")
    assert (tmp_path / "b.txt").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["b.txt"]
