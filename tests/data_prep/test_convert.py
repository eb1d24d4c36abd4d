"""From recordings to data sets: what is kept, split, reported, refused and continued."""

import shutil
from functools import partial

import numpy as np
import pytest

from data_prep import convert
from data_prep.recordings import survey
from data_prep.recordings.actions import ACTIONS
from rad_jax.config import DataConfig
from rad_jax.data import Episodes
from rad_jax.data.condition import condition_dim, condition_features
from tests.data_prep import commands
from tests.data_prep.commands import contents, report, vrag
from tests.data_prep.recordings import format_files as files

WITH_POSE = DataConfig(condition="action+pose", heading_harmonics=1)

run = partial(commands.run, convert.main)


def data_set(dst) -> dict:
    """All its files but the report, which names the directory."""
    return {name: data for name, data in contents(dst).items() if name != "convert_report.json"}


def test_episodes_are_what_was_recorded(recordings, tmp_path, capsys):
    src, expected = recordings
    assert vrag(src, tmp_path / "d", "--size", "32x24") == 0
    out = capsys.readouterr()
    assert "7 of 7 recordings" in out.out and "pose: x y z cos sin" in out.out and "7/7" in out.err
    episodes = Episodes(tmp_path / "d", "train")
    assert episodes.ids == sorted(expected) and episodes.spec.name == "minecraft_vrag"
    info = episodes.spec.info
    assert info["actions"] == list(ACTIONS) and info["fps"] == 20 and info["source"] == "VRAG (MineRL)"
    assert info["pose"] == ["x", "y", "z", "cos", "sin"] and len(info["pose_scale"]) == 5
    for number, name in enumerate(episodes.ids):
        wanted, episode, static = expected[name], episodes.read(number), episodes.static(number)
        assert files.numbers(episode["frames"]) == wanted.numbers
        assert episode["frames"].shape[1:] == (24, 32, 3)
        np.testing.assert_array_equal(episode["actions"], wanted.actions)
        np.testing.assert_array_equal(episode["camera_deg"], wanted.camera_deg)
        yaw, pose = np.radians(wanted.pose[1:, 3]), episode["pose"]
        np.testing.assert_allclose(pose[1:, 3:], np.stack([np.cos(yaw), np.sin(yaw)], 1), atol=1e-5)
        np.testing.assert_allclose(
            pose[:, :3] + static["pose_origin"], wanted.pose[[1, *range(1, len(pose))], :3], atol=1e-4
        )
        before = yaw[0] - np.radians(wanted.camera_deg[1, 1])
        np.testing.assert_allclose(pose[0, 3:], [np.cos(before), np.sin(before)], atol=1e-5)
        assert episode["pose_known"].tolist() == [False] + [True] * (len(pose) - 1)


def test_a_model_can_be_given_the_pose_where_it_is_known_and_is_told_where_not(recordings, tmp_path):
    assert vrag(recordings[0], tmp_path / "d") == 0
    episodes = Episodes(tmp_path / "d", "train")
    assert condition_dim(episodes.spec, WITH_POSE) == 25 + 3 + 2
    features = condition_features(episodes.spec, episodes.read(0), WITH_POSE)
    assert features.shape == (24, 30) and np.isfinite(features).all() and np.abs(features).max() <= 1


def test_recordings_without_pose_among_others_leave_all_without(recordings, tmp_path, capsys):
    src, _ = recordings
    shutil.copytree(src, tmp_path / "src")
    files.vrag(tmp_path / "src", columns=4, name="9")
    assert vrag(tmp_path / "src", tmp_path / "d") == 0
    said = capsys.readouterr()
    assert "8 of 8 recordings" in said.out and "pose: not known" in said.out
    assert "pose" not in Episodes(tmp_path / "d", "train").spec.arrays
    assert report(tmp_path / "d")["without_pose"] == {"9": ["x", "y", "z", "yaw"]}
    assert "convert: 9 lacks x y z yaw of the pose" in said.err


