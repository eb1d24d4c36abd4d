"""By what arrays are recognised: those of a tokenizer, or of a file of weights."""

import hashlib
from collections.abc import Mapping

import numpy as np


def fingerprint(tensors: Mapping[str, np.ndarray]) -> str:
    """sha256 over names, types, shapes and bytes, whatever the order of the tensors."""
    digest = hashlib.sha256()
    for name, array in sorted(tensors.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
