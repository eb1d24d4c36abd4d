"""Every reader on files in the real layout: how many frames, which, the action that led to each, poses."""

import json
import struct

import numpy as np
import pytest

from data_prep.recordings import BadRecording, find, frames, read, source
from data_prep.recordings.actions import ACTIONS, camera_degrees, camera_value
from data_prep.worlds.maze import motion
from rad_jax.data import DataError
from tests.data_prep.recordings import format_files as files


def one(name: str, directory):
    (candidate,) = find(name.partition("-")[0], directory)
    return read(name.partition("-")[0], candidate)


@pytest.mark.parametrize("name", files.WRITERS)
def test_frames_actions_and_poses_are_those_that_were_recorded(name, tmp_path):
    if name.startswith("oasis"):
        pytest.importorskip("torch")
    expected = files.WRITERS[name](tmp_path)
    recording = one(name, tmp_path)
    assert recording.num_frames == len(expected.numbers)
    shown = np.concatenate(list(frames(recording)))
    assert shown.shape == (len(expected.numbers), files.HEIGHT, files.WIDTH, 3) and shown.dtype == np.uint8
    assert files.numbers(shown) == expected.numbers
    assert recording.actions.dtype == np.float32
    np.testing.assert_allclose(recording.actions, expected.actions, atol=1e-6)
    assert not recording.actions[0].any()
    assert (recording.camera_deg is None) == (expected.camera_deg is None)
    if expected.camera_deg is not None:
        np.testing.assert_allclose(recording.camera_deg, expected.camera_deg, atol=1e-4)
    pose = np.nan * recording.pose if expected.pose is None else expected.pose
    np.testing.assert_allclose(recording.pose, pose, atol=0.1 if name == "loopnav" else 1e-4)
    assert recording.n_context == expected.n_context


@pytest.mark.parametrize("name", ["vrag", "loopnav", "vpt", "minerl", "memory_maze"])
@pytest.mark.parametrize("size", [(24, 32), (96, 128)])
def test_frames_are_scaled(name, size, tmp_path):
    expected = files.WRITERS[name](tmp_path)
    shown = np.concatenate(list(frames(one(name, tmp_path), size)))
    assert shown.shape == (len(expected.numbers), *size, 3)
    assert files.numbers(shown) == expected.numbers


def test_long_videos_come_in_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("data_prep.recordings.video._CHUNK_BYTES", 5 * files.HEIGHT * files.WIDTH * 3)
    expected = files.vrag(tmp_path)
    chunks = list(frames(one("vrag", tmp_path)))
    assert [len(chunk) for chunk in chunks] == [5, 5, 5, 5, 4]
    assert files.numbers(np.concatenate(chunks)) == expected.numbers


def test_a_cut_is_a_recording_of_its_own(tmp_path):
    expected = files.vrag(tmp_path)
    cut = one("vrag", tmp_path).cut(5, 15)
    assert files.numbers(np.concatenate(list(frames(cut)))) == expected.numbers[5:15]
    assert not cut.actions[0].any() and not cut.camera_deg[0].any()
    np.testing.assert_array_equal(cut.actions[1:], expected.actions[6:15])
    np.testing.assert_allclose(cut.pose, expected.pose[5:15], atol=1e-4)
    with pytest.raises(BadRecording, match=r"10 frames.*9"):
        cut.cut(9)


@pytest.mark.parametrize("skip", [0, 3])
def test_the_number_of_frames_left_out_can_be_chosen(skip, tmp_path):
    files.worldmem(tmp_path, frames=30, skip=skip)
    (candidate,) = find("worldmem", tmp_path)
    with pytest.raises(BadRecording, match=r"30 frames.*100"):
        read("worldmem", candidate)
    recording = read("worldmem", candidate, skip=skip)
    assert files.numbers(np.concatenate(list(frames(recording)))) == list(range(skip, 30))


