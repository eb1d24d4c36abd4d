"""Whatever happens to a recording, when it is checked or when it is written, costs that recording alone, and is said."""

import json
import shutil

import numpy as np
import pytest

from data_prep import convert
from data_prep.recordings import conversion, find, survey, video
from data_prep.recordings.formats import vrag as reader
from rad_jax.data import Episodes
from tests.data_prep import commands
from tests.data_prep.commands import contents, report, vrag
from tests.data_prep.recordings import format_files as files


def test_a_recording_that_has_changed_is_checked_again(recordings, tmp_path, monkeypatch):
    src, _ = recordings
    src = shutil.copytree(src, tmp_path / "src")
    files.vrag(src, name="broken")
    video = (src / "broken.mp4").read_bytes()
    (src / "broken.mp4").write_bytes(video[:100])
    assert vrag(src, tmp_path / "d", "--split", "test", "--pattern", "polygon") == 2
    with open(tmp_path / "d/checked.jsonl", "a") as journal:
        journal.write('\n{"id": "0-0000')  # a run was stopped while it wrote
    looked, inspect = [], survey.inspect
    monkeypatch.setattr(
        survey, "inspect", lambda *arguments: looked.append(arguments[1].id) or inspect(*arguments)
    )
    (src / "broken.mp4").write_bytes(video)
    assert vrag(src, tmp_path / "d") == 0
    assert looked == ["broken"] and len(Episodes(tmp_path / "d", "train")) == 8
    monkeypatch.setattr(survey, "_version", lambda: "another")
    assert vrag(src, tmp_path / "d") == 0 and len(looked) == 1 + 8, "other readers may judge otherwise"


def test_what_could_not_be_opened_once_is_tried_again(recordings, tmp_path, monkeypatch):
    av_open = video.av.open

    def refuse(name, *arguments, **options):
        if "000002" in name:
            raise PermissionError(13, "Permission denied")
        return av_open(name, *arguments, **options)

    monkeypatch.setattr(video.av, "open", refuse)
    src = recordings[0]
    assert vrag(src, tmp_path / "d", "--split", "test", "--pattern", "polygon") == 2
    assert "Permission denied" in " ".join(
        each["reason"] for each in report(tmp_path / "d", "test")["skipped"]
    )
    monkeypatch.undo()
    assert vrag(src, tmp_path / "d") == 0
    assert not report(tmp_path / "d")["skipped"]


def test_short_recordings_are_left_out_where_this_is_wanted(recordings, tmp_path):
    assert vrag(recordings[0], tmp_path / "d", "--min-frames", 29) == 0
    episodes = Episodes(tmp_path / "d", "train")
    assert episodes.lengths.min() == 29 and len(episodes) == 2
    said = report(tmp_path / "d")["skipped"]
    assert len(said) == 5 and all("--min-frames 29" in each["reason"] for each in said)
    assert "--min-frames 29" in episodes.spec.info["command"]


MISHAPS = [
    MemoryError,
    OSError(5, "Input/output error"),
    OverflowError("too large"),
    RecursionError,
    KeyError("x"),
]


@pytest.mark.parametrize("error", MISHAPS)
def test_whatever_a_recording_raises_when_it_is_checked_costs_it_alone(
    error, recordings, tmp_path, monkeypatch, capsys
):
    read = reader.read

    def fail(candidate):
        if candidate.id == "0-000002":
            raise error
        return read(candidate)

    monkeypatch.setattr(reader, "read", fail)
    assert vrag(recordings[0], tmp_path / "d") == 0
    (skipped,) = report(tmp_path / "d")["skipped"]
    name = error.__name__ if isinstance(error, type) else type(error).__name__
    assert skipped["id"] == "0-000002" and skipped["reason"].startswith(name)
    assert f"convert: skipped 0-000002: {name}" in capsys.readouterr().err
    assert len(Episodes(tmp_path / "d", "train")) == 6


def files_of(dst) -> dict[str, bytes]:
    """What a data set consists of."""
    return {name: data for name, data in contents(dst).items() if "array_record" in name or "index" in name}


