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
from pathlib import Path

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
    for content in (b"one", b"two"):
        write_bytes(tmp_path / "a" / "b.txt", content)
    write_json(tmp_path / "a" / "c.json", {"x": [1]})
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"two"
    assert (tmp_path / "a" / "c.json").read_text() == '{\n "x": [\n  1\n ]\n}'
    assert sorted(os.listdir(tmp_path / "a")) == ["b.txt", "c.json"]


def test_a_home_that_there_is_not_is_no_directory(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert files.local_path("~/a") == Path("/home/me/a")
    with pytest.raises(files.RemotePath, match="~nobody-of-that-name/a: there is no such home"):
        files.local_path("~nobody-of-that-name/a")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user id without an account
    with pytest.raises(files.RemotePath, match="~/a: there is no such home"):
        files.local_path("~/a")


def test_a_directory_that_cannot_be_written_is_seen_before(tmp_path, monkeypatch):
    files.check_writable(tmp_path / "a" / "b")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError) as info:
        files.check_writable(tmp_path / "a" / "b")
    assert info.value.filename == str(tmp_path)


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space")

    write_bytes(tmp_path / "b.txt", b"old")
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
    (tmp_path / "plain").write_text("")
    with replacing(tmp_path / "a") as one, replacing(tmp_path / "a") as two:
        assert one != two and one.parent == two.parent == tmp_path
        one.write_text("one")
        two.write_text("two")
        assert one.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "a").read_text() == "one"  # the block that ended last


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


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EIO])
def test_without_locks_a_working_directory_is_refused_and_others_are_warned_about_once(
    number, tmp_path, monkeypatch
):
    def fail(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    monkeypatch.setattr(files, "_warned_devices", set())
    if number == errno.EIO:  # another failure is not hidden
        with pytest.raises(OSError) as error:
            FileLock(tmp_path / "a")
        assert error.value.errno == number
        return
    with pytest.warns(UserWarning, match=str(tmp_path)), FileLock(tmp_path / "a") as lock:
        assert not lock.exclusive
    with warnings.catch_warnings(action="error"), FileLock(tmp_path / "b") as lock:
        assert not lock.exclusive
    with pytest.raises(WorkdirInUse) as error:
        WorkdirLock(tmp_path / "run")
    assert str(tmp_path / "run") in str(error.value) and "--workdir" in str(error.value)


def test_a_place_that_cannot_be_written_is_an_error_and_the_look_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    files.check_writable(tmp_path / "not" / "yet")
    for place, there in (("file", "file"), ("file/below", "file"), ("dangling/below", "dangling")):
        with pytest.raises(NotADirectoryError, match=f"/{there}'"):
            files.check_writable(tmp_path / place)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(PermissionError, match=tmp_path.name):
        files.check_writable(tmp_path / "not" / "yet")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "dangling"}
