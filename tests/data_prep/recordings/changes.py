"""Changes of files of recordings: each function changes the file that it is given, or makes one that does."""

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
