"""The recorder of Luanti without the engine: the picture's file, the pipes, what becomes an episode."""

import itertools
import math
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from data_prep import make_luanti
from data_prep.worlds.luanti import engine as engine_module
from data_prep.worlds.luanti.display import LuantiError, open_screen
from data_prep.worlds.luanti.engine import Engine
from data_prep.worlds.luanti.recipe import Recipe
from data_prep.worlds.luanti.session import record
from data_prep.worlds.luanti.world import make_home
from data_prep.worlds.recipe import RecipeError
from data_prep.worlds.voxel.episodes import write_episode
from data_prep.worlds.voxel.motion import WALK, Action, Seen
from tests.data_prep import commands

# Stand-ins for the two programs. The display writes one screen and its number; the engine answers, and misbehaves on
# the seeds 666 to 668.
DISPLAY = """#!{python}
import os, signal, struct, sys
words = sys.argv[1:]
width, height = map(int, words[words.index("-screen") + 2].split("x")[:2])
header = [104, 7, 2, 24, width, height, 0, 0, 32, 0, 32, 32, 4 * width, 4, 0, 0, 0, 24, 256, 2, width, height, 0, 0, 0]
with open(os.path.join(words[words.index("-fbdir") + 1], "Xvfb_screen0"), "wb") as screen:
    screen.write(struct.pack(">25I", *header) + b"name" + bytes(24) + bytes(range(4)) * (width * height))
with open(os.path.join(words[words.index("-fbdir") + 1], "display.pid"), "w") as file:
    file.write(str(os.getpid()))
os.write(int(words[words.index("-displayfd") + 1]), b"77\\n")
signal.pause()
"""
ENGINE = """#!{python}
import os, sys
assert os.environ["DISPLAY"] == ":77" and "--go" in sys.argv
assert os.path.exists(sys.argv[sys.argv.index("--config") + 1])
if os.path.exists(os.path.join(os.environ["HOME"], "broken")):
    sys.exit(3)
actions = open(os.environ["RAD_IN"])
answers = open(os.environ["RAD_OUT"], "w", buffering=1)
count, x, yaw = 0, 0.0, 0
for line in actions:
    words = line.split()
    if words[0] == "reset":
        count, x, yaw = 0, 10.0, 90
        if words[1] == "666":
            sys.exit(5)
        if words[1] == "667":
            answers.write("error no place to stand for this seed\\n")
            continue
        if words[1] == "668":
            count = 3
    else:
        count, x, yaw = count + 1, x + 0.5 * int(words[0]), yaw + 20 * int(words[3])
    answers.write(f"{{count}} {{x}} 7.5 -2.0 {{yaw}}\\n")
"""


