"""Damage of every kind in every file of a checkpoint, and files that cannot be read: nothing wrong is ever restored."""

import errno
import json
import logging
import os

import pytest

from rad_jax.runs import manifest
from rad_jax.runs.checkpoints import Checkpoints
from tests.runs.test_checkpoints import assert_same, config, make_state, save_steps


def flipped(position):
    def flip(body: bytes) -> bytes:
        at = int(position * (len(body) - 1))
        return body[:at] + bytes([body[at] ^ 2]) + body[at + 1 :]

    return flip


# What a disk, a copy or a hand makes of a file; None: it is gone.
DAMAGE = {
    "first bit": flipped(0),
    "a bit in the middle": flipped(0.5),
    "last bit": flipped(1),
    "a page of zeros": lambda body: bytes(min(4096, len(body))) + body[4096:],
    "cut": lambda body: body[: len(body) // 2],
    "one byte less": lambda body: body[:-1],
    "one byte more": lambda body: body + b"\n",
    "empty": lambda body: b"",
    "deleted": lambda body: None,
}


def test_any_damage_is_found_in_every_file_that_is_needed(tmp_path):
    save_steps(tmp_path, [1])
    step = tmp_path / "1"
    needed = {step / name for name in json.loads((step / manifest.FILE).read_text())["files"]}
    assert len(needed) > 5
    for path in (*needed, step / manifest.FILE):
        body = path.read_bytes()
        for what, damage in DAMAGE.items():
            found = damage(body)
            path.unlink() if found is None else path.write_bytes(found)
            if what == "one byte more" and path == step / manifest.FILE:
                continue  # the manifest is compared by its content
            with pytest.raises(manifest.DamagedCheckpoint):
                manifest.verify(step)
                pytest.fail(f"{what} of {path.name} is not found")
        path.write_bytes(body)
    for path in step.rglob("*"):
        if path.is_file() and path not in needed and path != step / manifest.FILE:
            path.write_bytes(b"")
    with Checkpoints(tmp_path, config()) as checkpoints:
        assert_same(checkpoints.restore(make_state())[0], make_state(1))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_a_step_that_cannot_be_read_is_passed_over(number, tmp_path, monkeypatch, caplog):
    save_steps(tmp_path, [1, 2])
    unreadable(monkeypatch, tmp_path / "2", number)
    with Checkpoints(tmp_path, config()) as checkpoints, caplog.at_level(logging.WARNING, "rad_jax"):
        assert checkpoints.restore(make_state())[1].step == 1
    assert os.strerror(number) in caplog.text


def test_a_step_is_not_called_damaged_when_the_process_cannot_open_more_files(tmp_path, monkeypatch):
    save_steps(tmp_path, [1, 2])
    unreadable(monkeypatch, tmp_path / "2", errno.EMFILE)
    with Checkpoints(tmp_path, config()) as checkpoints, pytest.raises(OSError, match="Too many open files"):
        checkpoints.restore(make_state())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2"]


def unreadable(monkeypatch, directory, number):
    """Lets no file in a directory be hashed, as root can read what has no permissions."""
    sha256 = manifest._sha256

    def fail(path):
        if path.is_relative_to(directory):
            raise OSError(number, os.strerror(number), str(path))
        return sha256(path)

    monkeypatch.setattr(manifest, "_sha256", fail)