def test_the_quantiser_has_the_published_values():
    """Those of open-oasis issues #9 and #48."""
    degrees = np.array([0, 5, 6, 7, 8, 9, 10, 12, 15, 18, 19, 20, 90])
    values = np.array([0, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.725, 0.85, 0.95, 0.975, 1, 1])
    for sign in (-1, 1):
        np.testing.assert_allclose(camera_value(sign * degrees), sign * values, atol=1e-7)


def test_the_quantiser_and_its_inverse_agree_in_every_bin():
    values = ((np.arange(81) - 40) / 40).astype(np.float32)
    np.testing.assert_array_equal(camera_value(camera_degrees(values)), values)
    assert camera_degrees(0.5) == pytest.approx(20 * (3.7**0.5 - 1) / 2.7)


def test_the_action_vector_has_the_documented_order():
    slots = [f"hotbar.{slot}" for slot in range(1, 10)]
    moves = ["forward", "back", "left", "right", "cameraX", "cameraY", "jump", "sneak", "sprint"]
    others = ["swapHands", "attack", "use", "pickItem", "drop"]
    assert list(ACTIONS) == ["inventory", "ESC", *slots, *moves, *others]


def test_recordings_come_in_order_of_their_names_and_every_directory_counts_once(tmp_path):
    src = tmp_path / "src"
    for name in ("w/000001", "a/000002", "000000"):
        files.vrag(src, name=name)
    files.vrag(tmp_path / "disk", name="000002")
    (src / "._000000.mp4").write_bytes(b"what some systems leave behind")
    (src / "b").symlink_to(src / "w")  # has a name of its own already
    (src / "linked").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/back").symlink_to(src)
    found = [candidate.id for candidate in find("vrag", src)]
    assert found == ["000000", "a-000002", "linked-000002", "w-000001"]


