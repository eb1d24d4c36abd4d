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
    fields, position, end = [], 0, len(message)
    while position < end:
        if message[position] != (tags[0] if repeated else tags[min(len(fields), len(tags) - 1)]):
            raise ValueError(f"unexpected field {message[position]:#x} in a record")
        position, length, shift = position + 1, 0, 0
        while True:
            if position == end:
                raise ValueError("a record ends inside a length")
            byte = message[position]
            position, length, shift = position + 1, length | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                break
        if position + length > end:
            raise ValueError("a record ends inside a field")
        fields.append(message[position : position + length])
        position += length
    if not repeated and len(fields) != len(tags):
        raise ValueError(f"a record has {len(fields)} fields where {len(tags)} belong")
    return fields