class Landscape:
    """Frames that tell the yaw; a wall before the first `walls` places; clouds for the first `moving` steps; after
    each of the first `resets` one frame differs, at step `late`."""

    def __init__(self, walls: int = 0, moving: int = 0, late: int = -1, resets: int = 1):
        self.walls, self.moving, self.late, self.resets = walls, moving, late, resets
        self.seeds, self.steps = [], []

    def reset(self, seed: int) -> Seen:
        self.seeds.append(seed)
        self.steps.clear()
        self.x, self.z, self.yaw = 0.0, 0.0, 40
        return self._seen()

    def step(self, action: Action) -> Seen:
        self.steps.append(action)
        self.yaw = (self.yaw + 20 * action.turn + 180) % 360 - 180
        if len(self.seeds) > self.walls or not action.forward:
            distance = WALK * (action.forward - action.back)
            self.x -= distance * math.sin(math.radians(self.yaw))
            self.z += distance * math.cos(math.radians(self.yaw))
        return self._seen()

    def _seen(self) -> Seen:
        frame = np.full((8, 8, 3), (self.yaw + 180) // 2, np.uint8)
        frame[0, 0, 0] = len(self.steps) % 251 if len(self.steps) < self.moving else 0
        frame[0, 0, 1] += len(self.seeds) <= self.resets and len(self.steps) == self.late
        return Seen(self.x, 64.5, self.z, float(self.yaw), frame)


def test_the_picture_is_read_from_the_screens_file(tmp_path):
    """Lines longer than the picture, a table of colours, blue first."""
    rng = np.random.default_rng(0)
    picture = rng.integers(256, size=(6, 10, 3), dtype=np.uint8)
    lines = np.zeros((6, 48), np.uint8)
    lines[:, :40] = np.concatenate([picture[:, :, ::-1], np.zeros((6, 10, 1), np.uint8)], 2).reshape(6, 40)
    words = [0] * 25
    words[0], words[4], words[5], words[11], words[12], words[19] = 107, 10, 6, 32, 48, 5
    path = tmp_path / "screen"
    path.write_bytes(struct.pack(">25I", *words) + b"screen\0" + bytes(60) + lines.tobytes())
    assert np.array_equal(open_screen(path, 10, 6), picture)
    for width, height in ((6, 10), (10, 7)):
        with pytest.raises(LuantiError, match=f"10x6 .* {width}x{height}"):
            open_screen(path, width, height)
    path.write_bytes(b"abc")
    with pytest.raises(LuantiError, match="screen: 3 bytes"):
        open_screen(path, 10, 6)


def test_the_engines_directory_holds_settings_world_and_mods(tmp_path):
    (tmp_path / ".minetest").mkdir()
    (tmp_path / ".minetest" / "old").write_text("from another seed")
    settings, world = make_home(tmp_path, 7, 128, 72)
    lines = dict(line.split(" = ") for line in settings.read_text().splitlines())
    assert (lines["fixed_map_seed"], lines["screen_w"], lines["screen_h"]) == ("7", "128", "72")
    assert lines["secure.trusted_mods"] == "raddrv" and lines["enable_mod_channels"] == "true"
    assert "load_mod_raddrv = true" in (world / "world.mt").read_text()
    for mod in ("mods/raddrv", "clientmods/radcsm"):
        assert (tmp_path / ".minetest" / mod / "init.lua").stat().st_size > 1000
        assert (tmp_path / ".minetest" / mod / "mod.conf").read_text().startswith(f"name = {Path(mod).name}")
    assert not (tmp_path / ".minetest" / "old").exists()


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Path:
    """A directory with stand-ins for both programs, the only one on the path."""
    place = tmp_path / "programs"
    place.mkdir()
    for name, text in (("Xvfb", DISPLAY), ("minetest", ENGINE)):
        (place / name).write_text(text.format(python=sys.executable))
        (place / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(place))
    return place


def test_one_action_in_one_pose_and_frame_out(programs, tmp_path):
    with Engine(tmp_path, 1, 64, 48) as engine:
        seen = engine.reset(5)
        assert seen[:4] == (-10.0, 7.5, -2.0, 90.0), "x is not mirrored"
        assert seen.frame.shape == (48, 64, 3) and (seen.frame == (2, 1, 0)).all()
        assert engine.step(Action(forward=1, turn=-1))[:4] == (-10.5, 7.5, -2.0, 70.0)
        assert engine.step(Action(back=1))[:4] == (-10.5, 7.5, -2.0, 70.0)
        process = engine._process
    assert process.poll() is not None, "closing left the engine behind"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "display.pid").read_text()), 0)


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        (666, "the engine ended with status 5"),
        (667, "no place to stand"),
        (668, "answered '3 10.0 7.5 -2.0 90' to step 0"),
    ],
)
def test_what_the_engine_does_wrong_is_an_error(seed, message, programs, tmp_path):
    with Engine(tmp_path, 1, 64, 48) as engine, pytest.raises(LuantiError, match=message):
        engine.reset(seed)


def test_an_engine_that_does_not_start_or_answer_is_an_error(programs, tmp_path, monkeypatch):
    (tmp_path / "broken").touch()
    with Engine(tmp_path, 1, 64, 48) as engine, pytest.raises(LuantiError, match="ended with status 3, see"):
        engine.reset(5)
    (tmp_path / "broken").unlink()
    monkeypatch.setattr(engine_module, "_ANSWER_SECONDS", 0.5)
    with Engine(tmp_path, 1, 64, 48) as engine, pytest.raises(LuantiError, match=r"answer in 0\.5 s"):
        engine._answer()


def test_missing_programs_are_named_with_the_way_to_get_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(engine_module, "PROGRAMS", ("an-engine-that-is-not-there",))
    words = ["--protocol", "train", "--episodes", 1, "--size", "64x64"]
    assert commands.run(make_luanti.main, "--out", tmp_path / "out", *words) == 2
    assert "apt-get install minetest xvfb" in commands.refused(capsys, "make_luanti")
    assert not (tmp_path / "out").exists()


