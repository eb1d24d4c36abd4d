"""Broken recordings: one typed line that names the file, never another error, never a recording; nothing in them is run."""

import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from data_prep.recordings import find, read
from tests.data_prep.recordings import format_files as files
from tests.data_prep.recordings.damage import (
    ANY,
    VIDEO,
    arrays,
    eighth,
    entry,
    first_row,
    hostile,
    json_rows,
    late,
    metadata,
    npz,
    pickled,
    plain_pickle,
    refused,
    rewritten,
    rows,
    set_to,
    value,
    with_nan,
)

DAMAGES: dict[str, dict[str, tuple[str, object]]] = {
    "vrag": {
        ".mp4": VIDEO,
        ".npz": {
            **npz("actions"),
            "row 0 not zero": arrays(actions=first_row(1)),
            "actions of five columns": arrays(actions=lambda a: a[:, :5]),
            "a turn of 2": arrays(actions=value((5, 3), 2)),
            "half a key": arrays(actions=value((5, 0), 0.5)),
            "actions one frame late": late,
            "a walk without keys": arrays(actions=lambda a: a * [0, 0, 0, 1, 1, 1, 1, 1]),
            "leaps": arrays(actions=lambda a: a * [1, 1, 1, 1, 50, 1, 50, 1]),
            "an infinite pose": arrays(actions=value((5, 4), np.inf)),
            "a pose that no float32 holds": arrays(pose=lambda _: np.full((24, 5), 1e300)),
            "pose of another shape": arrays(pose=lambda _: np.zeros((24, 4), np.float32)),
            "a context that is the whole": arrays(n_context=lambda _: np.int32(24)),
            "contexts": arrays(n_context=lambda _: np.arange(3)),
            "oracle of floats": arrays(oracle=lambda _: np.zeros((24, 8, 8, 3), np.float32)),
            "oracle too short": arrays(oracle=lambda _: np.zeros((23, 8, 8, 3), np.uint8)),
        },
    },
    "teco": {
        ".mp4": VIDEO,
        ".npz": {
            **npz("actions"),
            "a start within": arrays(actions=value(7, 0)),
            "no start": arrays(actions=value(0, 1)),
            "an unknown action": arrays(actions=value(7, 4)),
            "floats": arrays(actions=lambda a: a.astype(np.float32)),
        },
    },
    "worldmem": {
        ".mp4": VIDEO,
        ".npz": {
            **npz("actions"),
            "no poses": arrays(poses=None),
            "poses with NaN": arrays(poses=with_nan),
            "poses too short": arrays(poses=lambda p: p[:-2]),
            "poses of another shape": arrays(poses=lambda p: p[:, :4]),
            "poses of integers": arrays(poses=lambda p: p.astype(int)),
            "row 0 does something": arrays(actions=value((0, 0), 1)),
            "an unknown key": arrays(actions=value((7, 2), 4)),
            "a negative bin": arrays(actions=value((7, 3), -1)),
            "seven columns": arrays(actions=lambda a: a[:, :7]),
            "climbing": arrays(poses=lambda p: p + np.linspace(0, 5, len(p))[:, None] * [0, 1, 0, 0, 0]),
            "yaw the other way": arrays(poses=lambda p: p * [1, 1, 1, 1, -1]),
        },
    },
    "loopnav": {
        ".avi": VIDEO,
        ".json": {
            **json_rows(),
            "rows an object": lambda path: path.write_text('{"x": 1}'),
            "NaN": entry("x", value=float("nan")),
            "no yaw": entry("yaw", value=...),
            "pitch of text": entry("pitch", value="0.1"),
            "no action": entry("action", value=...),
            "action null": entry("action", value=None),
            "a key of text": entry("action", "jump", value="true"),
            "no key": entry("action", "sneak", value=...),
            "camera of one": entry("action", "camera", value=[0.1]),
            "camera null": entry("action", "camera", value=[0.1, None]),
            "camera infinite": entry("action", "camera", value=[0.1, float("inf")]),
            "goal without x": entry("goal", value={"z": 1}),
            "degrees": rows(lambda old: [{**row, "yaw": row["yaw"] * 57.3} for row in old]),
        },
    },
    "vpt": {
        ".mp4": VIDEO,
        ".jsonl": {
            **json_rows(),
            "an empty line": lambda path: path.write_text(path.read_text().replace("\n", "\n\n")),
            "NaN": entry("mouse", "dx", value=float("nan")),
            "no mouse": entry("mouse", value=...),
            "mouse a number": entry("mouse", value=3),
            "no keyboard": entry("keyboard", value=...),
            "keys a text": entry("keyboard", "keys", value="key.keyboard.w"),
            "dx of text": entry("mouse", "dx", value="5"),
            "no dy": entry("mouse", "dy", value=...),
            "no buttons": entry("mouse", "buttons", value=...),
            "hotbar 9": entry("hotbar", value=9),
            "hotbar of text": entry("hotbar", value="1"),
            "yaw of text": entry("yaw", value="north"),
            "a number too large": entry("mouse", "dx", value=10**400),
            "a number beyond floats": lambda path: path.write_text(path.read_text().replace("70.0", "1e400", 1)),
            "a pointer far away": rows(lambda old: old[7].update(isGuiOpen=True) or old[7]["mouse"].update(x=1e40)),
            "a position far away": entry("xpos", value=-1e40),
            "pointer null": rows(lambda old: old[7].update(isGuiOpen=True) or old[7]["mouse"].update(x=None)),
        },
    },
    "minerl": {
        "recording.mp4": VIDEO,
        "rendered.npz": {
            **npz("action$camera"),
            "no reward": arrays(reward=None),
            "reward pickled": pickled("reward"),
            "no forward": arrays(action__forward=None),
            "forward too short": arrays(action__forward=lambda a: a[:-1]),
            "forward of text": arrays(action__forward=lambda a: a.astype(str)),
            "forward 2": arrays(action__forward=value(3, 2)),
            "attack pickled": pickled("action$attack"),
            "place too short": arrays(action__place=lambda a: a[:-1]),
            "place of floats": arrays(action__place=lambda a: np.zeros(len(a))),
            "more steps than frames": arrays(reward=lambda a: np.zeros(26, np.float32)),
        },
        "metadata.json": {
            **{f"metadata {key}": function for key, function in ANY.items()},
            "no count": metadata(true_video_frame_count=...),
            "count of text": metadata(true_video_frame_count="26"),
            "another count": metadata(true_video_frame_count=25),
            "metadata a list": lambda path: path.write_text("[]"),
        },
    },
    "memory_maze": {
        ".npz": {
            **{key: function for key, function in npz("action").items() if key not in ("npz gone", "array of dates")},
            "no image": arrays(image=None),
            "image of floats": arrays(image=lambda a: a / 255.0),
            "image grey": arrays(image=lambda a: a[..., :1]),
            "image of two axes": arrays(image=lambda a: a[:, :, 0, 0]),
            "one image": arrays(image=lambda a: a[:1]),
            "image pickled": pickled("image"),
            "image_t the wrong way": arrays(image=None, image_t=lambda _: np.zeros((24, 8, 8, 3), np.uint8)),
            "two actions at once": arrays(action=lambda a: a + a[:, ::-1]),
            "action 6": arrays(action=lambda a: np.full(len(a), 6)),
            "reset within": arrays(reset=lambda _: np.arange(24) == 9),
            "terminal within": arrays(terminal=lambda _: np.arange(24) == 9),
            "layout changes": arrays(maze_layout=lambda a: a * (np.arange(24) < 9)[:, None, None]),
            "position too short": arrays(agent_pos=lambda a: a[:-1]),
            "position with NaN": arrays(agent_pos=with_nan),
            "a reward that no float32 holds": arrays(reward=value(3, 1e40)),
            "position of three": arrays(agent_pos=lambda a: np.concatenate([a, a], 1)[:, :3]),
            "direction of length 2": arrays(agent_dir=lambda a: 2 * a),
            "contexts": arrays(n_context=lambda _: np.arange(2)),
            "a context too long": arrays(n_context=lambda _: np.int64(100)),
        },
    },
    "oasis-vectors": {
        ".mp4": VIDEO,
        ".pt": {
            **{f"vectors {key}": function for key, function in ANY.items()},
            "hostile": hostile,
            "a plain pickle": plain_pickle,
            "24 columns": rewritten(lambda t: t[:, :24]),
            "one axis": rewritten(lambda t: t[0]),
            "double": rewritten(lambda t: t.double()),
            "a dict": rewritten(lambda t: {"actions": t}),
            "NaN": set_to((3, 15), float("nan")),
            "camera 1.5": set_to((3, 16), 1.5),
            "half a button": set_to((3, 11), 0.5),
            "no rows": rewritten(lambda t: t[:0]),
            "two rows fewer": rewritten(lambda t: t[:-2]),
            "a row more": rewritten(lambda t: t.repeat(2, 1)[:25]),
        },
    },
    "oasis-dicts": {
        ".pt": {
            **{f"dicts {key}": function for key, function in ANY.items()},
            "hostile": hostile,
            "a plain pickle": plain_pickle,
            "a dict": rewritten(lambda rows: {"rows": rows}),
            "no rows": rewritten(lambda rows: []),
            "a row of numbers": rewritten(lambda rows: [*rows[:5], 7, *rows[6:]]),
            "a key too many": eighth(fly=np.int64(1)),
            "a key missing": rewritten(lambda rows: [{k: v for k, v in row.items() if k != "jump"} for row in rows]),
            "camera of three": eighth(camera=np.array([1, 2, 3])),
            "camera of floats": eighth(camera=np.array([1.5, 2.5])),
            "bin 81": eighth(camera=np.array([81, 40])),
            "button 2": eighth(jump=np.int64(2)),
            "button of text": eighth(jump="1"),
            "two rows fewer": rewritten(lambda rows: rows[:-2]),
            "a row more": rewritten(lambda rows: [*rows, rows[-1]]),
        },
    },
}  # fmt: skip
CASES = [
    (name, key, word) for name, kinds in DAMAGES.items() for key, words in kinds.items() for word in words
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole recording of every format, made once."""
    made = {}

    def get(name: str) -> Path:
        if name.startswith("oasis"):
            pytest.importorskip("torch")
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            files.WRITERS[name](made[name])
        return made[name]

    return get


@pytest.mark.parametrize(("name", "key", "word"), CASES)
def test_a_broken_recording_is_refused_in_one_line(name, key, word, whole, tmp_path):
    src = shutil.copytree(whole(name), tmp_path / "src")
    (path,) = [path for path in src.rglob("*") if path.name == key or path.suffix == key]
    DAMAGES[name][key][word](path)
    message = refused(name.partition("-")[0], src)
    assert path.stem in message or key in message


def test_there_are_at_least_twelve_kinds_for_every_reader():
    for name, kinds in DAMAGES.items():
        assert sum(map(len, kinds.values())) >= 12, name


def test_misalignment_says_by_how_much(whole, tmp_path):
    src = shutil.copytree(whole("vrag"), tmp_path / "src")
    late(next(src.rglob("*.npz")))
    assert "the actions are one frame late" in refused("vrag", src)


def test_a_picture_that_ends_early_is_not_made_up(whole, tmp_path):
    """The decoder would fill in the rest, unless it is told not to."""
    src = shutil.copytree(whole("loopnav"), tmp_path / "src")
    path = next(src.rglob("*.avi"))
    data = path.read_bytes()
    scan = -1
    for _ in range(11):  # of the eleventh picture: where its marker is
        scan = data.index(b"\xff\xda", scan + 1)
    end = b"\xff\xd9" + bytes(30)
    path.write_bytes(data[: scan + 20] + end + data[scan + 20 + len(end) :])
    refused("loopnav", src)


def test_a_video_that_was_cut_off_behind_its_index_is_called_so(tmp_path):
    """Its head says that all frames are there."""
    files.vrag(tmp_path)
    path = next(tmp_path.rglob("*.mp4"))
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=20)
        stream.width, stream.height, stream.pix_fmt = files.WIDTH, files.HEIGHT, "yuv420p"
        for number in range(24):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(files.bars(number), format="rgb24")))
        container.mux(stream.encode(None))
    (candidate,) = find("vrag", tmp_path)
    assert read("vrag", candidate).num_frames == 24
    path.write_bytes(path.read_bytes()[:-5])
    assert "cut off or damaged" in refused("vrag", tmp_path)


def test_a_script_that_names_another_file_is_not_followed(whole, tmp_path):
    src = shutil.copytree(whole("vrag"), tmp_path / "src")
    path = next(src.rglob("*.mp4"))
    path.rename(path.with_name("elsewhere"))
    path.write_text("ffconcat version 1.0\nfile elsewhere\n")
    refused("vrag", src)


def test_files_that_contradict_each_other_are_refused(whole, tmp_path):
    src = shutil.copytree(whole("oasis"), tmp_path / "src")
    path = next(src.glob("*.one_hot_actions.pt"))
    for at, new in (((3, 11), 1.0), ((4, 11), 0.0), ((5, 17), 1.0)):
        set_to(at, new)(path)
    assert "other actions than" in refused("oasis", src)
