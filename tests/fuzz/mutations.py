"""Damages of a file, drawn at random: of its bytes, and of the structure of JSON, safetensors, zip and .npy files."""

import io
import json
import random
import struct
import zipfile
from typing import Any

NUMBERS = (0, 1, -1, 2, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32, 2**53, 2**53 + 1, 2**63)
NUMBERS += (2**64, -(2**63))
TEXTS = (
    "",
    "a",
    "../x",
    "/etc/passwd",
    "\x00",
    "\x1b[2J",
    "\ud800",
    "ä" * 300,
    "x" * 5000,
    "1",
    "NaN",
    "F64",
)
TEXTS += ("a/b", ".", "-1")
VALUES = (*NUMBERS, *TEXTS, None, True, False, 0.5, -0.0, 1e308, float("nan"), float("inf"), 10**400)
VALUES += ([], {}, [[]], [0], {"a": 1})
SHAPES = (
    "(2**40,)",
    "(0, 4611686018427387904, 4)",
    "(1000000,)",
    "(-1,)",
    "(True,)",
    "()",
    "(3.5,)",
    "(" * 300,
)
SHAPES += ("(" + "9" * 400 + ",)", "(" + "1," * 40 + ")", "(1099511627776,)", "(65536, 65536, 65536)")
TYPES = (
    "|O",
    "<f2",
    "<f4",
    "<f8",
    ">i8",
    "|b1",
    "<U999999",
    "|S1",
    "|V8",
    "<M8[s]",
    "<c16",
    "<a4",
    "<f16",
    "|u1",
)
TYPES += ("<U0", "x", "")


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to four damages of a file."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = _mutate(data, rng)
    return data


def _mutate(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.35:
        return _bytes(data, rng)
    for structure in (_zip, _safetensors, _json):
        try:
            return structure(data, rng)
        except Exception:  # not of this structure, or no longer; what its parser raises may be anything
            continue
    return _bytes(data, rng)


def _bytes(data: bytes, rng: random.Random) -> bytes:
    at, length = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 8, 64, 4096))
    piece = data[at : at + length]
    other = data[(start := rng.randrange(len(data) + 1)) : start + length]
    number = rng.choice(NUMBERS) & 2**64 - 1
    size = rng.choice((1, 2, 4, 8))
    packed = (number & 2 ** (8 * size) - 1).to_bytes(size, rng.choice(("little", "big")))
    new, skip = rng.choice((
        (bytes(b ^ 1 << rng.randrange(8) for b in piece[:1]), 1),
        (bytes([rng.randrange(256)]), 1),
        (packed, size),
        (packed, size),
        (b"", len(data)),  # cut off
        (b"", length),
        (bytes(len(piece)), len(piece)),  # a page of zeros
        (other, len(other)),
        (other, 0),
        (piece * rng.choice((2, 3, 100)), len(piece)),
        (rng.randbytes(length), length),
    ))  # fmt: skip
    return data[:at] + new + data[at + skip :]


def _json(data: bytes, rng: random.Random) -> bytes:
    """A damage of a JSON text, or of a line of JSON lines."""
    text = data.decode()
    try:
        return _dumped(json.loads(text), rng)
    except ValueError:
        lines = text.split("\n")
        at = rng.randrange(len(lines))
        lines[at] = _dumped(json.loads(lines[at]), rng).decode()
        return "\n".join(lines).encode()


def _dumped(tree: Any, rng: random.Random) -> bytes:
    """A tree with a damage at one place, as JSON."""
    places = list(_places(tree))
    if not places:
        return json.dumps(rng.choice(VALUES)).encode("utf-8", "replace")
    holder, key = rng.choice(places)
    old = holder[key]
    deed = rng.randrange(10)
    if deed < 4:
        holder[key] = rng.choice(VALUES)
    elif deed == 4:
        del holder[key]
    elif deed == 5 and isinstance(holder, dict):
        holder[rng.choice(TEXTS)] = holder.pop(key)
    elif deed == 6:
        other, place = rng.choice(places)
        if not _is_within(holder, other[place]):  # no circles
            holder[key] = other[place]
    elif deed == 7 and isinstance(old, int | float):
        holder[key] = rng.choice((old + 1, old - 1, -old, old * 1000, str(old), float(old)))
    elif deed == 8:
        holder[key] = [old] * rng.choice((1, 2, 1000))
    else:
        for _ in range(rng.choice((3, 100, 3000))):
            old = [old] if rng.random() < 0.5 else {"a": old}
        return _deep(tree, holder, key, old)
    text = json.dumps(tree)
    if isinstance(tree, dict) and tree and rng.random() < 0.05:
        name = rng.choice(list(tree))
        text = f"{{{json.dumps(name)}: {json.dumps(rng.choice(VALUES))}, {text[1:]}"  # a name twice
    return text.encode()


