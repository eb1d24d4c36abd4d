"""Safetensors files from strangers: what is read, and that everything else is refused in a line and executes nothing."""

import json
import os
import pickle
import struct
import sys
import time
import zipfile

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from rad_jax.arrays import fingerprint
from rad_jax.weights.tensors import WeightsError, match, read_metadata, read_tensors, without_wrappers
from tests.hostile import Attack


def file_of(header, data=b""):
    """A file with this header (a text, or what becomes JSON) and these data, in the format's own layout."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(begin, end, dtype="F32", shape=(1,)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


FLOATS = np.array([1.5, -2.0], "f4").tobytes()


def test_every_tensor_comes_back(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "double": rng.normal(size=(2, 3)),
        "single": rng.normal(size=(4,)).astype("f4"),
        "half": rng.normal(size=(3, 1, 2)).astype("f2"),
        "brain": rng.normal(size=(5,)).astype(ml_dtypes.bfloat16),
        "integers": np.array([-(2**62), 2**62]),
        "bytes": np.arange(256).astype("u1"),
        "empty": np.zeros((0, 7), "f4"),
        "scalar": np.array(2.5, "f4"),
    }
    path = tmp_path / "x.safetensors"
    save_file(arrays, path, {"note": "text"})
    found = read_tensors(path)
    assert set(found) == set(arrays) and read_metadata(path) == {"note": "text"}
    for name, array in arrays.items():
        expected = array.astype("f4") if name in ("half", "brain") else array
        assert found[name].dtype == expected.dtype
        np.testing.assert_array_equal(found[name], expected)


TENSORS = {"a": np.ones((2, 3), "f4"), "b": np.ones(4, "f4"), "c": np.arange(2), "d": np.ones(1)}
# The library takes the last of the two and is content if that one is in order.
TWICE = b'{"a":{"dtype":"I32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
TWICE_APART = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}'
NOTE_TWICE = b'{"__metadata__":{"n":"1","n":"2"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
DAMAGED = {
    "empty file": (b"", "intact"),
    "only a length": (struct.pack("<Q", 8), "intact"),
    "header longer than the file": (struct.pack("<Q", 1000) + b"{}", "intact"),
    "header of gigabytes": (struct.pack("<Q", 200_000_000) + b" " * 64, "intact"),
    "header that is no JSON": (file_of(b"abcd"), "intact"),
    "header that is a list": (file_of(b"[]"), "intact"),
    "header that is not UTF-8": (file_of(b'{"\xff"'), "intact"),
    "header of brackets": (file_of(b"[" * 90_000), "intact"),
    "key twice": (file_of(TWICE, FLOATS), "a stands more than once in its header"),
    "key twice, one after another": (file_of(TWICE_APART, FLOATS), "a stands more than once in its header"),
    "metadata twice": (file_of(NOTE_TWICE, FLOATS), "n stands more than once in its header"),
    "truncated": (file_of({"a": entry(0, 8, shape=(2,))}, FLOATS[:7]), "intact .*cut off: 7 bytes of tensors, expected 8"),
    "cut off within a header whose length begins as a pickle": (struct.pack("<Q", 0x280) + b"{", "intact .*cut off"),
    "a negative size": (file_of({"a": entry(0, 8, shape=(-2,))}, FLOATS), "intact"),
    "a size that NumPy cannot have": (file_of({"a": entry(0, 0, shape=(0, 2**50, 2**50))}), "intact"),
    "an entry that is text": (file_of({"a": "F32"}), "intact"),
    "a pointer of git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    "bytes left over": (file_of({"a": entry(0, 4)}, FLOATS), "intact"),
    "shape larger than its bytes": (file_of({"a": entry(0, 8, shape=(3,))}, FLOATS), "intact"),
    "shape that overflows": (file_of({"a": entry(0, 8, shape=(2**32, 2**32))}, FLOATS), "intact"),
    "overlap": (file_of({"a": entry(0, 4), "b": entry(2, 6), "c": entry(6, 8, "F16")}, FLOATS), "intact"),
    "hole": (file_of({"a": entry(0, 2, "F16"), "b": entry(4, 8)}, FLOATS), "intact"),
    "unknown type": (file_of({"a": entry(0, 8, "F33", (2,))}, FLOATS), "a has type F33, .* F64"),
    "type that is not read": (file_of({"a": entry(0, 8, "BOOL", (8,))}, FLOATS), "a has type BOOL, .* F64"),
    "type that NumPy lacks": (file_of({"a": entry(0, 8, "F8_E4M3", (8,))}, FLOATS), "a has type F8_E4M3"),
    "NaN": (file_of({"a": entry(0, 8, shape=(2,))}, np.float32([1, np.nan]).tobytes()), "a holds 1 values that are NaN"),
    "infinity": (file_of({"a": entry(0, 4, "F16", (2,))}, np.float16([1, -np.inf]).tobytes()), "or infinite, of 2"),
    "a signalling NaN": (file_of({"a": entry(0, 2, "F16")}, b"\x01\x7c"), "a holds 1 values"),
    "NaN in bfloat16": (file_of({"a": entry(0, 4, "BF16", (2,))}, b"\xc0\x7f\xc0\x7f"), "a holds 2 values"),
    "NaN in float64": (file_of({"a": entry(0, 8, "F64")}, np.float64([np.nan]).tobytes()), "a holds 1 values"),
    "name that moves the cursor": (file_of({"\x1b[2J\n": entry(0, 8, "F64")}, b"\xff" * 8), r"\\x1b\[2J\\n holds"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "words"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_refused_in_one_line(content, words, tmp_path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=words) as caught:
        read_tensors(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and len(message.splitlines()) == 1 and len(message) < 500


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.ckpt", "a.bin", "a.pkl", "a.safetensors", "a"])
@pytest.mark.parametrize("kind", ["pickle", "zip"])
def test_a_pickle_is_refused_and_never_executed(kind, name, tmp_path):
    path, trap = tmp_path / name, tmp_path / "executed"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Attack(trap)))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Attack(trap)))
    with pytest.raises(WeightsError, match=r"torch.load\(sys.argv\[1\], weights_only=True") as caught:
        read_tensors(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is not a .safetensors file") and "\n" not in message
    assert not trap.exists()
    pickle.loads(pickle.dumps(Attack(trap)))
    assert trap.exists()  # so the attack is one


def test_the_name_says_what_a_file_is(tmp_path):
    path = tmp_path / "a.ckpt"
    save_file(TENSORS, path)
    with pytest.raises(WeightsError, match=r"a\.ckpt is not a \.safetensors file"):
        read_tensors(path)


def test_the_command_of_the_refusal_converts(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    source, target = tmp_path / "a.pt", tmp_path / "a.safetensors"
    shared = torch.arange(6.0)
    torch.save({"x": shared.reshape(2, 3).T, "y": shared}, source)
    with pytest.raises(WeightsError) as caught:
        read_tensors(source)
    command = str(caught.value).partition("trust with: ")[2]
    assert command.endswith("IN OUT.safetensors")
    program = command.partition('"')[2].rpartition('"')[0]
    monkeypatch.setattr(sys, "argv", ["-c", str(source), str(target)])
    exec(program, {})
    found = read_tensors(target)
    np.testing.assert_array_equal(found["x"], np.arange(6.0).reshape(2, 3).T)
    np.testing.assert_array_equal(found["y"], np.arange(6.0))


def test_what_is_not_a_file_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"there is no file .*nowhere.safetensors$"):
        read_tensors(tmp_path / "nowhere.safetensors")
    (tmp_path / "d.safetensors").mkdir()
    with pytest.raises(WeightsError, match=r"d.safetensors \(it is a directory\)"):
        read_tensors(tmp_path / "d.safetensors")
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(WeightsError, match="there is no file"):
        read_tensors(tmp_path / "pipe.safetensors")


def test_twenty_thousand_names_are_read_in_a_moment(tmp_path):
    names = [f"blocks.{number}.weight" for number in range(20_000)]
    header = {name: entry(4 * n, 4 * n + 4) for n, name in enumerate(names)}
    (tmp_path / "x.safetensors").write_bytes(file_of(header, np.arange(20_000, dtype="f4").tobytes()))
    begin = time.process_time()
    assert [int(array[0]) for array in read_tensors(tmp_path / "x.safetensors").values()] == [*range(20_000)]
    assert time.process_time() - begin < 10  # one that looks through all names for each takes a minute


PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
    "ema.",
    "diffusion_model.",
    "module._orig_mod.",
    "ema.model.module.",
)


@pytest.mark.parametrize("prefix", ["", *PREFIXES])
def test_a_prefix_that_all_names_share_is_left_out(prefix):
    expected = dict(zip(("net.a", "net.b.c", "out"), TENSORS.values()))
    wrapped = {prefix + name: array for name, array in expected.items()}
    assert without_wrappers(wrapped, {"net", "out"}) == expected
    del wrapped[f"{prefix}out"], expected["out"]
    assert without_wrappers(wrapped, {"net", "out"}) == expected


def test_what_is_no_prefix_of_all_names_stays():
    a, b = TENSORS["a"], TENSORS["b"]
    assert without_wrappers({}, {"net"}) == {} and without_wrappers({"net": a}, {"out"}) == {"net": a}
    mixed = {"model.net.a": a, "ema.net.a": b}
    assert without_wrappers(mixed, {"net"}) == mixed
    inside = {"net.0._orig_mod.a": a, "net.1._fsdp_wrapped_module._checkpoint_wrapped_module.a": b}
    assert without_wrappers(inside, {"net"}) == {"net.0.a": a, "net.1.a": b}
    with pytest.raises(WeightsError, match="1 of 2 tensors"):
        without_wrappers({"net.a": a, "net._orig_mod.a": b}, {"net"})


def test_the_files_of_an_index_are_read_as_one(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    shards = {
        "1.safetensors": {"a": np.ones(2, "f4")},
        "2.safetensors": {"b": np.zeros(3, "f4"), "c": np.ones(1)},
    }
    for name, tensors in shards.items():
        save_file(tensors, tmp_path / name)
    places = {tensor: name for name, tensors in shards.items() for tensor in tensors}
    index.write_text(json.dumps({"metadata": {"total_size": 28}, "weight_map": places}))
    assert {name: array.shape for name, array in read_tensors(index).items()} == {
        "a": (2,),
        "b": (3,),
        "c": (1,),
    }
    assert read_metadata(index) == {}
    save_file({"d": np.ones(1)}, tmp_path.parent / "outside.safetensors")
    for changed, words in {
        ("d", "../outside.safetensors"): r"not an index .*outside.safetensors' is not allowed",
        ("d", str(tmp_path.parent / "outside.safetensors")): "not an index .* is not allowed",
        ("d", "3.safetensors"): "there is no file .*3.safetensors",
        ("d", "1.safetensors"): "1.safetensors and the index differ in 1 tensors, as d",
        ("a", "2.safetensors"): "2.safetensors and the index differ in 1 tensors, as a",
        ("a", 3): "not an index .*weight_map.a is 3, expected text",
    }.items():
        index.write_text(json.dumps({"weight_map": {**places, **dict([changed])}}))
        with pytest.raises(WeightsError, match=words) as caught:
            read_tensors(index)
        assert "\n" not in str(caught.value)


def test_a_match_is_all_that_is_named_in_its_order():
    floats = {name: TENSORS[name] for name in "abd"}
    found = match(floats, {"d": (1,), "b": (4,), "a": (2, 3)}, "x")
    assert list(found) == ["d", "b", "a"] and found["a"] is TENSORS["a"]


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (
            {"a": (2, 3), "b": (4,), "d": (1,)},
            "x: 3 of 3 tensors match; 1 unexpected (c); nothing was loaded",
        ),
        (
            {"a": (3, 2), "b": (4, 1), "c": (2,), "d": (1,), "e": ()},
            "x: 1 of 5 tensors match; 1 missing (e); 3 wrong (a: float32[2, 3], expected float32[3, 2], "
            "b: float32[4], expected float32[4, 1], c: int64[2], expected float32[2]); nothing was loaded",
        ),
        (
            dict.fromkeys("pqrstu", ()),
            "x: 0 of 6 tensors match; 6 missing (p, q, r, ...); 4 unexpected (a, b, c, ...); nothing was loaded",
        ),
    ],
)
def test_a_mismatch_is_counted_and_named(shapes, words):
    with pytest.raises(WeightsError) as caught:
        match(TENSORS, shapes, "x")
    assert str(caught.value) == words


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_values_that_are_not_finite_are_refused_wherever_they_are_from(value):
    """A checkpoint is intact with them; what it is exported to, evaluated or continued from would be noise."""
    tensors = {"a": np.zeros((2, 3), np.float32), "b": np.array([0, value], np.float32)}
    with pytest.raises(
        WeightsError, match=r"^x: b holds values that are NaN or infinite; nothing was loaded"
    ):
        match(tensors, {"a": (2, 3), "b": (2,)}, "x")


def test_the_fingerprint_is_of_names_types_shapes_and_values():
    same = dict(reversed(TENSORS.items()))
    assert fingerprint(TENSORS) == fingerprint(same) and len(fingerprint(same)) == 64
    transposed = np.asfortranarray(TENSORS["a"])
    assert fingerprint({**TENSORS, "a": transposed}) == fingerprint(TENSORS)
    others = [
        {**TENSORS, "a": TENSORS["a"].reshape(3, 2)},
        {**TENSORS, "c": TENSORS["c"].astype("u8")},
        {**TENSORS, "d": TENSORS["d"] + 1},
        {name.replace("d", "e"): array for name, array in TENSORS.items()},
    ]
    assert len({fingerprint(other) for other in [TENSORS, *others]}) == 5
