"""What torch.save wrote is read as torch reads it, and hostile pickles are refused in one line with nothing done."""

import collections
import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from data_prep.common.torch_zip import TorchFileError, read_torch

torch = pytest.importorskip("torch")


def contents():
    draw = torch.Generator().manual_seed(0)
    shared = torch.randn(4, 6, generator=draw)
    state = collections.OrderedDict({"layer.weight": shared, "layer.bias": shared[1:3, ::2]})
    state._metadata = {"": {"version": 1}}
    return {
        "state": state,
        "transposed": shared.T,
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "empty": torch.zeros(0, 3),
        "types": [torch.arange(5).to(kind) for kind in (torch.int64, torch.int32, torch.int16, torch.uint8)],
        "small": torch.arange(-3, 3).to(torch.int8),
        "half": shared.half(),
        "brain": shared.bfloat16(),
        "truth": torch.tensor([True, False]),
        "parameter": torch.nn.Parameter(shared[0]),
        "plain": [1, -(2**40), 0.5, "text \u00e9", None, True, (1, 2), {}],
        "camera": np.array([40, 41]),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "number": np.float32(0.25),
        "bytes as bool": np.array([True, False]),
        "big end": np.arange(3, dtype=">i4"),
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_reads_what_torch_reads(tmp_path, zipped, protocol):
    path = tmp_path / "a.pt"
    torch.save(contents(), path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    found = read_torch(path)
    expected = torch.load(path, weights_only=False)
    assert list(found) == list(expected)
    compare(found, expected)


def compare(found, expected):
    if isinstance(expected, torch.Tensor):
        expected = expected.detach()
        expected = (expected.float() if expected.dtype == torch.bfloat16 else expected).numpy()
    if isinstance(expected, np.generic):
        expected = expected.item()
    if isinstance(expected, np.ndarray):
        assert isinstance(found, np.ndarray) and found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, dict):
        assert type(found) is dict and list(found) == list(expected)
        for key in expected:
            compare(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert type(found) is type(expected) and len(found) == len(expected)
        for one, other in zip(found, expected):
            compare(one, other)
    else:
        assert type(found) is type(expected) and found == expected


class Trap:
    """Unpickling it makes a directory."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


class Instance:
    """An object of a class of one's own."""


def zip_of(path, content, files=None, compression=zipfile.ZIP_STORED, name="a/data.pkl"):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(name, content)
        for file, data in (files or {}).items():
            archive.writestr(f"a/{file}", data)


def tensor_pickle(offset=0, shape=(2,), stride=(1,), count=2, kind=b"FloatStorage", tail=b""):
    """A tensor as torch pickles it, of any numbers."""
    reference = b"(X\x07\x00\x00\x00storagectorch\n" + kind + b"\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"

    def integers(values):
        return b"(" + b"".join(b"J" + struct.pack("<i", v) for v in values) + b"t"

    body = reference + b"J" + struct.pack("<i", count) + b"tQ" + b"J" + struct.pack("<i", offset)
    body += integers(shape) + integers(stride) + b"\x89ccollections\nOrderedDict\n)R"
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + body + b"tR" + tail + b"."


HOSTILE = {
    "a call": lambda p: zip_of(p, pickle.dumps(Trap(os.mkdir, "sprung"), 2)),
    "a call at protocol 4": lambda p: zip_of(p, pickle.dumps({"w": Trap(os.system, "mkdir sprung")}, 4)),
    "a call in the old layout": lambda p: torch.save(
        {"w": Trap(os.mkdir, "sprung")}, p, _use_new_zipfile_serialization=False
    ),
    "a bare pickle": lambda p: p.write_bytes(pickle.dumps(Trap(os.mkdir, "sprung"))),
    "an object": lambda p: zip_of(p, pickle.dumps(Instance(), 2)),
    "an object by instruction": lambda p: zip_of(p, b"(ios\nmkdir\n."),
    "a name alone": lambda p: zip_of(p, b"cos\nsystem\n."),
    "getattr": lambda p: zip_of(p, b"\x80\x02cbuiltins\ngetattr\n(ccollections\nOrderedDict\nX\x01\x00\x00\x00atR."),
    "a changed function": lambda p: zip_of(
        p, b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x0c\x00\x00\x00__defaults__K\x01sb."
    ),
    "a changed attribute": lambda p: zip_of(
        p, b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x08\x00\x00\x00functionK\x01s\x86b."
    ),
    "a function by itself": lambda p: zip_of(p, b"\x80\x02cnumpy\ndtype\n."),
    "a storage by itself": lambda p: zip_of(
        p, b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000NK\x01tQ.", {"data/0": bytes(4)}
    ),
    "another reference": lambda p: zip_of(p, b"\x80\x02(X\x06\x00\x00\x00modulecos\nmkdir\nNNK\x01tQ."),
    "an array of objects": lambda p: zip_of(
        p, pickle.dumps(np.array([Instance(), 1], dtype=object), 2)
    ),
    "a reference to a module": lambda p: zip_of(
        p, b"\x80\x02(X\x06\x00\x00\x00modulectorch\nFloatStorage\nX\x01\x00\x00\x000NK\x01tQ."
    ),
    "a part of a storage": lambda p: zip_of(
        p, b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000NK\x01K\x01tQ."
    ),
    "an array of text": lambda p: zip_of(p, pickle.dumps(np.array(["a"]), 2)),
    "a long storage": lambda p: zip_of(p, tensor_pickle(), {"data/0": bytes(12)}),
    "an array of records": lambda p: zip_of(p, pickle.dumps(np.zeros(2, [("a", "i4")]), 2)),
    "a huge memo": lambda p: zip_of(p, b"\x80\x02Nr\xff\xff\xff\x7f."),
    "a list that holds itself": lambda p: zip_of(p, b"\x80\x02]q\x00h\x00a."),
    "deep": lambda p: zip_of(p, b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b"."),
    "a tensor beyond its storage": lambda p: zip_of(p, tensor_pickle(shape=(3,)), {"data/0": bytes(8)}),
    "a stride beyond its storage": lambda p: zip_of(p, tensor_pickle(stride=(2,)), {"data/0": bytes(8)}),
    "an offset beyond its storage": lambda p: zip_of(p, tensor_pickle(offset=1), {"data/0": bytes(8)}),
    "a negative offset": lambda p: zip_of(p, tensor_pickle(offset=-1), {"data/0": bytes(8)}),
    "a negative stride": lambda p: zip_of(p, tensor_pickle(stride=(-1,)), {"data/0": bytes(8)}),
    "strides of another rank": lambda p: zip_of(p, tensor_pickle(stride=(1, 1)), {"data/0": bytes(8)}),
    "a negative count": lambda p: zip_of(p, tensor_pickle(count=-1), {"data/0": bytes(8)}),
    "a short storage": lambda p: zip_of(p, tensor_pickle(), {"data/0": bytes(7)}),
    "a missing storage": lambda p: zip_of(p, tensor_pickle()),
    "a compressed storage": lambda p: zip_of(
        p, tensor_pickle(), {"data/0": bytes(8)}, zipfile.ZIP_DEFLATED
    ),
    "another kind of storage": lambda p: zip_of(p, tensor_pickle(kind=b"QInt8Storage"), {"data/0": bytes(8)}),
    "big-endian": lambda p: zip_of(p, tensor_pickle(), {"data/0": bytes(8), "byteorder": b"big"}),
    "no pickle": lambda p: zip_of(p, b"", name="a/other.pkl"),
    "an empty file": lambda p: p.write_bytes(b""),
    "text": lambda p: p.write_text("<html>not found</html>"),
    "a directory": lambda p: p.mkdir(),
    "nothing": lambda p: None,
    "a cut zip": lambda p: cut(p, True),
    "a cut file of the old layout": lambda p: cut(p, False),
    "a longer storage in the old layout": lambda p: changed_count(p),
    "keys that are no text": lambda p: zip_of(p, b"\x80\x02})Ns."),
}  # fmt: skip

# Where it matters by which of several lines of defence a file is refused.
SAID = {
    "an object": "instruction NEWOBJ",
    "an object by instruction": "instruction INST",
    "getattr": "asks for builtins.getattr",
    "a changed function": "a state for a Call",
    "a changed attribute": "a state for a Call",
    "another reference": "asks for os.mkdir",
    "a reference to a module": "something other than a storage",
    "a part of a storage": "something other than a storage",
    "a negative count": "something other than a storage",
    "an array of records": "an array of V4",
    "an array of text": "an array of U1",
    "a huge memo": "memo",
    "a list that holds itself": "one that holds itself",
    "deep": "64 deep",
    "strides of another rank": "no proper storage, shape or strides",
    "a short storage": "cut short",
    "a long storage": "a storage of 12 bytes",
    "keys that are no text": "keys are not text",
}


def cut(path, zipped):
    torch.save({"w": torch.ones(100)}, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:-250])


def changed_count(path):
    torch.save({"w": torch.ones(100)}, path, _use_new_zipfile_serialization=False)
    body = bytearray(path.read_bytes())
    body[-408:-400] = struct.pack("<q", 101)
    path.write_bytes(body)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_and_damaged_files_are_refused_in_one_line_and_nothing_runs(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pt"
    HOSTILE[name](path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(TorchFileError) as info:
        read_torch(path)
    assert "\n" not in str(info.value) and str(path) in str(info.value) and len(str(info.value)) < 300
    assert SAID.get(name, "") in str(info.value)
    assert sorted(tmp_path.iterdir()) == before


def test_a_tensor_of_hand_made_pickle_is_read(tmp_path):
    """What the hostile ones are variations of."""
    zip_of(tmp_path / "a.pt", tensor_pickle(), {"data/0": np.array([1, 2], "<f4").tobytes()})
    np.testing.assert_array_equal(read_torch(tmp_path / "a.pt"), [1, 2])


def test_what_is_shared_stays_shared(tmp_path):
    """A list of lists of one list ... takes no more room than it has entries."""
    content = b"\x80\x02]q\x00" + b"".join(
        b"](" + b"h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(60)
    )
    zip_of(tmp_path / "a.pt", content + b".")
    found = read_torch(tmp_path / "a.pt")
    assert len(found) == 2 and found[0] is found[1]


def test_arrays_cannot_be_changed_and_share_what_they_shared(tmp_path):
    weight = torch.arange(6.0)
    buffer = io.BytesIO()
    torch.save([weight, weight[2:]], buffer)
    (tmp_path / "a.pt").write_bytes(buffer.getvalue())
    whole, part = read_torch(tmp_path / "a.pt")
    assert np.shares_memory(whole, part) and not whole.flags.writeable and not part.flags.writeable
