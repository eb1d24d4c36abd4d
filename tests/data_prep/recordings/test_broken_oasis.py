"""Broken samples of Open-Oasis, whose actions torch wrote: refused in one line, and nothing in them is run."""

from pathlib import Path

import numpy as np
import pytest

from tests.data_prep.recordings import format_files as files
from tests.data_prep.recordings.damage import ANY, VIDEO, Hostile, refused


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