def _deep(tree: Any, holder: Any, key: Any, nested: Any) -> bytes:
    """JSON of a tree with a part that is nested too deeply for the module json."""
    depth, opened, closed = nested, "", ""
    while isinstance(depth, list | dict) and len(depth) == 1:
        is_list = isinstance(depth, list)
        opened, closed = opened + ("[" if is_list else '{"a":'), ("]" if is_list else "}") + closed
        depth = depth[0] if is_list else next(iter(depth.values()))
        if len(opened) > 20_000:
            break
    holder[key] = "@@"
    return json.dumps(tree).replace('"@@"', f"{opened}1{closed}").encode()


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every entry of a tree, as what holds it and its key."""
    found, ahead = [], [tree]
    while ahead:
        one = ahead.pop()
        entries = one.items() if isinstance(one, dict) else enumerate(one) if isinstance(one, list) else ()
        for key, value in entries:
            found.append((one, key))
            ahead.append(value)
    return found


def _is_within(part: Any, whole: Any) -> bool:
    return part is whole or any(holder[key] is part for holder, key in _places(whole))


def _safetensors(data: bytes, rng: random.Random) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    if rng.random() < 0.02:  # many names of tensors without bytes
        header |= {
            f"blocks.{n}.x": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(2000)
        }
        text = json.dumps(header).encode()
    elif rng.random() < 0.2:  # one prefix, or the values
        text = json.dumps(
            {rng.choice(("module.", "a.b.", "")) + name: entry for name, entry in header.items()}
        ).encode()
    else:
        text = _dumped(header, rng)
    rest = data[8 + length :]
    return struct.pack("<Q", len(text)) + text + (_bytes(rest, rng) if rng.random() < 0.2 else rest)


def _zip(data: bytes, rng: random.Random) -> bytes:
    """A damage of a member, its name, its method or its claims; checksums fit again."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info), info.compress_type) for info in archive.infolist()]
    at = rng.randrange(len(members))
    name, content, method = members[at]
    deed = rng.randrange(8)
    if deed < 4:
        content = _npy(content, rng) if content.startswith(b"\x93NUMPY") else _bytes(content, rng)
    elif deed == 4:
        name = rng.choice((*TEXTS, members[0][0])).encode("utf-8", "replace").decode()
    elif deed == 5:
        method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    elif deed == 6 and rng.random() < 0.05:
        content, method = content[:128] + bytes(2**24), zipfile.ZIP_DEFLATED  # much from little
    members[at : at + 1] = [] if deed == 7 else [(name, content, method)]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content, method in members:
            if name not in archive.namelist():
                archive.writestr(zipfile.ZipInfo(name or "x"), content, method)
    out = bytearray(file.getvalue())
    if rng.random() < 0.2:  # claims of the directory or of a member: method, checksum, sizes, offset
        signature, fields = rng.choice(
            ((b"PK\x01\x02", (8, 10, 16, 20, 24, 28, 42)), (b"PK\x03\x04", (6, 8, 14, 18, 22, 26)))
        )
        starts = [i for i in range(len(out)) if out.startswith(signature, i)] if len(out) < 2**17 else []
        if starts:
            place = rng.choice(starts) + rng.choice(fields)
            out[place : place + 4] = (rng.choice(NUMBERS) & 2**32 - 1).to_bytes(4, "little")
    return bytes(out)


def _npy(content: bytes, rng: random.Random) -> bytes:
    """A damage of the header of an array, or of its bytes."""
    if rng.random() < 0.4:
        return content[:128] + _bytes(content[128:], rng)
    length = int.from_bytes(content[8:10], "little")
    text = content[10 : 10 + length].decode("latin-1")
    if rng.random() < 0.6:
        start = text.find("'shape': ") + 9
        text = text[:start] + rng.choice(SHAPES) + text[text.find(")", start) + 1 :]
    else:
        start = text.find("'descr': ") + 9
        end = text.find(", 'fortran", start)
        text = text[:start] + rng.choice((repr(rng.choice(TYPES)), "[('a', '<f4')]", "[" * 200)) + text[end:]
    head = text.encode("latin-1")
    return content[:8] + (len(head) & 65535).to_bytes(2, "little") + head + content[10 + length :]
