"""Encodes and decodes records: `tf.train.Example` messages whose features are single byte strings.

TensorFlow Datasets writes the same for features with `encoding="bytes"`, so it reads these records. Encoding is deterministic
(protobuf leaves the order of keys open; here they are sorted), and decoding does not copy.

Wire format (protobuf.dev/programming-guides/encoding): a message is a list of (tag, length, bytes), level by level
Example.features = 1 > Features.feature = 1 > {key = 1, value = 2} > Feature.bytes_list = 1 > BytesList.value = 1.
"""

from collections.abc import Mapping

_FIRST, _SECOND = 0x0A, 0x12  # tags of the length-delimited fields 1 and 2


def encode(features: Mapping[str, bytes]) -> bytes:
    """Returns the Example of `features`; equal features give equal bytes."""
    entries = []
    for name in sorted(features):
        feature = _delimited(_FIRST, _delimited(_FIRST, features[name]))
        entries.append(_delimited(_FIRST, _delimited(_FIRST, name.encode()) + _delimited(_SECOND, feature)))
    return _delimited(_FIRST, b"".join(entries))


def decode(record: bytes) -> dict[str, memoryview]:
    """Returns the features of an Example as views of `record`.

    Raises:
      ValueError: `record` is not a message of the form that `encode` writes.
    """
    features = {}
    (content,) = _fields(memoryview(record), _FIRST)
    for entry in _fields(content, _FIRST, repeated=True):
        key, feature = _fields(entry, _FIRST, _SECOND)
        (values,) = _fields(feature, _FIRST)
        (features[str(key, "utf-8")],) = _fields(values, _FIRST)
    return features


def _delimited(tag: int, payload: bytes) -> bytes:
    header, length = [tag], len(payload)
    while length > 0x7F:
        header.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*header, length]) + payload


def _fields(message: memoryview, *tags: int, repeated: bool = False) -> list[memoryview]:
    """Splits a message into its fields, whose tags must be `tags` (any number of the one tag if `repeated`)."""
    found, fields, end = [], [], 0
    try:
        while end < len(message):
            found.append(message[end])
            begin, length, shift, byte = end + 1, 0, 0, 0x80
            while byte & 0x80:
                byte = message[begin]
                begin, length, shift = begin + 1, length | (byte & 0x7F) << shift, shift + 7
            end = begin + length
            fields.append(message[begin:end])
    except IndexError:
        end = len(message) + 1
    if end != len(message):
        raise ValueError("a record ends inside a field")
    if found != (list(tags) * len(found) if repeated else list(tags)):
        raise ValueError(f"fields {found[:8]} of a record, expected {list(tags)}")
    return fields
