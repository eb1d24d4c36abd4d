"""The files of the command: layout, what the reader of VRAG's files makes of them, what is made again."""

import json
from functools import partial

import numpy as np
import pytest

from data_prep import make_voxel, recordings
from data_prep.make_voxel import make_episode
from data_prep.recordings.actions import ACTIONS
from data_prep.recordings.video import scale
from data_prep.worlds.voxel.recipe import Recipe
from rad_jax.files import FileLock
from tests.data_prep import commands
from tests.data_prep.commands import contents

TINY = ["--size", "32x32", "--frames", "30"]

run = partial(commands.run, make_voxel.main)


def psnr(a, b) -> float:
    return float(-10 * np.log10(np.mean((a / 255.0 - b / 255.0) ** 2) + 1e-10))


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """Random walks of two workers, as written."""
    directory = tmp_path_factory.mktemp("voxel")
    job = ["--protocol", "train", *TINY, "--turn-probability", "0.4"]
    assert run("--out", directory, *job, "--episodes", 2) == 0
    assert run("--out", directory, *job, "--episodes", 1, "--worker", 1, "--first", 2) == 0
    return directory


def test_layout_is_that_of_vrag(walked):
    assert json.loads((walked / "0/recipe.json").read_text())["turn_probability"] == 0.4
    assert sorted(contents(walked)) == [
        *("0/000000.mp4", "0/000000.npz", "0/000001.mp4", "0/000001.npz", "0/recipe.json"),
        *("1/000002.mp4", "1/000002.npz", "1/recipe.json"),
    ]
    with np.load(walked / "0/000000.npz") as arrays:
        assert list(arrays) == ["actions", "pose"]
        rows, pose = arrays["actions"], arrays["pose"]
    assert rows.shape == (30, 8) and rows.dtype == np.float32 and not rows[0].any()
    assert set(np.unique(rows[:, :3])) <= {0, 1} and set(np.unique(rows[:, 3])) == {-1, 0, 1}
    turned = (np.diff(rows[1:, 7]) + 180) % 360 - 180
    assert np.array_equal(turned, 20 * rows[2:, 3])
    assert np.array_equal(rows[1:, 4:], pose[1:, :4]) and pose[0].any() and not pose[:, 4].any()


def test_the_reader_of_vrag_reads_them(walked):
    candidates = recordings.find("vrag", walked)
    assert [candidate.id for candidate in candidates] == ["0-000000", "0-000001", "1-000002"]
    recipe = Recipe("train", size="32x32", frames=30, turn_probability=0.4)
    for index, candidate in enumerate(candidates):
        recording = recordings.read("vrag", candidate)
        episode = make_episode(recipe, index)
        assert (recording.num_frames, recording.notes) == (30, ())
        for name, column in (("forward", 0), ("back", 1), ("jump", 2), ("cameraY", 3)):
            assert np.array_equal(recording.actions[:, ACTIONS.index(name)], episode.walk.action[:, column])
        np.testing.assert_allclose(recording.pose[1:, :4], episode.walk.pose[1:], atol=1e-4)
        decoded = np.concatenate(list(recordings.frames(recording, (16, 16))))
        truth = scale(episode.frames, (16, 16))
        assert decoded.shape == truth.shape == (30, 16, 16, 3)
        scores = [psnr(decoded[t], truth[t]) for t in range(30)]
        assert min(scores) > 35
        # Frame t shows what action t led to: a frame off, and the pictures differ more.
        assert np.mean(scores) > 10 + psnr(decoded[1:].astype(float), truth[:-1])


def test_evaluations_say_what_is_given_and_what_a_perfect_map_shows(tmp_path):
    assert run("--out", tmp_path, "--protocol", "rotate", "--episodes", 1, "--size", "32x32") == 0
    (candidate,) = recordings.find("vrag", tmp_path)
    recording = recordings.read("vrag", candidate)
    assert (recording.n_context, recording.num_frames) == (60, 100)
    with np.load(tmp_path / "0/000000.npz") as arrays:
        n_context, oracle, pose = arrays["n_context"], arrays["oracle"], arrays["pose"]
    assert n_context == 60 and n_context.dtype == np.int32
    episode = make_episode(Recipe("rotate", "test", size="32x32"), 0)
    assert np.array_equal(oracle, episode.oracle) and np.array_equal(oracle, episode.frames)
    np.testing.assert_allclose(pose[:, :4], episode.walk.pose)


def test_the_oracle_of_a_way_back_is_near_the_truth_and_not_it():
    episode = make_episode(Recipe("return", "test", size="16x16"), 1)
    n = episode.walk.n_context
    assert np.array_equal(episode.oracle[:n], episode.frames[:n])
    seen_before = psnr(episode.frames[: 100 - n], episode.frames[n:])
    assert 40 > psnr(episode.oracle[n:], episode.frames[n:]) > seen_before + 3


def test_two_processes_do_not_write_the_same_episodes(tmp_path, capsys):
    (tmp_path / "0").mkdir()
    with FileLock(tmp_path / "0/.lock"):
        assert run("--out", tmp_path, "--protocol", "train", *TINY, "--episodes", 1) == 2
    assert "--worker" in capsys.readouterr().err
    assert contents(tmp_path) == {}