def test_broken_recordings_are_reported_and_the_others_kept(recordings, tmp_path, capsys):
    src, expected = recordings
    src, long = shutil.copytree(src, tmp_path / "src"), f"{'a' * 120}-{'b' * 120}"
    for name in (long.replace("-", "/"), "plain/two\nlines"):
        (src / name).parent.mkdir()
        for suffix in (".mp4", ".npz"):
            shutil.copy(src / f"0/000000{suffix}", src / f"{name}{suffix}")
    (src / "0/000000.npz").unlink()
    (src / "0/000004.mp4").unlink()
    (src / "0/000004.mp4").symlink_to(tmp_path / "nothing")
    (src / "1/000001.mp4").write_bytes((src / "1/000001.mp4").read_bytes()[:500])
    (src / "0/000002.npz").write_bytes(b"")
    (src / "alone.npz").write_bytes(b"")
    files.write_video(src / "1/000003.mp4", "mp4v", 27, width=32)
    assert vrag(src, tmp_path / "d") == 0
    assert Episodes(tmp_path / "d", "train").ids == ["0-000006", "1-000005"]
    said = report(tmp_path / "d")
    reasons = {each["id"]: each["reason"] for each in said["skipped"]}
    assert reasons.keys() == {*expected, "alone", long, "plain-two\nlines"} - {"0-000006", "1-000005"}
    assert "000000.mp4: .npz is missing" in reasons["0-000000"]
    assert all("name of the recording" in reasons[name] for name in (long, "plain-two\nlines"))
    assert "cannot be decoded" in reasons["1-000001"] and "not an npz file" in reasons["0-000002"]
    assert "No such file" in reasons["0-000004"] and "32x48 px" in reasons["1-000003"]
    error = capsys.readouterr().err
    assert all(f"convert: skipped {name}: " in error for name in reasons)
    assert said["recordings"] == 10 and "Traceback" not in error
    assert vrag(src, tmp_path / "e", "--size", "16x16") == 0
    assert Episodes(tmp_path / "e", "train").ids == ["0-000006", "1-000003", "1-000005"]


def test_the_last_recordings_become_test_episodes_with_a_context(recordings, tmp_path):
    src, expected = recordings
    names = sorted(expected)
    assert vrag(src, tmp_path / "d", "--test-episodes", 2) == 0
    assert Episodes(tmp_path / "d", "train").ids == names[:-2]
    assert "n_context" not in Episodes(tmp_path / "d", "train").spec.statics
    test = Episodes(tmp_path / "d_test", "test")
    assert test.ids == names[-2:] and test.spec.info["protocol"] == "continue"
    assert [int(test.static(k)["n_context"]) for k in range(2)] == [round(0.6 * n) for n in test.lengths]
    options = ["--test-share", 0.3, "--test-dst", tmp_path / "t", "--context", 5, "--test-frames", 9]
    assert vrag(src, tmp_path / "e", *options) == 0
    test = Episodes(tmp_path / "t", "test")
    assert test.lengths.tolist() == [9, 9] and int(test.static(1)["n_context"]) == 5
    assert files.numbers(test.read(1)["frames"]) == list(range(9))
    train = Episodes(tmp_path / "e", "train")
    assert train.lengths.tolist() == [len(expected[name].numbers) for name in names[:-2]]


def test_what_the_recordings_say_of_their_context_and_oracle_is_kept(tmp_path):
    src = tmp_path / "src"
    for name in ("a", "b"):
        files.vrag(src, name=name)
        oracle = np.stack([files.bars(50 + t) for t in range(24)])
        files.add_arrays(src / f"{name}.npz", n_context=np.int32(7), oracle=oracle)
    assert vrag(src, tmp_path / "d", "--split", "test", "--size", "32x24") == 0
    test = Episodes(tmp_path / "d", "test")
    assert int(test.static(0)["n_context"]) == 7
    assert files.numbers(test.read(0)["oracle"]) == list(range(50, 74))
    assert test.read(0)["oracle"].shape == (24, 24, 32, 3)


