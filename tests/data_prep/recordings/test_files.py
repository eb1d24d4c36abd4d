"""The search for recordings sees everything, or says what it could not see."""

import json
import os
import shutil

import numpy as np
import pytest

from data_prep.recordings import BadRecording, find, read
from tests.data_prep.recordings import format_files as files


def found(src) -> dict[str, str]:
    """The candidates of a directory with their problems."""
    return {candidate.id: candidate.problem for candidate in find("vrag", src)}


@pytest.fixture
def src(tmp_path):
    files.vrag(tmp_path / "src", name="w0/000000")
    return tmp_path / "src"


def test_a_directory_that_cannot_be_searched_is_named(src, monkeypatch):
    """Whoever runs the test may be root, whom no permission stops."""
    (src / "w1").mkdir()
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("w1"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert found(src) == {"w0-000000": "", "w1": "cannot be searched (Permission denied)"}
    candidate = find("vrag", src)[1]
    with pytest.raises(BadRecording, match=r"w1: cannot be searched \(Permission denied\)"):
        read("vrag", candidate)


def test_links_that_lead_nowhere_are_named(src):
    (src / "w1").symlink_to(src / "another disk")
    (src / "w2").symlink_to("w2")
    (src / "w0/000000.link").symlink_to("nothing")
    assert found(src) == {
        "w0-000000": "",
        "w0-000000.link": "leads nowhere (No such file or directory)",
        "w1": "leads nowhere (No such file or directory)",
        "w2": "leads nowhere (Too many levels of symbolic links)",
    }


def test_hidden_files_and_directories_are_left_out(src):
    shutil.copytree(src / "w0", src / ".trash")
    shutil.copy(src / "w0/000000.mp4", src / "w0/._000000.mp4")
    assert found(src) == {"w0-000000": ""}


def test_endings_may_be_in_capitals_but_not_in_both(src):
    (src / "w0/000000.mp4").rename(src / "w0/000000.MP4")
    assert read("vrag", find("vrag", src)[0]).num_frames == 24
    shutil.copy(src / "w0/000000.MP4", src / "w0/000000.mp4")
    candidates = find("vrag", src)
    assert len(candidates) == 2 and "differs from 000000.mp4 only in capitals" in candidates[1].problem


def test_names_may_differ_in_capitals(src):
    files.vrag(src, name="W0/000000")
    assert found(src) == {"W0-000000": "", "w0-000000": ""}


def test_a_directory_that_is_called_like_a_video_is_searched(src):
    files.vrag(src, name="w0/1.mp4/000001")
    shutil.copy(src / "w0/000000.npz", src / "w0/1.npz")
    candidates = {candidate.id: candidate for candidate in find("vrag", src)}
    assert candidates.keys() == {"w0-000000", "w0-1", "w0-1.mp4-000001"}
    with pytest.raises(BadRecording, match=r"\.mp4 is missing"):
        read("vrag", candidates["w0-1"])


@pytest.mark.parametrize("ending", [".mp4", ".npz"])
def test_a_pipe_is_no_file(src, ending):
    """Opening it would wait for ever."""
    path = src / f"w0/000000{ending}"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(BadRecording, match=rf"{ending}: a named pipe"):
        read("vrag", find("vrag", src)[0])


def test_a_link_to_a_file_is_that_file(src):
    path = src / "w0/000000.npz"
    path.rename(src.parent / "elsewhere")
    path.symlink_to(src.parent / "elsewhere")
    assert read("vrag", find("vrag", src)[0]).num_frames == 24


@pytest.mark.parametrize("number", ["1e40", "-1e400", "1" + "0" * 400, "NaN", "1" * 5000])
def test_no_number_of_a_json_file_is_beyond_float32(number, tmp_path):
    """Wherever it stands in a row."""
    files.vpt(tmp_path)
    path = next(tmp_path.rglob("*.jsonl"))
    lines = path.read_text().splitlines()
    row = json.loads(lines[7])
    row["isGuiOpen"] = True
    places = [(name,) for name in row] + [("mouse", name) for name in row["mouse"]]
    for outer, *inner in places:
        changed = json.loads(json.dumps(row))
        target = changed[outer] if inner else changed
        if type(target[(inner or [outer])[0]]) not in (int, float):
            continue
        target[(inner or [outer])[0]] = "HUGE"
        path.write_text("\n".join([*lines[:7], json.dumps(changed).replace('"HUGE"', number), *lines[8:]]))
        try:
            recording = read("vpt", find("vpt", tmp_path)[0], video_frames=24)
        except BadRecording as error:
            assert path.name in str(error)
        else:
            read_there = ("xpos", "ypos", "zpos", "yaw", "pitch", "hotbar", "x", "y", "dx", "dy")
            assert (inner or [outer])[0] not in read_there
            assert abs(recording.pose[1:]).max() < 1e9


def test_names_out_of_a_file_are_one_line_of_a_message(src):
    """An array of an npz may be named anything."""
    (path,) = src.rglob("*.npz")
    with np.load(path) as arrays:
        np.savez(path, **{"a\n\x1b[2J" + name: array for name, array in arrays.items()})
    (candidate,) = find("vrag", src)
    with pytest.raises(BadRecording) as info:
        read("vrag", candidate)
    assert str(info.value).isprintable() and r"a\n\x1b[2Jactions" in str(info.value)
