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
import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rad_jax.data.spec import DataError, EpisodeSpec

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


def write_json(path: Path, content: Any) -> None:
    """Replaces a JSON file as a whole: a reader, or a crash, sees the old content or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
    replace_durably(temporary, path)


def replace_durably(temporary: Path, path: Path) -> None:
    """Renames a finished temporary file of the same directory, its content and then its name on the disk."""
    for item, rename in ((temporary, True), (path.parent, False)):
        descriptor = os.open(item, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if rename:
            os.replace(temporary, path)


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


def try_lock(descriptor: int) -> bool:
    """Locks an open file or directory until it is closed; False if another process has locked it."""
    try:
        _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for_lock(descriptor: int) -> bool:
    """Locks an open file until it is closed, when nobody else holds it any more; True."""
    _lock(descriptor, fcntl.LOCK_EX)
    return True


def _lock(descriptor: int, operation: int) -> None:
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        raise
    except OSError as error:
        # Some network file systems cannot lock; there, giving two writers different shards is the user's to see to.
        if error.errno not in (errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
            raise


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
