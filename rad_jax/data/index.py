"""`index.json`: which shards a data set has, which records of them hold which episode, and the tokenizer fitted to it.

    {"format": 1, "name": ..., "chunk": 20, "arrays": {name: [shape, dtype]}, "statics": {...},
     "tokenizer": null | {"name", "fingerprint", "path"},
     "splits": {split: {"info": {...}, "num_episodes": n, "episodes_per_shard": k,
                        "shards": [{"file", "records", "bytes", "sha256"}],
                        "episodes": [{"id", "shard", "first_record", "num_frames", "crc"}]}}}

The file is only ever replaced as a whole. While it is replaced the directory is locked; the system releases the lock when
a process dies.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rad_jax.data.spec import DataError, EpisodeSpec
from rad_jax.files import try_lock, write_json

FILE = "index.json"
FORMAT = 1
PATIENCE = 60.0  # seconds: changing the index takes one or two


def load_index(directory: str | os.PathLike) -> dict[str, Any] | None:
    """Returns the index of a data set, None if the directory has none.

    Raises:
      DataError: the file is not JSON or of a format that this version does not know.
    """
    path = Path(directory) / FILE
    try:
        index = json.loads(path.read_text("utf-8"))
        found = index["format"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error!r}): delete it and write the data set again") from error
    if found != FORMAT:
        raise DataError(
            f"{path} has format {found}, this version of rad_jax reads {FORMAT}: write the data set again"
        )
    return index


def schema_entry(spec: EpisodeSpec) -> dict[str, Any]:
    """Returns the part of the index that all splits of a data set share, as JSON gives it back."""
    arrays, statics = (
        {name: [list(shape), dtype] for name, (shape, dtype) in group.items()}
        for group in (spec.arrays, spec.statics)
    )
    return {"format": FORMAT, "name": spec.name, "chunk": spec.chunk, "arrays": arrays, "statics": statics}


def spec_of(index: dict[str, Any], split: str) -> EpisodeSpec:
    """Returns the EpisodeSpec that a split was written with."""
    arrays, statics = (
        {name: (tuple(shape), dtype) for name, (shape, dtype) in index[group].items()}
        for group in ("arrays", "statics")
    )
    return EpisodeSpec(index["name"], arrays, statics, index["splits"][split]["info"], index["chunk"])


@contextlib.contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Holds the index of a data set for the moment in which it is changed; waits for others that do the same.

    Raises:
      DataError: another process has been holding it for `PATIENCE` seconds.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        begin = time.monotonic()
        while not try_lock(descriptor):
            if time.monotonic() - begin >= PATIENCE:
                raise DataError(f"another process is writing to {directory}: wait until it is done")
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def record_tokenizer(
    directory: str | os.PathLike, name: str, fingerprint: str, path: str | os.PathLike
) -> None:
    """Records the tokenizer of a data set (all splits) in its index.

    Args:
      directory: the data set.
      name: which tokenizer, as `rad_jax.tokenizer.load` takes it.
      fingerprint: sha256 of its weights (hex), which is compared when it is loaded.
      path: its file, as it will be given to the tokenizer's loader: a relative one is meant from `directory`.

    Raises:
      DataError: there is no data set, or another process does not let go of its index.
    """
    directory = Path(directory)
    if load_index(directory) is None:
        raise DataError(f"no data set at {directory}: it has no {FILE}")
    with writing(directory):
        tokenizer = {"name": name, "fingerprint": fingerprint, "path": os.fspath(path)}
        write_json(directory / FILE, {**load_index(directory), "tokenizer": tokenizer})
