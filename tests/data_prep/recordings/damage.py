"""What can happen to the files of a recording, and how it has to be refused."""

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from data_prep.recordings import BadRecording, find, frames, read
from tests.data_prep.recordings import format_files as files

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
    from data_prep.recordings.video import count_frames

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


# ---- files of torch


def rewritten(edit):
    def change(path: Path):
        import torch

        content = torch.load(path, weights_only=False)
        torch.save(edit(content), path)

    return change


def eighth(**changes):
    def edit(content):
        content[7].update(changes)
        return content

    return rewritten(edit)


def hostile(path: Path):
    import torch

    torch.save([Hostile(path.parent)], path)


def plain_pickle(path: Path):
    path.write_bytes(pickle.dumps(Hostile(path.parent)))


def set_to(at, new):
    def edit(tensor):
        tensor = tensor.clone()
        tensor[at] = new
        return tensor

    return rewritten(edit)


def refused(name: str, src: Path) -> str:
    """The line with which the only recording is refused."""
    (candidate,) = find(name, src)
    with pytest.raises(BadRecording) as caught:
        list(frames(read(name, candidate)))
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700 and str(src) in message, message
    assert not list(src.rglob(MARK))
    return message
