"""Broken recordings: one typed line that names the file, never another error, never a recording; nothing in them is run."""

import shutil
from pathlib import Path

import av
import pytest

from data_prep.recordings import BadRecording, find, frames, read
from tests.data_prep.recordings import changes, damage
from tests.data_prep.recordings import format_files as files

CASES = [
    (name, key, word)
    for name, kinds in damage.DAMAGES.items()
    for key, words in kinds.items()
    for word in words
]


def refused(name: str, src: Path) -> str:
    """The line with which the only recording is refused."""
    (candidate,) = find(name, src)
    with pytest.raises(BadRecording) as caught:
        list(frames(read(name, candidate)))
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700 and str(src) in message, message
    assert not list(src.rglob(changes.MARK))
    return message


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
    damage.DAMAGES[name][key][word](path)
    message = refused(name.partition("-")[0], src)
    assert path.stem in message or key in message
    if "late" in word:
        assert "one frame late" in message


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


def test_files_that_contradict_each_other_are_refused(whole, tmp_path):
    src = shutil.copytree(whole("oasis"), tmp_path / "src")
    path = next(src.glob("*.one_hot_actions.pt"))
    for at, new in (((3, 11), 1.0), ((4, 11), 0.0), ((5, 17), 1.0)):
        changes.rewritten(changes.value(at, new))(path)
    assert "other actions than" in refused("oasis", src)
