"""Files of torch.save: tensors and arrays come back by value, and no code in a file is run."""

import pickle
import sys
import time
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest

from data_prep.common.torch_files import TorchFileError, read_torch
from tests.hostile import Attack

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("zipped", [True, False])
def test_what_was_saved_is_read(zipped, tmp_path):
    numbers = torch.arange(12.0).reshape(3, 4)
    content = OrderedDict(
        view=numbers.T[1:],
        half=numbers.bfloat16() / 3,
        parameter=torch.nn.Parameter(numbers),
        rows=[{"n": np.int64(7), "bins": np.array([3, 4])}, ("text", None, 2.5)],
        flags=np.array([True, False]),
    )
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    found = read_torch(tmp_path / "a.pt")
    np.testing.assert_array_equal(found["view"], np.arange(12.0, dtype="f4").reshape(3, 4).T[1:], strict=True)
    np.testing.assert_array_equal(found["half"], content["half"].float().numpy(), strict=True)
    np.testing.assert_array_equal(found["parameter"], numbers.numpy(), strict=True)
    np.testing.assert_array_equal(found["flags"], content["flags"], strict=True)
    assert found["rows"][0]["n"] == 7 and found["rows"][0]["bins"].tolist() == [3, 4]
    assert found["rows"][1] == ("text", None, 2.5)


def test_arrays_of_numpy_1_are_read(tmp_path):
    old = pickle.dumps({"bins": np.array([3, 4])}, protocol=2)
    assert b"numpy._core" in old
    old = old.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")

    class Pickler:
        def __init__(self, file, protocol):
            self.file = file

        def dump(self, value):
            self.file.write(old)

    torch.save({}, tmp_path / "a.pt", pickle_module=SimpleNamespace(Pickler=Pickler, __name__="pickle"))
    assert read_torch(tmp_path / "a.pt")["bins"].tolist() == [3, 4]


@pytest.mark.parametrize("place", ["alone", "in a state dict", "in an array"])
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_a_file_with_code_is_refused_and_the_code_is_not_run(kind, place, tmp_path):
    path, trap = tmp_path / "a.pt", tmp_path / "executed"
    attack = Attack(trap)
    content = {
        "alone": attack,
        "in a state dict": {"weight": torch.zeros(2), "bias": attack},
        "in an array": np.array([attack], object),
    }[place]
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(TorchFileError) as error:
        read_torch(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    assert not trap.exists()
    torch.load(path, weights_only=False) if kind != "pickle" else pickle.loads(path.read_bytes())
    assert trap.exists()  # so the attack is one


@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\x03\x04", "half"])
def test_a_damaged_or_missing_file_is_one_line(content, tmp_path):
    path = tmp_path / "a.pt"
    if content == "half":
        torch.save({"a": torch.arange(1000)}, path)
        path.write_bytes(path.read_bytes()[:2000])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(TorchFileError) as error:
        read_torch(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["", "weights/0"])
def test_a_tensor_that_claims_more_than_the_file_has_is_refused_before_it_is_made(name, tmp_path):
    path, tensor = tmp_path / "a.pt", torch.zeros(1).expand(10**9, 230)
    torch.save({"weights": [tensor]} if name else tensor, path)
    with pytest.raises(TorchFileError) as error:
        read_torch(path)
    claimed, held = f"{4 * 230 * 10**9} bytes", f"{path.stat().st_size}"
    assert all(word in str(error.value) for word in (f"{path}: ", repr(name), claimed, held))


@pytest.mark.parametrize(
    ("place", "damage"),
    [
        (b"R", b"R."),  # without what would fill it
        (b"i8", b"O8"),
        (b"i8", b"i4"),
        (b"K\x01\x85", b"J\x00\x00\x00\x40\x85"),  # the shape
    ],
)
def test_a_damaged_array_is_refused_and_numpy_stays_as_it_was(place, damage, tmp_path):
    # NumPy's own reader made an int64 of Python objects out of some, for the whole process, which then crashed.
    path, content = tmp_path / "a.pt", pickle.dumps(np.arange(3)[:1], protocol=2)
    here = content.index(place, content.index(b"\x87"))  # behind the call that makes an empty array
    content = content[:here] + damage + content[here + len(place) :]

    class Pickler:
        def __init__(self, file, protocol):
            self.file = file

        def dump(self, value):
            self.file.write(content)

    torch.save({}, path, pickle_module=SimpleNamespace(Pickler=Pickler, __name__="pickle"))
    with pytest.raises(TorchFileError, match=r"array|damaged"):
        read_torch(path)
    assert not np.dtype("int64").hasobject and np.dtype("int64").isbuiltin == 1


def test_lists_of_the_same_lists_are_read_once_and_circles_refused(tmp_path):
    path, nested, circle = tmp_path / "a.pt", [torch.ones(1)], []
    for _ in range(60):
        nested = [nested, nested]
    torch.save(nested, path)
    found = read_torch(path)
    assert found[0] is found[1]
    circle.append(circle)
    torch.save(circle, path)
    with pytest.raises(TorchFileError, match="RecursionError"):
        read_torch(path)


def test_a_long_name_in_a_pickle_is_refused_in_a_moment(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    data = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(data.replace(b"torch._utils\n", b"x" * 100_000 + b"\n"))
    begin = time.process_time()
    with pytest.raises(TorchFileError, match="no code in it was run"):
        read_torch(tmp_path / "a.pt")
    assert time.process_time() - begin < 5  # PyTorch itself takes minutes for its message


def test_a_pointer_of_git_lfs_is_named(tmp_path):
    (tmp_path / "a.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(TorchFileError, match="git lfs pull"):
        read_torch(tmp_path / "a.pt")


def test_without_torch_it_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(TorchFileError, match=r"pip install 'rad_jax\[torch\]'"):
        read_torch(tmp_path / "a.pt")