def test_only_a_pattern_is_evaluated(tmp_path):
    src = tmp_path / "src"
    for k in range(3):
        files.vrag(src, name=f"walk{k}", frames=45)
    for k in range(2):
        rows = np.zeros((45, 4), int)
        rows[1:, 3] = (-1) ** k
        files.vrag(src, name=f"turn{k}", rows=rows)
    options = ["--test-episodes", 2, "--pattern", "rotate"]
    assert vrag(src, tmp_path / "d", *options) == 0
    assert Episodes(tmp_path / "d", "train").ids == ["walk0", "walk1", "walk2"]
    test = Episodes(tmp_path / "d_test", "test")
    assert test.ids == ["turn0", "turn1"] and test.spec.info["protocol"] == "rotate"
    assert [int(test.static(k)["n_context"]) for k in range(2)] == [19, 19]
    assert vrag(src, tmp_path / "e", "--split", "test", "--pattern", "rotate") == 0
    said = report(tmp_path / "e", "test")
    assert [each["id"] for each in said["skipped"]] == ["walk0", "walk1", "walk2"]
    assert "wanted rotate" in said["skipped"][0]["reason"]


def test_mazes_keep_their_observations(tmp_path):
    expected = files.memory_maze(tmp_path / "src")
    assert run("--format", "memory_maze", "--src", tmp_path / "src", "--dst", tmp_path / "d") == 0
    episodes = Episodes(tmp_path / "d", "train")
    episode, arrays = episodes.read(0), files.maze_arrays()
    info = episodes.spec.info
    assert info["pose"] == ["x", "y", "cos", "sin"] and info["pose_scale"][0] == 1 / 9
    np.testing.assert_array_equal(episode["frames"], arrays["image"])
    np.testing.assert_array_equal(episode["actions"], expected.actions)
    np.testing.assert_allclose(episode["pose"], expected.pose, atol=1e-6)
    np.testing.assert_array_equal(episodes.static(0)["maze_layout"], arrays["maze_layout"][0])
    np.testing.assert_allclose(episode["target_color"], arrays["target_color"], atol=1e-6)
    assert condition_dim(episodes.spec, WITH_POSE) == 6 + 4


def test_a_stopped_run_continues_to_the_same_bytes(recordings, tmp_path, monkeypatch, capsys):
    src, _ = recordings
    job = ["--format", "vrag", "--src", src, "--size", "32x24", "--test-episodes", 2, "--shard-episodes", 2]
    assert run(*job, "--dst", tmp_path / "whole") == 0
    made, make = [], convert.make_episode

    def stop_after(count):
        def task(*arguments):
            if len(made) == count:
                raise KeyboardInterrupt
            made.append(arguments)
            return make(*arguments)

        return task

    for count in (0, 3, 6):
        monkeypatch.setattr(convert, "make_episode", stop_after(count))
        assert run(*job, "--dst", tmp_path / "stopped", "--test-dst", tmp_path / "stopped_test") == 130
        assert "convert: stopped; the same command continues" in capsys.readouterr().err
    looked = []
    monkeypatch.setattr(convert, "make_episode", make)
    inspect = survey.inspect
    monkeypatch.setattr(survey, "inspect", lambda *arguments: looked.append(arguments) or inspect(*arguments))
    assert run(*job, "--dst", tmp_path / "stopped") == 0
    assert not looked, "recordings that had been checked were checked again"
    for suffix in ("", "_test"):
        assert data_set(tmp_path / f"whole{suffix}") == data_set(tmp_path / f"stopped{suffix}")


@pytest.mark.parametrize("moment", ["checking", "writing"])
def test_only_one_process_converts_into_a_directory(moment, recordings, tmp_path, monkeypatch, capsys):
    src, _ = recordings
    job = ["--format", "vrag", "--src", src, "--dst", tmp_path / "d"]
    module, name = {"checking": (survey, "inspect"), "writing": (convert, "make_episode")}[moment]
    task, tries = getattr(module, name), []

    def meanwhile(*arguments):
        if not tries:
            capsys.readouterr()
            # Other settings, under which the journal and the report of the first one would be lost.
            tries.append(run(*job, "--size", "32x24"))
            tries.append(capsys.readouterr())
        return task(*arguments)

    monkeypatch.setattr(module, name, meanwhile)
    assert run(*job) == 0
    status, said = tries
    assert status == 2 and said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith("convert: error: process ") and str(tmp_path / "d") in said.err
    monkeypatch.undo()
    assert vrag(src, tmp_path / "alone") == 0
    assert data_set(tmp_path / "d") == data_set(tmp_path / "alone")
    assert run(*job) == 0, "the directory is free again"


