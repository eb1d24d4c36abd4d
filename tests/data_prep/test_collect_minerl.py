"""The collector's protocol, with a stand-in for the game."""

from functools import partial
from unittest.mock import Mock

import numpy as np
import pytest

from data_prep import collect_minerl
from data_prep.collect_minerl import MineRL
from data_prep.recordings import find, frames, read
from data_prep.worlds.voxel import episodes
from data_prep.worlds.voxel.motion import Action, Seen
from tests.data_prep import commands
from tests.data_prep.recordings import format_files as files

GAMES = []


class Game:
    """Shows the number of its frame, moves as told, and is over early in every episode whose number is in ``deaths``."""

    def __init__(self, deaths=()):
        self.deaths, self.episode, self.actions = deaths, -1, []
        GAMES.append(self)

    def reset(self) -> Seen:
        self.episode, self.t, self.yaw, self.x, self.z = self.episode + 1, 0, 90.0, 5.0, 7.0
        return self._seen()

    def step(self, action: Action):
        self.actions.append(action)
        self.t, self.yaw = self.t + 1, self.yaw + 20 * action.turn
        self.x -= 0.2 * action.forward * np.sin(np.radians(self.yaw))
        self.z += 0.2 * action.forward * np.cos(np.radians(self.yaw))
        return self._seen(), self.episode in self.deaths and self.t == 4

    def _seen(self) -> Seen:
        return Seen(self.x, 64.0, self.z, self.yaw, files.bars(self.t))


def run(out, *options, game=None) -> int:
    GAMES.clear()
    main = partial(collect_minerl.main, open_game=game or (lambda options: Game()))
    return commands.run(main, "--out", out, "--frames", 20, *options)


@pytest.mark.parametrize("policy", collect_minerl.POLICIES)
def test_what_is_recorded_is_read_as_it_was_played(policy, tmp_path):
    assert run(tmp_path, "--episodes", 2, "--policy", policy) == 0
    candidates = find("vrag", tmp_path)
    assert [candidate.id for candidate in candidates] == ["0-000000", "0-000001"]
    played = [np.array(GAMES[0].actions[start : start + 19]) for start in (0, 19)]
    for candidate, actions in zip(candidates, played, strict=True):
        recording = read("vrag", candidate)
        assert recording.num_frames == 20
        np.testing.assert_array_equal(recording.actions[1:, [11, 12, 17, 16]], actions)
        np.testing.assert_allclose(recording.pose[1:, 3], 90 + 20 * np.cumsum(actions[:, 3]), atol=1e-4)
        assert files.numbers(np.concatenate(list(frames(recording)))) == list(range(20))
        if policy == "rotate":
            assert not actions[:, :3].any() and set(actions[:, 3]) in ({-1}, {1})


def test_recordings_that_are_there_are_kept_and_half_pairs_made_again(tmp_path, capsys):
    assert run(tmp_path, "--episodes", 3) == 0
    whole = commands.contents(tmp_path)
    (tmp_path / "0/000001.npz").unlink()
    (tmp_path / "0/000002.mp4").unlink()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("000000*")}
    assert run(tmp_path, "--episodes", 3) == 0
    assert "2 new episodes" in capsys.readouterr().out and len(GAMES[0].actions) == 2 * 19
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items()) and len(kept) == 2
    assert commands.contents(tmp_path).keys() == whole.keys()
    assert run(tmp_path, "--episodes", 3) == 0
    assert not GAMES, "a game was opened for nothing"
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_actions_of_another_recording_are_never_left_beside_a_new_video(tmp_path, monkeypatch):
    assert run(tmp_path, "--episodes", 1) == 0
    (tmp_path / "0/000000.mp4").unlink()
    monkeypatch.setattr(episodes, "write_bytes", Mock(side_effect=OSError("the disk is full")))
    assert run(tmp_path, "--episodes", 1) == 2
    assert not (tmp_path / "0/000000.npz").exists()


def test_an_episode_that_was_over_early_is_recorded_again_but_not_for_ever(tmp_path, capsys):
    assert run(tmp_path / "a", "--episodes", 1, game=lambda options: Game(deaths=(0, 1))) == 0
    assert len(GAMES[0].actions) == 4 + 4 + 19 and len(find("vrag", tmp_path / "a")) == 1
    assert run(tmp_path / "b", "--episodes", 1, game=lambda options: Game(deaths=range(100))) == 2
    assert "episode 0 was" in commands.refused(capsys, "collect_minerl")
    assert not list((tmp_path / "b/0").iterdir())


def test_workers_share_the_episodes_in_directories_of_their_own(tmp_path):
    options = collect_minerl.parse(
        ["--out", str(tmp_path), *["--episodes", "5", "--workers", "3", "--frames", "20"]]
    )
    counts = [collect_minerl.record_worker(options, lambda options: Game(), worker) for worker in range(3)]
    assert counts == [2, 2, 1]
    recorded = find("vrag", tmp_path)
    assert [c.id for c in recorded] == ["0-000000", "0-000001", "1-000000", "1-000001", "2-000000"]
    first, second = (read("vrag", candidate).actions for candidate in recorded[:3:2])
    assert (first != second).any(), "two workers did the same"


def test_without_minerl_it_says_so(tmp_path, capsys):
    assert commands.run(collect_minerl.main, "--out", tmp_path, "--episodes", 1) == 2
    assert "MineRL 0.4.4" in commands.refused(capsys, "collect_minerl")
    assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert run(tmp_path / "file", "--episodes", 1) == 2
    assert "file" in commands.refused(capsys, "collect_minerl")
    assert commands.contents(tmp_path) == {"file": b"mine"}


def test_actions_reach_minerl_in_its_own_terms():
    place = {"xpos": np.array(1.0), "ypos": np.array(2.0), "zpos": np.array(3.0), "yaw": np.array(-4.0)}
    seen = {"pov": files.bars(3), "location_stats": place}
    asked = []

    class Gym:
        def reset(self):
            return seen

        def step(self, action):
            asked.append(action)
            return seen, 0.0, True, {}

    game = MineRL(Gym())
    assert game.reset()[:4] == (1, 2, 3, -4)
    assert game.step(Action(forward=1, jump=1, turn=-1))[1] is True
    assert {name: asked[0][name].tolist() for name in asked[0]} == {
        "forward": 1, "back": 0, "jump": 1, "camera": [0.0, -20.0],
    }  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    ["--episodes 0", "--policy fly", "--size 640", "--frames 1", "--turn-probability 0.6", "--workers 0"],
)
def test_wrong_options_are_one_line(wrong, tmp_path, capsys):
    assert run(tmp_path / "out", "--episodes", 1, *wrong.split()) == 2
    assert wrong.split()[0] in commands.refused(capsys, "collect_minerl")
    assert not (tmp_path / "out").exists()