def show_by_matrix(path, a, b, c, d):
    """Asks players of an mp4 to show (x, y) at (a x + c y, b x + d y)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 20 + 16
    one = 1 << 16
    data[at : at + 36] = struct.pack(">9i", *(int(v * one) for v in (a, b, 0, c, d, 0, 0, 0)), 1 << 30)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("matrix", "upright"),
    [
        ((0, -1, 1, 0), lambda frames: np.rot90(frames, 1, (1, 2))),
        ((0, 1, -1, 0), lambda frames: np.rot90(frames, -1, (1, 2))),
        ((-1, 0, 0, -1), lambda frames: frames[:, ::-1, ::-1]),
        ((-1, 0, 0, 1), lambda frames: frames[:, :, ::-1]),
        ((1, 0, 0, -1), lambda frames: frames[:, ::-1]),
        ((0, 1, 1, 0), lambda frames: np.swapaxes(frames, 1, 2)),
        ((0, -1, -1, 0), lambda frames: np.swapaxes(frames, 1, 2)[:, ::-1, ::-1]),
    ],
)
def test_a_video_is_turned_as_players_show_it(matrix, upright, tmp_path):
    files.vrag(tmp_path)
    # Whole bars look the same upside down.
    files.write_video(next(tmp_path.rglob("*.mp4")), "mp4v", 24, rows=16)
    expected = upright(np.concatenate(list(frames(one("vrag", tmp_path)))))
    show_by_matrix(next(tmp_path.rglob("*.mp4")), *matrix)
    turned = one("vrag", tmp_path)
    np.testing.assert_array_equal(np.concatenate(list(frames(turned))), expected)
    assert next(frames(turned, (20, 30))).shape[1:] == (20, 30, 3)


def test_a_video_that_is_to_be_shown_askew_is_refused(tmp_path):
    files.vrag(tmp_path)
    show_by_matrix(next(tmp_path.rglob("*.mp4")), 0.7, 0.7, -0.7, 0.7)
    with pytest.raises(BadRecording, match=r"0\.69"):
        one("vrag", tmp_path)


def test_the_actions_of_memory_maze_are_those_of_the_ray_cast_one():
    assert source("memory_maze").actions == motion.ACTIONS


def test_no_directory_and_no_format_are_said(tmp_path):
    with pytest.raises(DataError, match=r"nothing"):
        find("vrag", tmp_path / "nothing")
    with pytest.raises(DataError, match=r"vragg.*loopnav"):
        find("vragg", tmp_path)
    files.vrag(tmp_path, name="a/b")
    files.vrag(tmp_path, name="a-b")
    with pytest.raises(DataError, match="'a-b'"):
        find("vrag", tmp_path)


def test_what_other_worlds_add_to_vrag_is_read(tmp_path):
    files.vrag(tmp_path)
    pose = np.arange(24 * 5, dtype=np.float32).reshape(24, 5) * [0.1, 0, 0, 0, 0]
    pose[:, 3] = np.cumsum(one("vrag", tmp_path).camera_deg[:, 1])
    oracle = np.stack([files.bars(100 + t) for t in range(24)])
    more = {"pose": pose.astype(np.float32), "n_context": np.int32(14), "oracle": oracle}
    files.add_arrays(tmp_path / "3/000007.npz", **more)
    recording = one("vrag", tmp_path)
    np.testing.assert_array_equal(recording.pose, more["pose"])
    assert recording.n_context == 14
    np.testing.assert_array_equal(recording.arrays["oracle"], oracle)


def test_mouse_with_a_screen_open_is_off_by_a_factor_in_some_versions(tmp_path):
    for version, factor in (("6.9", 2.0), ("5.8", 0.5), ("9.1", 1.0)):
        files.vpt(tmp_path, f"{version}/a")
        path = tmp_path / f"{version}/a.jsonl"
        before = read("vpt", find("vpt", tmp_path / version)[0]).camera_deg
        path.write_text(path.read_text().replace('"isGuiOpen": false', '"isGuiOpen": true'))
        after = read("vpt", find("vpt", tmp_path / version)[0])
        np.testing.assert_allclose(after.camera_deg, factor * before, rtol=1e-6)
        assert (after.cursor == [640, 360])[:20].all()


def test_the_pointer_is_drawn_while_a_screen_is_open_and_only_then(tmp_path):
    files.vpt(tmp_path)
    path = tmp_path / "9.1/cheeky-setter-20220421.jsonl"
    without = np.concatenate(list(frames(one("vpt", tmp_path))))
    lines = path.read_text().splitlines()
    lines[3] = lines[3].replace('"isGuiOpen": false', '"isGuiOpen": true').replace("640.0", "300.0")
    path.write_text("\n".join(lines))
    drawn = np.concatenate(list(frames(one("vpt", tmp_path))))
    changed = [t for t in range(24) if (drawn[t] != without[t]).any()]
    assert changed == [3]
    rows, columns = np.nonzero((drawn[3] != without[3]).any(-1))
    # The tip is at (300, 360) of a screen of 720 rows; here there are 48.
    assert rows.min() >= 24 and 20 <= columns.min() <= 21 and rows.max() < 24 + 16 and columns.max() < 20 + 12


def test_a_pose_that_is_known_to_be_unreliable_is_a_note_and_no_defect(tmp_path):
    files.vpt(tmp_path)
    path = next(tmp_path.rglob("*.jsonl"))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("\n".join(json.dumps({**row, "yaw": 7.0 * row["tick"]}) for row in rows))
    assert any(note.startswith("yaw changes as the camera says in") for note in one("vpt", tmp_path).notes)


def test_placed_blocks_that_only_a_pickle_would_tell_are_a_note(tmp_path):
    expected = files.minerl(tmp_path)
    path = next(tmp_path.rglob("*.npz"))
    with np.load(path) as arrays:
        placed = arrays["action$place"]
    files.add_arrays(path, **{"action$place": placed.astype(object)})
    recording = one("minerl", tmp_path)
    assert not recording.actions[:, files.USE].any() and expected.actions[:, files.USE].any()
    assert recording.notes == ("action$place is no plain array: blocks that were placed are not known",)
    files.add_arrays(path, **{"action$place": (placed != "none").astype(int)})
    np.testing.assert_allclose(one("minerl", tmp_path).actions, expected.actions, atol=1e-6)
