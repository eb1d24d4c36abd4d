"""What can happen to the files of a recording: each function changes the file that it is given."""

import copy
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from data_prep.recordings.video import count_frames
from tests.data_prep.recordings import format_files as files
from tests.hostile import Attack

MARK = "executed"
Damage = Callable[[Path], object]


ANY: dict[str, Damage] = {
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "text": lambda path: path.write_text("not what it should be\n" * 50),
}


# ---- a video


def overwritten(path: Path):
    """Zeros in the middle of the pictures."""
    data = bytearray(path.read_bytes())
    start = data.find(b"mdat") if b"mdat" in data else data.find(b"movi")
    data[start + 200 : start + 900] = bytes(700)
    path.write_bytes(data)


def picture_that_ends_early(path: Path):
    """The decoder would make up the rest of the eleventh picture, unless it is told not to."""
    data, end = path.read_bytes(), b"\xff\xd9" + bytes(30)
    at = len(b"\xff\xda".join(data.split(b"\xff\xda")[:11])) + 20
    path.write_bytes(data[:at] + end + data[at + len(end) :])


def names_another_file(content: str) -> Damage:
    def change(path: Path):
        path.rename(path.with_name("elsewhere"))
        path.write_text(content)

    return change


def of_another_length(more: int) -> Damage:
    def change(path: Path):
        files.write_video(path, {".avi": "mjpg"}.get(path.suffix, "mp4v"), count_frames(path) + more)

    return change


SHORT: dict[str, Damage] = {"video shorter": of_another_length(-3), "video longer": of_another_length(2)}
VIDEO = {
    **SHORT,
    **{f"video {name}": change for name, change in ANY.items()},
    "video overwritten": overwritten,
    "video a playlist": names_another_file("#EXTM3U\n#EXTINF:1,\nfile:elsewhere\n"),
    "video a script": names_another_file("ffconcat version 1.0\nfile elsewhere\n"),
    "video a picture": lambda path: path.write_bytes(bytes.fromhex("89504e470d0a1a0a") + bytes(100)),
}


# ---- arrays


def arrays(**changes) -> Damage:
    """A change of an npz file: name -> function of the array, or None to leave it out."""

    def change(path: Path):
        with np.load(path, allow_pickle=True) as old:
            content = {name: old[name] for name in old.files}
        for name, function in changes.items():
            name = name.replace("__", "$")
            old = content.pop(name, None)
            if function is not None:
                content[name] = function(old)
        np.savez_compressed(path, **content)

    return change


def pickled(name: str) -> Damage:
    return lambda path: arrays(**{name: lambda a: np.array([Attack(path.parent / MARK)] * len(a), object)})(
        path
    )


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


def value(at, new):
    """Another value at a place of an array or a tensor."""

    def change(array):
        array = copy.deepcopy(array)
        array[at] = new
        return array

    return change


def late(actions):
    """One frame late against the poses."""
    keys = np.concatenate([actions[:1, :4], actions[:-1, :4]])
    return np.concatenate([keys, actions[:, 4:]], 1)


def npz(name: str) -> dict[str, Damage]:
    """Damages of an array, by each of which a reader notices something else."""
    return {
        "array missing": arrays(**{name: None}),
        "array of text": arrays(**{name: lambda a: a.astype(str)}),
        "array pickled": pickled(name),
        "array a scalar": arrays(**{name: lambda a: np.float32(1)}),
        "array empty": arrays(**{name: lambda a: a[:0]}),
        "array with another axis": arrays(**{name: lambda a: a[..., None]}),
        "one row more": arrays(**{name: lambda a: np.concatenate([a, a[-1:]])}),
        "two rows fewer": arrays(**{name: lambda a: a[:-2]}),
    }


# ---- JSON, and files of torch


def edited(change) -> Damage:
    """A change of the content of a JSON file, or of the rows of a file of JSON lines."""

    def edit(path: Path):
        if path.suffix == ".jsonl":
            rows = change([json.loads(line) for line in path.read_text().splitlines()])
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            path.write_text(json.dumps(change(json.loads(path.read_text()))))

    return edit


def entry(*names, value) -> Damage:
    """Another value of an entry, of the eighth one if there are rows; names lead into it, ... takes it out."""

    def change(content):
        inner = content[7] if isinstance(content, list) else content
        for name in names[:-1]:
            inner = inner[name]
        inner[names[-1]] = value
        if value is ...:
            del inner[names[-1]]
        return content

    return edited(change)


def pointer(x) -> Damage:
    """A pointer in a screen of the eighth row."""

    def change(rows):
        rows[7]["isGuiOpen"], rows[7]["mouse"]["x"] = True, x
        return rows

    return edited(change)


