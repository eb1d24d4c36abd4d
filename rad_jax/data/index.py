"""`index.json`: the shards of a data set, which of their records hold which episode, and the tokenizer fitted to it.

    {"format": 1, "sha256": ..., "name": ..., "chunk": 20, "arrays": {name: [shape, dtype]}, "statics": {...},
     "tokenizer": null | {"name", "fingerprint", "path"},
     "splits": {split: {"info": {...}, "num_episodes": n, "episodes_per_shard": k,
                        "shards": [{"file", "records", "bytes", "sha256"}],
                        "episodes": [{"id", "shard", "first_record", "num_frames", "crc"}]}}}

The file is only ever replaced as a whole, by a process that holds `.lock` beside it. Whatever else is found in it, or in a file
of an unfinished split, which consists of the same parts, is a `DataError` that names the field. "sha256" is that of all other
entries; an index of an earlier version has none.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rad_jax.data.spec import DataError, EpisodeSpec, check_file_name, check_name
from rad_jax.files import FileLock, Locked, remove_temporaries, write_json
from rad_jax.files.json_files import check_form, check_seal, read_json, sealed

FILE = "index.json"
LOCK = ".lock"
FORMAT = 1
PATIENCE = 60.0  # seconds: changing the index takes one or two

_ARRAYS = {"*": ([int], str)}
SCHEMA = {"name": str, "chunk": int, "arrays": _ARRAYS, "statics": _ARRAYS}
SHARD = {"file": str, "records": int, "bytes": int, "sha256": str}
EPISODE = {"id": str, "first_record": int, "num_frames": int, "crc": int}
TOKENIZER = dict.fromkeys(("name", "fingerprint", "path"), str)
_SPLIT = {
    "info": dict,
    "num_episodes": int,
    "episodes_per_shard": int,
    "shards": [SHARD],
    "episodes": [{"shard": int, **EPISODE}],
}


def read_form(path: Path, form: dict[str, Any], remedy: str) -> dict[str, Any]:
    """Returns the content of a JSON file that has a form of `rad_jax.files.json_files`.

    Raises:
      FileNotFoundError: there is no such file.
      DataError: it is no JSON, or of another form.
    """
    try:
        return read_json(path, form)
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}): {remedy}") from error


def load_index(directory: str | os.PathLike) -> dict[str, Any] | None:
    """Returns the index of a data set, or None if the directory has none.

    Raises:
      DataError: the file has a format that this version does not know, or it is damaged: a field is missing, wrong, or
        contradicts another one, or a name of a split, shard or episode is not safe as a file name.
    """
    path, remedy = Path(directory) / FILE, "delete it and write the data set again"
    try:
        index = read_form(path, {"format": int}, remedy)
    except FileNotFoundError:
        return None
    if (found := index["format"]) != FORMAT:
        raise DataError(f"{path} has format {found}, expected {FORMAT}: write the data set again")
    try:
        check_form(index, {**SCHEMA, "tokenizer": object, "splits": {"*": _SPLIT}})
        if index["tokenizer"] is not None:
            check_form(index["tokenizer"], TOKENIZER, "tokenizer")
        for split in index["splits"]:
            _check_split(index, split)
        check_seal(index)
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}): {remedy}") from error
    return index


def write_index(directory: Path, index: dict[str, Any]) -> None:
    """Replaces the index of a data set, which the caller has locked."""
    write_json(directory / FILE, sealed(index))


def _check_split(index: dict[str, Any], split: str) -> None:
    """Raises ValueError for a name that could lead out of the data set, or an episode that is not in the shard it names."""
    check_name("split", split)
    entry, spec = index["splits"][split], spec_of(index, split)
    shards, episodes = entry["shards"], entry["episodes"]
    frame_bytes = sum(spec.sizes[name] for name in spec.arrays)
    for shard in shards:
        check_file_name("shard", shard["file"])
    if entry["num_episodes"] != len(episodes):
        raise ValueError(f"splits.{split}.num_episodes is {entry['num_episodes']}, not {len(episodes)}")
    for number, episode in enumerate(episodes):
        check_file_name("episode", episode["id"])
        shard = shards[episode["shard"]] if episode["shard"] < len(shards) else {"records": 0, "bytes": 0}
        frames = episode["num_frames"]
        end = episode["first_record"] + -(-frames // spec.chunk)
        if frames < 1 or end > shard["records"] or frame_bytes * frames > shard["bytes"]:
            where = f"splits.{split}.episodes[{number}]"
            raise ValueError(f"{where} is {episode}, which does not fit into its shard {shard}")


def schema_entry(spec: EpisodeSpec) -> dict[str, Any]:
    """Returns the part of the index that all splits of a data set share, as JSON gives it back."""
    entry = {"format": FORMAT, "name": spec.name, "chunk": spec.chunk}
    for group in ("arrays", "statics"):
        entry[group] = {name: [list(shape), dtype] for name, (shape, dtype) in getattr(spec, group).items()}
    return entry


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
        write_index(directory, {**load_index(directory), "tokenizer": tokenizer})