@pytest.mark.parametrize("workers", [1, 2])
def test_recordings_that_change_before_they_are_written_are_left_out_as_if_they_had_never_been_there(
    workers, recordings, tmp_path, monkeypatch, capsys
):
    """One is gone, one is another video; and all are found at once, whichever is met first."""
    src = shutil.copytree(recordings[0], tmp_path / "src")
    write_split, begun = convert.write_split, []

    def change_and_write(*arguments, **options):
        if not begun:
            files.write_video(src / "1/000003.mp4", "mp4v", 20)
            (src / "0/000006.npz").unlink()
        begun.append(arguments[4])
        write_split(*arguments, **options)

    monkeypatch.setattr(convert, "write_split", change_and_write)
    options = "--shard-episodes", 2
    assert vrag(src, tmp_path / "d", *options, "--workers", workers) == 0
    assert begun == [7, 5]
    said, screen = report(tmp_path / "d"), capsys.readouterr()
    assert [each["id"] for each in said["skipped"]] == ["0-000006", "1-000003"]
    assert (
        "No such file" in said["skipped"][0]["reason"] and "as checked before" in said["skipped"][1]["reason"]
    )
    assert all(f"convert: skipped {each['id']}: {each['reason']}\n" in screen.err for each in said["skipped"])
    assert "begun afresh with 5 recordings" in screen.out and said["recordings"] == 7
    assert list(said["splits"].values()) == [Episodes(tmp_path / "d", "train").ids]
    monkeypatch.undo()
    for name in ("1/000003.mp4", "0/000006.mp4"):
        (src / name).unlink()
    assert vrag(src, tmp_path / "without", *options) == 0
    assert files_of(tmp_path / "d") == files_of(tmp_path / "without")
    assert vrag(src, tmp_path / "d", *options) == 0, "the same command has nothing to do"


@pytest.mark.parametrize("error", [MemoryError, OSError(5, "Input/output error"), ZeroDivisionError])
@pytest.mark.parametrize("where", ["read", "frames", "episode_without_frames"])
def test_whatever_a_recording_raises_when_it_is_written_costs_it_alone(
    error, where, recordings, tmp_path, monkeypatch
):
    task = getattr(conversion, where)

    def fail(*arguments, **options):
        candidate = arguments[1] if where == "read" else arguments[0].candidate
        if candidate.id == "1-000005":
            raise error
        return task(*arguments, **options)

    monkeypatch.setattr(conversion, where, fail)
    assert vrag(recordings[0], tmp_path / "d", "--test-episodes", 2) == 0
    (skipped,) = report(tmp_path / "d")["skipped"]
    assert skipped["id"] == "1-000005"
    assert len(Episodes(tmp_path / "d", "train")) == 5 and len(Episodes(tmp_path / "d_test", "test")) == 1


def test_an_episode_that_does_not_fit_the_schema_is_left_out(recordings, tmp_path, monkeypatch):
    make = conversion.episode_without_frames

    def with_infinity(recording, spec, n_context=None):
        episode = make(recording, spec, n_context)
        if recording.candidate.id == "0-000000":
            episode["pose"][3] = np.inf
        return episode

    monkeypatch.setattr(conversion, "episode_without_frames", with_infinity)
    assert vrag(recordings[0], tmp_path / "d") == 0
    assert "not finite" in report(tmp_path / "d")["skipped"][0]["reason"]
    assert len(Episodes(tmp_path / "d", "train")) == 6


def test_a_split_of_which_nothing_can_be_read_is_refused(recordings, tmp_path, monkeypatch, capsys):
    def fail(*arguments):
        raise OSError("the disk is gone")

    monkeypatch.setattr(conversion, "frames", fail)
    assert vrag(recordings[0], tmp_path / "d") == 2
    assert "no recording of train can be read" in capsys.readouterr().err.splitlines()[-1]
    assert not list((tmp_path / "d").glob("*.array_record*")) and not (tmp_path / "d/index.json").exists()


