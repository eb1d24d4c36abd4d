"""Records are `tf.train.Example` messages, as protobuf and TensorFlow Datasets understand them."""

import numpy as np
import pytest
from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

from rad_jax.data import example

FEATURES = [
    {},
    {"a": b""},
    {"b": b"\x00" * 127, "a": b"x" * 128, "longer name": b"y" * 20_000, "é": bytes(range(256))},
]


@pytest.mark.parametrize("features", FEATURES)
def test_encode_and_decode_agree_with_protobuf(features):
    def feature(value):
        return tf_feature_pb2.Feature(bytes_list=tf_feature_pb2.BytesList(value=[value]))

    message = tf_example_pb2.Example(
        features=tf_feature_pb2.Features(feature={name: feature(value) for name, value in features.items()})
    )
    record = example.encode(features)
    assert tf_example_pb2.Example.FromString(record) == message
    assert record == message.SerializeToString(deterministic=True)
    # Any order of the map is read.
    assert example.decode(message.SerializeToString()) == features


def test_the_bytes_do_not_depend_on_the_order_of_the_features():
    features = FEATURES[-1]
    assert example.encode(dict(reversed(features.items()))) == example.encode(features)


def test_decoded_features_are_views():
    record = example.encode({"a": b"0123"})
    assert np.shares_memory(np.frombuffer(example.decode(record)["a"], "u1"), np.frombuffer(record, "u1"))


def test_no_beginning_of_a_record_is_taken_for_a_record():
    record = example.encode({"a": b"x" * 200, "b": b"yy"})
    for length in range(len(record)):
        with pytest.raises(ValueError):
            example.decode(record[:length])