def replaced(old: str, new: str, count: int = -1) -> Damage:
    return lambda path: path.write_text(path.read_text().replace(old, new, count))


ROWS: dict[str, Damage] = {
    **{f"rows {key}": function for key, function in ANY.items()},
    "rows of other bytes": lambda path: path.write_bytes(b"[\xff\xfe]" + path.read_bytes()),
    "rows too deep": lambda path: path.write_text("[" * 100_000),
    "rows a number": lambda path: path.write_text("5"),
    "a row missing": edited(lambda old: old[:5] + old[6:]),
    "a row too many": edited(lambda old: [*old, old[-1]]),
    "no rows": edited(lambda old: []),
    "a row that is a list": edited(lambda old: [*old[:5], [1, 2], *old[6:]]),
}


def rewritten(edit) -> Damage:
    """A change of what torch has saved."""

    def change(path: Path):
        import torch

        torch.save(edit(torch.load(path, weights_only=False)), path)

    return change


def eighth(**changes) -> Damage:
    return rewritten(lambda rows: [*rows[:7], {**rows[7], **changes}, *rows[8:]])


def hostile(path: Path):
    import torch

    torch.save([Attack(path.parent / MARK)], path)


TORCH: dict[str, Damage] = {
    **ANY,
    "hostile": hostile,
    "a plain pickle": lambda path: path.write_bytes(pickle.dumps(Attack(path.parent / MARK))),
    "a dict": rewritten(lambda rows: {"rows": rows}),
    "no rows": rewritten(lambda rows: rows[:0]),
    "two rows fewer": rewritten(lambda rows: rows[:-2]),
}

