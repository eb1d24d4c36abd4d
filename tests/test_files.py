"""A file is whole or not there; a lock has one owner, who is named; a file system without locks is not overlooked."""

import errno
import fcntl
import os
import socket
import stat
import subprocess
import sys
import threading
import warnings

import pytest

from rad_jax import files
from rad_jax.files import (
    FileLock,
    Locked,
    WorkdirInUse,
    WorkdirLock,
    remove_temporaries,
    replacing,
    write_bytes,
    write_json,
)


def test_writes_and_makes_directories(tmp_path):
    write_bytes(tmp_path / "a" / "b.txt", b"one")
    write_bytes(tmp_path / "a" / "b.txt", b"two")
    write_json(tmp_path / "a" / "c.json", {"x": [1]})
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"two"
    assert (tmp_path / "a" / "c.json").read_text() == '{\n "x": [\n  1\n ]\n}'
    assert sorted(os.listdir(tmp_path / "a")) == ["b.txt", "c.json"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "b.txt").write_bytes(b"old")

    def fail(*_):
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", fail)
    for write, content in ((write_bytes, b"new"), (write_json, "new")):
        with pytest.raises(OSError, match="no space"):
            write(tmp_path / "b.txt", content)
    assert (tmp_path / "b.txt").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["b.txt"]


def test_the_content_is_on_the_disk_before_the_name_and_the_name_before_the_return(tmp_path, monkeypatch):
    steps, fsync, replace = [], os.fsync, os.replace

    def record_fsync(descriptor):
        steps.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "content")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", lambda *paths: steps.append("rename") or replace(*paths))
    write_json(tmp_path / "a.json", 1)
    assert steps == ["content", "rename", "directory"]


def test_writers_of_one_file_never_share_a_temporary_one_and_it_has_the_usual_rights(tmp_path):
    with replacing(tmp_path / "a") as one, replacing(tmp_path / "a") as two:
        assert one != two and one.parent == two.parent == tmp_path
        one.write_text("one")
        two.write_text("two")
        mode = stat.S_IMODE(one.stat().st_mode)
    assert (tmp_path / "a").read_text() == "one"  # the block that ended last
    (tmp_path / "plain").write_text("")
    assert mode == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_what_a_killed_writer_left_can_be_removed(tmp_path):
    killed = "import os; from rad_jax.files import replacing\n"
    killed += f"with replacing({os.fspath(tmp_path / 'a')!r}) as path: path.touch(); os._exit(0)"
    subprocess.run([sys.executable, "-c", killed], check=True)
    write_bytes(tmp_path / "a.txt", b"")
    (left,) = tmp_path.glob(".a.*")
    remove_temporaries(tmp_path, "b")
    assert left.exists()
    remove_temporaries(tmp_path, "a")
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_lock_names_its_owner_and_is_free_when_that_one_is_killed(tmp_path):
    path = tmp_path / "lock"
    code = "from pathlib import Path; import sys; from rad_jax.files import FileLock\n"
    code += "lock = FileLock(Path(sys.argv[1])); print('held', flush=True); input()"
    command = [sys.executable, "-c", code, os.fspath(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Locked) as error:
            FileLock(path)
        assert error.value.owner == f"process {holder.pid} on {socket.gethostname()}"
        holder.kill()
    with FileLock(path) as lock:
        assert lock.exclusive
        assert path.read_text() == f"process {os.getpid()} on {socket.gethostname()}"
    assert path.read_text() == ""


def test_a_lock_is_waited_for_as_long_as_allowed(tmp_path):
    path, held = tmp_path / "lock", []
    with FileLock(path):
        with pytest.raises(Locked):
            FileLock(path, timeout=0.1)
        waiting = threading.Thread(target=lambda: held.append(FileLock(path, timeout=60.0)))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
    waiting.join(60)
    held[0].close()


@pytest.fixture
def cannot_lock(monkeypatch, request):
    def fail(descriptor, operation):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", fail)
    monkeypatch.setattr(files, "_warned_devices", set())


NO_LOCKS = pytest.mark.parametrize("cannot_lock", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS], indirect=True)


@NO_LOCKS
def test_a_file_system_without_locks_is_said_once(tmp_path, cannot_lock):
    with pytest.warns(UserWarning, match="has no locks"):
        lock = FileLock(tmp_path / "a")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = FileLock(tmp_path / "b")
    assert not lock.exclusive and not other.exclusive
    lock.close()
    other.close()


@NO_LOCKS
def test_a_working_directory_without_locks_is_refused(tmp_path, cannot_lock):
    with pytest.raises(WorkdirInUse, match="has no locks") as error:
        WorkdirLock(tmp_path / "run")
    assert str(tmp_path / "run") in str(error.value) and "--workdir" in str(error.value)


@pytest.mark.parametrize("cannot_lock", [errno.EIO], indirect=True)
def test_another_failure_of_a_lock_is_not_hidden(tmp_path, cannot_lock):
    with pytest.raises(OSError) as error:
        FileLock(tmp_path / "a")
    assert error.value.errno == errno.EIO
