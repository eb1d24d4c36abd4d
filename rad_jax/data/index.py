"""`index.json`: the shards of a data set, which of their records hold which episode, and the tokenizer fitted to it.

    {"format": 1, "name": ..., "chunk": 20, "arrays": {name: [shape, dtype]}, "statics": {...},
     "tokenizer": null | {"name", "fingerprint", "path"},
     "splits": {split: {"info": {...}, "num_episodes": n, "episodes_per_shard": k,
                        "shards": [{"file", "records", "bytes", "sha256"}],
                        "episodes": [{"id", "shard", "first_record", "num_frames", "crc"}]}}}

The file is only ever replaced as a whole, by a process that holds `.lock` beside it.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rad_jax.data.spec import DataError, EpisodeSpec, check_file_name, check_name
from rad_jax.files import FileLock, Locked, remove_temporaries, write_json

FILE = "index.json"
LOCK = ".lock"
FORMAT = 1
PATIENCE = 60.0  # seconds: changing the index takes one or two


def load_index(directory: str | os.PathLike) -> dict[str, Any] | None:
    """Returns the index of a data set, or None if the directory has none.

    Raises:
      DataError: the file is not JSON, has a format that this version does not know, or has a name of a split, shard or episode
        that is not safe as a file name.
    """
    path = Path(directory) / FILE
    try:
        index = json.loads(path.read_text("utf-8"))
        found = index["format"]
        if found == FORMAT:
            _check_names(path, index["splits"])
    except FileNotFoundError:
        return None
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({error!r}): delete it and write the data set again") from error
    if found != FORMAT:
        raise DataError(
            f"{path} has format {found}, this version of rad_jax reads {FORMAT}: write the data set again"
        )
    return index


def _check_names(path: Path, splits: dict[str, Any]) -> None:
    """Raises DataError for a name that could lead out of the data set, or out of where an episode's videos are written."""
    for split, entry in splits.items():
        check_name(f"{path}: split", split)
        for shard in entry["shards"]:
            check_file_name(f"{path}: shard", shard["file"])
        for episode in entry["episodes"]:
            check_file_name(f"{path}: episode", episode["id"])


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
def index_locked(directory: Path) -> Iterator[None]:
    """Holds the index of a data set while it is changed; waits for others that change it.

    Raises:
      DataError: another process has held it for `PATIENCE` seconds.
    """
    try:
        lock = FileLock(directory / LOCK, timeout=PATIENCE)
    except Locked as error:
        raise DataError(f"{error.owner} is writing to {directory}: wait until it is done") from None
    with lock:
        if lock.exclusive:
            remove_temporaries(directory, "*.json")
        yield


def record_tokenizer(
    directory: str | os.PathLike, name: str, fingerprint: str, path: str | os.PathLike
) -> None:
    """Records in the index which tokenizer a data set (all of its splits) uses.

    Args:
      directory: the data set.
      name: of the tokenizer, as `rad_jax.tokenizer.load` takes it.
      fingerprint: sha256 of its weights (hex), which is checked when it is loaded.
      path: its file; a relative path starts at `directory`.

    Raises:
      DataError: there is no data set, or another process holds its index for too long.
    """
    directory = Path(directory)
    if load_index(directory) is None:
        raise DataError(f"no data set at {directory}: it has no {FILE}")
    with index_locked(directory):
        tokenizer = {"name": name, "fingerprint": fingerprint, "path": os.fspath(path)}
        write_json(directory / FILE, {**load_index(directory), "tokenizer": tokenizer})
