"""Broken recordings: one typed line that names the file, never another error, never a recording; nothing in them is run."""

import json
import shutil
import zipfile
from pathlib import Path

import av
import format_files as files
import numpy as np
import pytest

from data_prep.formats import BadRecording, find, frames, read

MARK = "executed"


class Hostile:
    """A pickle of it writes a file."""

    def __init__(self, directory: Path):
        self.directory = directory

    def __reduce__(self):
        return Path.write_text, (self.directory / MARK, "ran")


# ---- what can happen to any file, to a video, to arrays, to JSON; each changes the file it is given


def gone(path: Path):
    path.unlink()


def empty(path: Path):
    path.write_bytes(b"")


def half(path: Path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def text(path: Path):
    path.write_text("not what it should be\n" * 50)


def directory(path: Path):
    path.unlink()
    path.mkdir()


ANY = {function.__name__: function for function in (gone, empty, half, text)}


def overwritten(path: Path):
    """Zeros in the middle of the pictures."""
    data = bytearray(path.read_bytes())
    start = data.find(b"mdat") if b"mdat" in data else data.find(b"movi")
    data[start + 200 : start + 900] = bytes(700)
    path.write_bytes(data)


def playlist(path: Path):
    path.write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{path.parent}/other.mp4\n")


def picture(path: Path):
    path.write_bytes(bytes.fromhex("89504e470d0a1a0a") + bytes(100))


def shorter(path: Path, by: int = 3):
    _again(path, -by)


def longer(path: Path, by: int = 2):
    _again(path, by)


def _again(path: Path, more: int):
    codec = {".avi": "mjpg"}.get(path.suffix, "mp4v")
    from data_prep.formats.video import count_frames

    files.write_video(path, codec, count_frames(path) + more)


VIDEO = {
    **{f"video {name}": function for name, function in ANY.items()},
    **{f"video {f.__name__}": f for f in (overwritten, playlist, picture, shorter, longer)},
}


def arrays(**changes):
    """A change of an npz file: name -> function of the array, or None to leave it out."""

    def change(path: Path):
        with np.load(path, allow_pickle=True) as old:
            content = {name: old[name] for name in old.files}
        for name, function in changes.items():
            name = name.replace("__", "$")
            if function is None:
                del content[name]
            else:
                content[name] = function(content[name]) if name in content else function(None)
        np.savez_compressed(path, **content)

    return change


def pickled(name: str):
    def change(path: Path):
        arrays(**{name: lambda old: np.array([Hostile(path.parent)] * len(old), object)})(path)

    return change


def is_npy(path: Path):
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))


def flipped(path: Path):
    """A bit of the compressed array, which the archive's checksum notices."""
    with zipfile.ZipFile(path) as archive:
        offset = archive.infolist()[0].header_offset
    data = bytearray(path.read_bytes())
    data[offset + 120] ^= 16
    path.write_bytes(data)