def test_training_walks_are_vrags_and_rows_lead_to_their_frames():
    episode = record(Recipe("train", size="64x64", frames=80), 0, landscape := Landscape())
    walk = episode.walk
    assert walk.action.shape == (80, 4) and not walk.action[0].any() and walk.n_context is None
    assert [tuple(row) for row in walk.action[1:]] == landscape.steps[-79:]
    held = walk.action[1:76].reshape(15, 5, 4)
    assert (held == held[:, :1]).all(), "not held for five steps"
    turned = (np.diff(walk.pose[:, 3]) + 180) % 360 - 180
    assert np.array_equal(turned, 20 * walk.action[1:, 3]) and turned.any()
    # A frame shows the yaw of its pose.
    assert np.array_equal(episode.frames[:, 4, 4, 0], (walk.pose[:, 3] + 180) // 2)


ROTATE = Recipe("rotate", split="test", size="64x64")


def test_recording_begins_when_revolutions_repeat():
    for landscape, settling in ((Landscape(), 90), (Landscape(moving=40), 144)):
        episode = record(ROTATE, 0, landscape)
        assert len(landscape.steps) == settling + 99 and set(landscape.steps[:settling]) == {Action(turn=1)}
        assert episode.walk.n_context == 60 and np.array_equal(episode.frames[:82], episode.frames[18:])


# 90 steps settle; after that one of 99 frames differs from the others of its yaw.
@pytest.mark.parametrize(
    ("late", "resets", "attempts"),
    [(90, 1, [1]), (91, 1, [2]), (150, 1, [2]), (189, 1, [2]), (190, 1, [1]), (150, 3, [3, 1])],
)
def test_a_rotation_whose_terrain_arrived_late_is_recorded_again_and_the_place_left_at_last(
    late, resets, attempts
):
    episode = record(ROTATE, 0, landscape := Landscape(late=late, resets=resets))
    assert [len(list(same)) for _, same in itertools.groupby(landscape.seeds)] == attempts
    assert len(np.unique(episode.frames, axis=0)) == 18


def test_places_that_never_stand_still_or_are_blocked_are_left():
    blocked = Landscape(walls=2)
    episode = record(Recipe("loop", split="test", size="64x64"), 0, blocked)
    assert len(blocked.seeds) == 3 and len(set(blocked.seeds)) == 3 and episode.walk.n_context == 60
    moved = np.hypot(*np.diff(episode.walk.pose[:, [0, 2]], axis=0).T)
    assert np.allclose(moved, WALK * episode.walk.action[1:, 0])
    with pytest.raises(RecipeError, match=r"episode 1, protocol return: 40 tries.*blocks are in the way"):
        record(Recipe("return", split="test", size="64x64"), 1, Landscape(walls=99))
    with pytest.raises(RecipeError, match=r"protocol rotate: 40 tries.*did not stand still"):
        record(Recipe("rotate", size="64x64"), 1, Landscape(moving=10**9))
    # Training walks see new terrain anyway.
    record(Recipe("train", size="64x64", frames=10), 1, Landscape(moving=10**9))


def test_episodes_are_functions_of_their_index():
    recipe = Recipe("loop", size="64x64", frames=60)
    first, again, other = (record(recipe, index, Landscape()) for index in (4, 4, 5))
    assert np.array_equal(first.walk.action, again.walk.action) and np.array_equal(first.frames, again.frames)
    assert not np.array_equal(first.walk.action, other.walk.action)


def test_evaluations_are_stored_without_an_oracle(tmp_path):
    """The map is not known, so nothing is stored in its place."""
    write_episode(tmp_path, 3, record(ROTATE, 0, Landscape()), 1)
    with np.load(tmp_path / "000003.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"actions", "pose", "n_context"} and arrays["n_context"] == 60
        assert arrays["actions"].shape == (100, 8) and not arrays["actions"][0].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "32x32"}, "size: 32x32 is too small for the engine"),
        ({"size": "64x64", "supersample": 2}, "supersample: 2 has no meaning"),
        ({"size": "64x64", "map_seed": -1}, "map_seed: -1 is out of range"),
    ],
)
def test_impossible_recipes_are_refused(options, message):
    with pytest.raises(RecipeError, match=message):
        Recipe("train", **options)
