"""Files of arrays from strangers: what NumPy writes is read, and nothing is made of what a file only claims."""

import io
import zipfile

import numpy as np
import pytest

from rad_jax.files.npz import Npz, NpzError

ARRAYS = {
    "floats": np.arange(12.0).reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3)),
    "big-endian": np.arange(3, dtype=">i4"),
    "half": np.ones((2, 1), np.float16),
    "flags": np.array([True, False]),
    "text": np.array(["none", "dirt"]),
    "scalar": np.float32(2.5),
    "empty": np.zeros((0, 3)),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(save, tmp_path):
    save(tmp_path / "x.npz", **ARRAYS)
    with Npz(tmp_path / "x.npz") as arrays:
        assert set(arrays.sizes) == set(ARRAYS)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(arrays.read(name), array, strict=True)
            assert arrays.header(name)[:2] == (array.shape, array.dtype)


def npy(shape="(3,)", descr="'<f8'", data=bytes(24), version=b"\x01\x00", digits=2) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + version + len(text).to_bytes(digits, "little") + text + data


def archive_of(*members: bytes, method=zipfile.ZIP_DEFLATED, name="a.npy") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number, content in enumerate(members):
            archive.writestr(zipfile.ZipInfo(name if not number else f"{number}.npy"), content, method)
    return file.getvalue()


@pytest.mark.parametrize(("version", "digits"), [(b"\x01\x00", 2), (b"\x02\x00", 4), (b"\x03\x00", 4)])
def test_every_version_of_a_header_is_read(version, digits, tmp_path):
    (tmp_path / "x.npz").write_bytes(archive_of(npy(version=version, digits=digits)))
    with Npz(tmp_path / "x.npz") as arrays:
        np.testing.assert_array_equal(arrays.read("a"), np.zeros(3))


def claims_less(data: bytes) -> bytes:
    """The directory says that the first member has four bytes fewer than it unpacks to."""
    changed, at = bytearray(data), data.index(b"PK\x01\x02") + 24
    changed[at : at + 4] = (int.from_bytes(data[at : at + 4], "little") - 4).to_bytes(4, "little")
    return bytes(changed)


REFUSED = {
    "no zip": (b"text", "not an intact .npz file"),
    "nothing": (b"", "not an intact .npz file"),
    "cut off": (archive_of(npy())[:-10], "not an intact .npz file"),
    "a pointer of git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "another array": (archive_of(npy(), name="b.npy"), "no array 'a' among 'b'"),
    "a gigabyte of little": (archive_of(npy("(134217728,)", data=bytes(2**27 + 2**20))), "too large for a file of"),
    "a claim": (archive_of(npy("(1099511627776,)")), "8796093022208 bytes is too large"),
    "a small claim": (archive_of(npy("(4,)")), "has 24 bytes, but its shape needs 32"),
    "bytes left over": (archive_of(npy("(2,)")), "has 24 bytes, but its shape needs 16"),
    "a directory that claims less": (claims_less(archive_of(npy())), "damaged .*CRC"),
    "pickled objects": (archive_of(npy(descr="'|O'")), "pickled objects"),
    "fields": (archive_of(npy(descr="[('a', '<f8')]")), "header that is not read"),
    "a type of its own": (archive_of(npy(descr="'|V8'")), "header that is not read, '.V8'"),
    "brackets": (archive_of(npy("(" * 5000)), "header that is not read"),
    "a negative size": (archive_of(npy("(-1,)")), "header that is not read"),
    "a program": (archive_of(npy("__import__('os').abort()")), "header that is not read"),
    "no npy": (archive_of(b"text"), "no .npy file"),
    "another method": (archive_of(npy(), method=zipfile.ZIP_LZMA), "a method that is not read"),
    "a size that NumPy cannot have": (archive_of(npy("(0, 4611686018427387904, 4)", data=b"")), "damaged"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "words"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_is_none_is_refused_in_one_line(content, words, tmp_path):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(NpzError, match=words) as caught, Npz(tmp_path / "x.npz") as arrays:
        arrays.read("a")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_flipped_bit_is_found(tmp_path):
    data = bytearray(archive_of(npy(), method=zipfile.ZIP_STORED))
    data[data.index(bytes(24)) + 3] ^= 1
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(NpzError, match=r"array 'a' is damaged .*CRC"), Npz(tmp_path / "x.npz") as arrays:
        arrays.read("a")


def test_what_the_system_says_is_not_the_fault_of_the_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        Npz(tmp_path / "nowhere.npz")