def test_processes_write_the_same_bytes(recordings, tmp_path):
    src = shutil.copytree(recordings[0], tmp_path / "src")
    (src / "0/000002.npz").write_bytes(b"")
    for workers in (1, 2):
        options = ["--size", "32x24", "--workers", workers, "--shard-episodes", 2]
        assert vrag(src, tmp_path / str(workers), *options) == 0
    assert data_set(tmp_path / "1") == data_set(tmp_path / "2")


def test_other_recordings_do_not_continue_a_data_set(recordings, tmp_path, capsys):
    src, _ = recordings
    src = shutil.copytree(src, tmp_path / "src")
    assert vrag(src, tmp_path / "d") == 0
    before = {n: data for n, data in contents(tmp_path / "d").items() if "index" in n or "array" in n}
    (src / "0/000002.npz").unlink()
    assert vrag(src, tmp_path / "d") == 2
    assert "info.recordings = " in capsys.readouterr().err.splitlines()[-1]
    shutil.copy(recordings[0] / "0/000002.npz", src / "0")
    files.vrag(src, name="0/000004", frames=28, columns=4)
    assert vrag(src, tmp_path / "d") == 2
    files.vrag(src, name="0/000004", frames=28, seed=99)
    assert vrag(src, tmp_path / "d") == 2
    assert "info.recordings = " in capsys.readouterr().err.splitlines()[-1]
    files.teco(tmp_path / "teco")
    assert run("--format", "teco", "--src", tmp_path / "teco", "--dst", tmp_path / "d") == 2
    assert "'minecraft_vrag'" in capsys.readouterr().err
    after = contents(tmp_path / "d")
    assert all(after[name] == data for name, data in before.items())


@pytest.mark.parametrize(
    "options",
    [
        "--format VRAG --src SRC --dst DST",
        "--format vrag --src SRC/nothing --dst DST",
        "--format loopnav --src SRC --dst DST",
        "--format vrag --src SRC --dst DST --size 128",
        "--format vrag --src SRC --dst DST --size 128x72000",
        "--format vrag --src SRC --dst DST --split Train",
        "--format vrag --src SRC --dst DST --workers 0",
        "--format vrag --src SRC --dst DST --test-share 1.5",
        "--format vrag --src SRC --dst DST --test-share 0.5 --test-episodes 2",
        "--format vrag --src SRC --dst DST --test-dst elsewhere",
        "--format vrag --src SRC --dst DST --test-episodes 2 --test-dst DST",
        "--format vrag --src SRC --dst DST --test-episodes 2 --split test",
        "--format vrag --src SRC --dst DST --context 5",
        "--format vrag --src SRC --dst DST --pattern rotate",
        "--format vrag --src SRC --dst DST --test-frames 5",
        "--format vrag --src SRC --dst DST --split test --pattern spin",
        "--format vrag --src SRC --dst DST --skip -1",
    ],
)
def test_wrong_options_are_one_line_and_write_nothing(options, recordings, tmp_path, capsys):
    src = recordings[0]
    words = options.replace("SRC", str(src)).replace("DST", str(tmp_path / "d")).split()
    assert run(*words) == 2
    commands.refused(capsys, "convert")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--test-episodes 8", "8 test episodes: 7 of 7 recordings can be evaluated"),
        ("--test-episodes 7", "7 test episodes of 7"),
        ("--test-episodes 1 --pattern polygon", "0 of 7 recordings can be evaluated"),
        ("--split test --context 100", "none of 7 recordings can be used"),
        ("--split test --test-frames 5 --context 5", "none of 7 recordings can be used"),
        ("--min-frames 100", "none of 7 recordings can be used"),
    ],
)
def test_wishes_that_the_recordings_cannot_fulfil_are_refused(options, reason, recordings, tmp_path, capsys):
    assert vrag(recordings[0], tmp_path / "d", *options.split()) == 2
    assert reason in capsys.readouterr().err.splitlines()[-1]
    assert (
        not (tmp_path / "d/index.json").exists()
        and not report(tmp_path / "d", "test" if "--split" in options else "train")["splits"]
    )


def test_a_disk_that_is_too_small_is_said_before_anything_is_written(
    recordings, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(convert.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 5, 5))
    assert vrag(recordings[0], tmp_path / "d") == 2
    assert "--size" in capsys.readouterr().err.splitlines()[-1]
    assert not list((tmp_path / "d").glob("*.array_record*"))