DAMAGES: dict[str, dict[str, dict[str, Damage]]] = {
    "vrag": {
        ".mp4": VIDEO,
        ".npz": {
            **npz("actions"),
            **{f"npz {key}": function for key, function in ANY.items()},
            "npz is a npy": is_npy,
            "npz with a flipped bit": flipped,
            "array with NaN": arrays(actions=with_nan),
            "array of complex numbers": arrays(actions=lambda a: a.astype(complex)),
            "array of dates": arrays(actions=lambda a: a.astype("int64").astype("datetime64[s]")),
            "row 0 not zero": arrays(actions=value(0, 1)),
            "actions of five columns": arrays(actions=lambda a: a[:, :5]),
            "a turn of 2": arrays(actions=value((5, 3), 2)),
            "half a key": arrays(actions=value((5, 0), 0.5)),
            "actions one frame late": arrays(actions=late),
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
        ".mp4": SHORT,
        ".npz": {
            **npz("actions"),
            "a start within": arrays(actions=value(7, 0)),
            "no start": arrays(actions=value(0, 1)),
            "an unknown action": arrays(actions=value(7, 4)),
            "floats": arrays(actions=lambda a: a.astype(np.float32)),
        },
    },
    "worldmem": {
        ".mp4": SHORT,
        ".npz": {
            **npz("actions"),
            "one row": arrays(actions=lambda a: a[:1], poses=lambda p: p[:1]),
            "no poses": arrays(poses=None),
            "poses too short": arrays(poses=lambda p: p[:-2]),
            "poses of another shape": arrays(poses=lambda p: p[:, :4]),
            "poses of integers": arrays(poses=lambda p: p.astype(int)),
            "row 0 does something": arrays(actions=value((0, 0), 1)),
            "an unknown key": arrays(actions=value((7, 2), 4)),
            "a negative bin": arrays(actions=value((7, 3), -1)),
            "climbing": arrays(poses=lambda p: p + np.linspace(0, 5, len(p))[:, None] * [0, 1, 0, 0, 0]),
            "yaw the other way": arrays(poses=lambda p: p * [1, 1, 1, 1, -1]),
        },
    },
    "loopnav": {
        ".avi": {**VIDEO, "video with a picture that ends early": picture_that_ends_early},
        ".json": {
            **ROWS,
            "rows an object": lambda path: path.write_text('{"x": 1}'),
            "NaN": entry("x", value=float("nan")),
            "pitch of text": entry("pitch", value="0.1"),
            "no action": entry("action", value=...),
            "a key of text": entry("action", "jump", value="true"),
            "no key": entry("action", "sneak", value=...),
            "camera of one": entry("action", "camera", value=[0.1]),
            "camera null": entry("action", "camera", value=[0.1, None]),
            "goal without x": entry("goal", value={"z": 1}),
            "degrees": edited(lambda old: [{**row, "yaw": row["yaw"] * 57.3} for row in old]),
        },
    },
    "vpt": {
        ".mp4": VIDEO,
        ".jsonl": {
            **ROWS,
            "an empty line": replaced("\n", "\n\n"),
            "no mouse": entry("mouse", value=...),
            "mouse a number": entry("mouse", value=3),
            "no keyboard": entry("keyboard", value=...),
            "keys a text": entry("keyboard", "keys", value="key.keyboard.w"),
            "dx of text": entry("mouse", "dx", value="5"),
            "no buttons": entry("mouse", "buttons", value=...),
            "hotbar 9": entry("hotbar", value=9),
            "hotbar of text": entry("hotbar", value="1"),
            "yaw of text": entry("yaw", value="north"),
            "a number too large": entry("mouse", "dx", value=10**400),
            "a number beyond floats": replaced("70.0", "1e400", 1),
            "a pointer far away": pointer(1e40),
            "pointer null": pointer(None),
        },
    },
    "minerl": {
        "recording.mp4": SHORT,
        "rendered.npz": {
            **npz("action$camera"),
            "no reward": arrays(reward=None),
            "no forward": arrays(action__forward=None),
            "forward too short": arrays(action__forward=lambda a: a[:-1]),
            "forward 2": arrays(action__forward=value(3, 2)),
            "place too short": arrays(action__place=lambda a: a[:-1]),
            "place of floats": arrays(action__place=lambda a: np.zeros(len(a))),
            "more steps than frames": arrays(reward=lambda a: np.zeros(26, np.float32)),
        },
        "metadata.json": {
            "metadata gone": Path.unlink,
            "no count": entry("true_video_frame_count", value=...),
            "count of text": entry("true_video_frame_count", value="26"),
            "another count": entry("true_video_frame_count", value=25),
            "fewer frames than steps": entry("true_video_frame_count", value=3),
            "metadata a list": edited(lambda _: []),
        },
    },
    "memory_maze": {
        ".npz": {
            **npz("action"),
            "no image": arrays(image=None),
            "image of floats": arrays(image=lambda a: a / 255.0),
            "image grey": arrays(image=lambda a: a[..., :1]),
            "one image": arrays(image=lambda a: a[:1]),
            "image_t the wrong way": arrays(image=None, image_t=lambda _: np.zeros((24, 8, 8, 3), np.uint8)),
            "two actions at once": arrays(action=lambda a: a + a[:, ::-1]),
            "action 6": arrays(action=lambda a: np.full(len(a), 6)),
            "reset within": arrays(reset=lambda _: np.arange(24) == 9),
            "terminal within": arrays(terminal=lambda _: np.arange(24) == 9),
            "layout changes": arrays(maze_layout=lambda a: a * (np.arange(24) < 9)[:, None, None]),
            "position too short": arrays(agent_pos=lambda a: a[:-1]),
            "position of three": arrays(agent_pos=lambda a: np.concatenate([a, a], 1)[:, :3]),
            "direction of length 2": arrays(agent_dir=lambda a: 2 * a),
            "contexts": arrays(n_context=lambda _: np.arange(2)),
            "a context too long": arrays(n_context=lambda _: np.int64(100)),
        },
    },
    "oasis-vectors": {
        ".mp4": SHORT,
        ".pt": {
            **TORCH,
            "24 columns": rewritten(lambda t: t[:, :24]),
            "one axis": rewritten(lambda t: t[0]),
            "double": rewritten(lambda t: t.double()),
            "NaN": rewritten(value((3, 15), float("nan"))),
            "camera 1.5": rewritten(value((3, 16), 1.5)),
            "half a button": rewritten(value((3, 11), 0.5)),
            "ten terabytes": rewritten(lambda t: t[:1, :1].expand(10**11, 25)),
            "a row more": rewritten(lambda t: t.repeat(2, 1)[:25]),
        },
    },
    "oasis-dicts": {
        ".pt": {
            **TORCH,
            "a row of numbers": rewritten(lambda rows: [*rows[:5], 7, *rows[6:]]),
            "a key too many": eighth(fly=np.int64(1)),
            "a key missing": rewritten(lambda rows: [{k: v for k, v in row.items() if k != "jump"} for row in rows]),
            "camera of three": eighth(camera=np.array([1, 2, 3])),
            "bin 81": eighth(camera=np.array([81, 40])),
            "button 2": eighth(jump=np.int64(2)),
            "button of text": eighth(jump="1"),
            "a row more": rewritten(lambda rows: [*rows, rows[-1]]),
        },
    },
}  # fmt: skip