def test_what_is_not_evaluated_does_not_cost_the_others_their_pose(tmp_path, capsys):
    src = tmp_path / "src"
    turning = np.zeros((45, 4), int)
    turning[1:, 3] = 1
    files.vrag(src, name="turn", rows=turning)
    files.vrag(src, name="walk", columns=4)
    assert vrag(src, tmp_path / "d", "--split", "test", "--pattern", "rotate") == 0
    assert "pose" in Episodes(tmp_path / "d", "test").spec.arrays
    assert report(tmp_path / "d", "test")["without_pose"] == {} and "lacks" not in capsys.readouterr().err


def test_every_split_of_a_directory_keeps_its_report(recordings, tmp_path):
    path = tmp_path / "d/convert_report.json"
    path.parent.mkdir()
    path.write_text('{"format": "vrag", "skipped": []}')  # of an earlier version
    assert vrag(recordings[0], tmp_path / "d", "--split", "test") == 0
    assert vrag(recordings[0], tmp_path / "d", "--split", "validation", "--min-frames", 29) == 0
    assert report(tmp_path / "d", "test")["skipped"] == []
    assert len(report(tmp_path / "d", "validation")["skipped"]) == 5
    before = path.read_bytes()
    assert json.loads(before).keys() == {"test", "validation"}
    assert vrag(recordings[0], tmp_path / "d") == 2, "training episodes have no n_context"
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("dst", "words"),
    [
        ("src/d", "outside of --src"),
        ("src", "outside of --src"),
        ("link/d", "outside of --src"),
        ("file", "there is a file"),
    ],
)
def test_a_directory_that_cannot_be_written_to_is_refused(dst, words, recordings, tmp_path, capsys):
    src = shutil.copytree(recordings[0], tmp_path / "src")
    (tmp_path / "link").symlink_to(src)
    (tmp_path / "file").write_text("mine")
    before = contents(tmp_path)
    assert vrag(src, tmp_path / dst) == 2
    assert words in commands.refused(capsys, "convert")
    assert vrag(src, tmp_path / "d", "--test-episodes", 1, "--test-dst", tmp_path / dst) == 2
    assert words in commands.refused(capsys, "convert")
    assert contents(tmp_path) == before


def test_a_journal_of_another_form_does_not_count(recordings, tmp_path):
    assert vrag(recordings[0], tmp_path / "d") == 0
    path = tmp_path / "d/checked.jsonl"
    head, *lines = path.read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    entries[0]["found"]["num_frames"] = "24"
    entries[1]["found"]["traits"]["pose"] = None
    entries[2]["found"]["more"] = 1
    entries[3] = ["found"]
    damaged = [*map(json.dumps, entries[:4]), "[" * 100_000, "{", "", *lines[4:]]
    path.write_text("\n".join([head, *damaged]))
    assert vrag(recordings[0], tmp_path / "d") == 0
    assert len(path.read_text().splitlines()) == 1 + len(damaged) + 4, "four were checked again"


@pytest.mark.parametrize(
    "name", [name for name in files.WRITERS if not name.startswith(("oasis", "loopnav", "vpt"))]
)
def test_no_array_with_a_number_beyond_float32_becomes_an_episode(name, tmp_path):
    """Whatever its dtype; integers are finite."""
    files.WRITERS[name](tmp_path / "src")
    path = next((tmp_path / "src").rglob("*.npz"))
    options = conversion.parser().parse_args(
        ["--format", name.partition("-")[0], "--src", str(tmp_path / "src"), "--dst", str(tmp_path / "d")]
    )
    with np.load(path, allow_pickle=True) as arrays:
        whole = dict(arrays)
    for array, huge, dtype in [
        (array, huge, dtype)
        for array, value in whole.items()
        if value.dtype.kind in "iuf" and value.dtype != np.uint8 and "observation" not in array  # not read
        for huge, dtype in ((1e30, "float64"), (np.inf, "float16"), (np.nan, "float32"), (2**62, "int64"))
    ]:
        values = whole[array].astype(dtype)
        values.reshape(-1)[values.size // 2] = huge
        np.savez(path, **{**whole, array: values})
        found = survey.inspect(options, find(options.format, options.src)[0])
        assert isinstance(found, str) or dtype == "int64", (array, huge)
