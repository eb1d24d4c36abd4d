"""What leads out of a folder is found at any depth; what stays within it is allowed."""

import os
import socket

import pytest

from rad_jax.files.folders import UnsafeFolder, check_folder


@pytest.fixture
def folder(tmp_path):
    inner = tmp_path / "folder" / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "file").write_text("")
    (tmp_path / "folder 2").mkdir()  # its name begins with that of the folder
    return tmp_path / "folder"


def test_files_folders_and_links_within_are_allowed(folder, tmp_path):
    (folder / "up").symlink_to("a/../a/b")
    (folder / "a" / "b" / "whole").symlink_to(tmp_path / "folder" / "a")
    (folder / "nowhere").symlink_to("missing")
    (tmp_path / "link").symlink_to(folder)
    for name in ("folder", "link", "none", "folder/a/b/file"):
        check_folder(tmp_path / name)


@pytest.mark.parametrize("target", ["../../../folder 2", "/etc", "/dev/null", "../../../missing"])
def test_a_link_that_leads_outside_is_refused(target, folder):
    (folder / "a" / "b" / "link\n").symlink_to(target)
    with pytest.raises(UnsafeFolder, match=r"a/b/link\\n is a link") as info:
        check_folder(folder)
    assert str(info.value).isprintable()


def test_pipes_and_sockets_are_refused(folder, monkeypatch):
    os.mkfifo(folder / "a" / "pipe")
    with pytest.raises(UnsafeFolder, match="a/pipe is a pipe"):
        check_folder(folder)
    (folder / "a" / "pipe").unlink()
    monkeypatch.chdir(folder)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        with pytest.raises(UnsafeFolder, match="socket is a pipe, a socket"):
            check_folder(folder)