def with_nan(array):
    array = array.astype(np.float32)
    array.reshape(-1)[array.size // 2] = np.nan
    return array


def first_row(value):
    def change(array):
        array = array.copy()
        array[0] = value
        return array

    return change


def value(at, new):
    def change(array):
        array = array.copy()
        array[at] = new
        return array

    return change


def npz(name: str) -> dict:
    """Damages of an npz file whose main array has this name."""
    return {
        **{f"npz {key}": function for key, function in ANY.items()},
        "npz is a npy": is_npy,
        "npz with a flipped bit": flipped,
        "array missing": arrays(**{name: None}),
        "array with NaN": arrays(**{name: with_nan}),
        "array of text": arrays(**{name: lambda a: a.astype(str)}),
        "array of complex numbers": arrays(**{name: lambda a: a.astype(complex)}),
        "array of dates": arrays(**{name: lambda a: a.astype("int64").astype("datetime64[s]")}),
        "array pickled": pickled(name),
        "array a scalar": arrays(**{name: lambda a: np.float32(1)}),
        "array empty": arrays(**{name: lambda a: a[:0]}),
        "array with another axis": arrays(**{name: lambda a: a[..., None]}),
        "one row more": arrays(**{name: lambda a: np.concatenate([a, a[-1:]])}),
        "two rows fewer": arrays(**{name: lambda a: a[:-2]}),
        "half of the rows": arrays(**{name: lambda a: a[: len(a) // 2]}),
    }


def rows(change):
    """A change of the rows of a JSON file or a file of JSON lines."""

    def edit(path: Path):
        lines = path.suffix == ".jsonl"
        old = (
            [json.loads(line) for line in path.read_text().splitlines()]
            if lines
            else json.loads(path.read_text())
        )
        new = change(old)
        new = old if new is None else new
        path.write_text("".join(json.dumps(row) + "\n" for row in new) if lines else json.dumps(new))

    return edit


def entry(*names, value):
    """Another value of an entry of the eighth row; names lead into it."""

    def change(old):
        inner = old[7]
        for name in names[:-1]:
            inner = inner[name]
        if value is ...:
            del inner[names[-1]]
        else:
            inner[names[-1]] = value

    return rows(change)


def bytes_in(path: Path):
    data = bytearray(path.read_bytes())
    data[100:103] = b"\xff\xfe\x00"
    path.write_bytes(data)


def deep(path: Path):
    path.write_text("[" * 100_000)


def json_rows() -> dict:
    return {
        **{f"rows {key}": function for key, function in ANY.items()},
        "rows of other bytes": bytes_in,
        "rows too deep": deep,
        "rows a number": lambda path: path.write_text("5"),
        "a row missing": rows(lambda old: old[:5] + old[6:]),
        "a row too many": rows(lambda old: [*old, old[-1]]),
        "no rows": rows(lambda old: []),
        "a row that is a list": rows(lambda old: [*old[:5], [1, 2], *old[6:]]),
    }


def late(path: Path):
    """Actions one frame late against the poses."""
    arrays(actions=lambda a: np.concatenate([np.concatenate([a[:1, :4], a[:-1, :4]]), a[:, 4:]], 1))(path)


def metadata(**changes):
    def edit(path: Path):
        content = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))

    return edit


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
            "position of three": arrays(agent_pos=lambda a: np.concatenate([a, a], 1)[:, :3]),
            "direction of length 2": arrays(agent_dir=lambda a: 2 * a),
            "contexts": arrays(n_context=lambda _: np.arange(2)),
            "a context too long": arrays(n_context=lambda _: np.int64(100)),
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
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            files.WRITERS[name](made[name])
        return made[name]

    return get


def refused(name: str, src: Path) -> str:
    """The line with which the only recording is refused."""
    (candidate,) = find(name, src)
    with pytest.raises(BadRecording) as caught:
        list(frames(read(name, candidate)))
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700 and str(src) in message, message
    assert not list(src.rglob(MARK))
    return message


@pytest.mark.parametrize(("name", "key", "word"), CASES)
def test_a_broken_recording_is_refused_in_one_line(name, key, word, whole, tmp_path):
    src = tmp_path / "src"
    shutil.copytree(whole(name), src)
    (path,) = [path for path in src.rglob("*") if path.name == key or path.suffix == key]
    DAMAGES[name][key][word](path)
    message = refused(name, src)
    assert path.stem in message or key in message


def test_there_are_at_least_twelve_kinds_for_every_reader():
    for name, kinds in DAMAGES.items():
        assert sum(map(len, kinds.values())) >= 12, name


def test_misalignment_says_by_how_much(whole, tmp_path):
    src = tmp_path / "src"
    shutil.copytree(whole("vrag"), src)
    late(next(src.rglob("*.npz")))
    assert "the actions are one frame late" in refused("vrag", src)


def test_a_picture_that_ends_early_is_not_made_up(whole, tmp_path):
    """The decoder would fill in the rest, unless it is told not to."""
    src = tmp_path / "src"
    shutil.copytree(whole("loopnav"), src)
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
    src = tmp_path / "src"
    shutil.copytree(whole("vrag"), src)
    path = next(src.rglob("*.mp4"))
    path.rename(path.with_name("elsewhere"))
    path.write_text("ffconcat version 1.0\nfile elsewhere\n")
    refused("vrag", src)


def test_an_oracle_of_a_recording_that_is_not_square_in_time_is_named(whole, tmp_path):
    src = tmp_path / "src"
    shutil.copytree(whole("vrag"), src)
    arrays(oracle=lambda _: np.zeros((23, 8, 8, 3), np.uint8))(next(src.rglob("*.npz")))
    assert "oracle of shape (23, 8, 8, 3)" in refused("vrag", src)


# ---- Open-Oasis' files, which torch wrote


def _rewritten(edit):
    def change(path: Path):
        import torch

        content = torch.load(path, weights_only=False)
        torch.save(edit(content), path)

    return change


def _eighth(**changes):
    def edit(content):
        content[7].update(changes)
        return content

    return _rewritten(edit)


def _hostile(path: Path):
    import torch

    torch.save([Hostile(path.parent)], path)


def _plain_pickle(path: Path):
    import pickle

    path.write_bytes(pickle.dumps(Hostile(path.parent)))


def _set(at, new):
    def edit(tensor):
        tensor = tensor.clone()
        tensor[at] = new
        return tensor

    return _rewritten(edit)


OASIS = {
    "vectors": {
        **{f"vectors {key}": function for key, function in ANY.items()},
        "hostile": _hostile,
        "a plain pickle": _plain_pickle,
        "24 columns": _rewritten(lambda t: t[:, :24]),
        "one axis": _rewritten(lambda t: t[0]),
        "double": _rewritten(lambda t: t.double()),
        "a dict": _rewritten(lambda t: {"actions": t}),
        "NaN": _set((3, 15), float("nan")),
        "camera 1.5": _set((3, 16), 1.5),
        "half a button": _set((3, 11), 0.5),
        "no rows": _rewritten(lambda t: t[:0]),
        "two rows fewer": _rewritten(lambda t: t[:-2]),
        "a row more": _rewritten(lambda t: t.repeat(2, 1)[:25]),
    },
    "dicts": {
        **{f"dicts {key}": function for key, function in ANY.items()},
        "hostile": _hostile,
        "a plain pickle": _plain_pickle,
        "a dict": _rewritten(lambda rows: {"rows": rows}),
        "no rows": _rewritten(lambda rows: []),
        "a row of numbers": _rewritten(lambda rows: [*rows[:5], 7, *rows[6:]]),
        "a key too many": _eighth(fly=np.int64(1)),
        "a key missing": _rewritten(lambda rows: [{k: v for k, v in row.items() if k != "jump"} for row in rows]),
        "camera of three": _eighth(camera=np.array([1, 2, 3])),
        "camera of floats": _eighth(camera=np.array([1.5, 2.5])),
        "bin 81": _eighth(camera=np.array([81, 40])),
        "button 2": _eighth(jump=np.int64(2)),
        "button of text": _eighth(jump="1"),
        "two rows fewer": _rewritten(lambda rows: rows[:-2]),
        "a row more": _rewritten(lambda rows: [*rows, rows[-1]]),
    },
}  # fmt: skip


@pytest.mark.parametrize(("kind", "word"), [(kind, word) for kind in OASIS for word in OASIS[kind]])
def test_a_broken_file_of_actions_is_refused_and_not_run(kind, word, tmp_path):
    pytest.importorskip("torch")
    files.oasis(tmp_path, kind)
    (path,) = tmp_path.glob("*.pt")
    OASIS[kind][word](path)
    refused("oasis", tmp_path)


@pytest.mark.parametrize("word", VIDEO)
def test_a_broken_video_of_a_sample_is_refused(word, tmp_path):
    pytest.importorskip("torch")
    files.oasis(tmp_path, "vectors")
    (path,) = tmp_path.glob("*.mp4")
    VIDEO[word](path)
    refused("oasis", tmp_path)


def test_files_that_contradict_each_other_are_refused(tmp_path):
    pytest.importorskip("torch")
    files.oasis(tmp_path)
    _set((3, 11), 1.0)(next(tmp_path.glob("*.one_hot_actions.pt")))
    _set((4, 11), 0.0)(next(tmp_path.glob("*.one_hot_actions.pt")))
    _set((5, 17), 1.0)(next(tmp_path.glob("*.one_hot_actions.pt")))
    assert "other actions than" in refused("oasis", tmp_path)
