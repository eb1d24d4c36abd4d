"""`index.json`: which shards a data set has, which records of them hold which episode, and the tokenizer fitted to it.

    {"format": 1, "name": ..., "chunk": 20, "arrays": {name: [shape, dtype]}, "statics": {...},
     "tokenizer": null | {"name", "fingerprint", "path"},
     "splits": {split: {"info": {...}, "num_episodes": n, "episodes_per_shard": k,
                        "shards": [{"file", "records", "bytes", "sha256"}],
                        "episodes": [{"id", "shard", "first_record", "num_frames", "crc"}]}}}

The file is only ever replaced as a whole. Writers of one directory exclude each other by a lock on the directory, which
the system releases when a process dies.
"""

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rad_jax.data.spec import DataError, EpisodeSpec

FILE = "index.json"
FORMAT = 1


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
    """Holds the data set for writing.

    Raises:
      DataError: another process is writing to it.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"another process is writing to {directory}: wait until it is done") from error
        except OSError as error:
            # Some network file systems cannot lock a directory; there, starting two writers is the user's to
            # avoid.
            if error.errno not in (errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
                raise
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
      DataError: there is no data set, or another process is writing to it.
    """
    directory = Path(directory)
    if load_index(directory) is None:
        raise DataError(f"no data set at {directory}: it has no {FILE}")
    with writing(directory):
        tokenizer = {"name": name, "fingerprint": fingerprint, "path": os.fspath(path)}
        write_json(directory / FILE, {**load_index(directory), "tokenizer": tokenizer})
