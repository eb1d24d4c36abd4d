"""What is finished of a split that is being written, and who is writing the rest.

    SPLIT.progress/plan.json      what the split was begun with
    SPLIT.progress/00003.json     shard 3 is finished: its part of the index, with its episodes
    SPLIT.progress/00003.claim    locked by the process that writes shard 3

The directory is there from the split's beginning until it has become a part of `index.json`. Every process that can see
it, on one host or on many, writes shards of the same split. A claim is a lock of the system, which releases it when its
holder dies; on a file system without locks two processes must not be given the same shard.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rad_jax.data.plan import SplitPlan
from rad_jax.data.spec import DataError
from rad_jax.files import try_lock, wait_for_lock, write_json

_SHARD_KEYS = ("file", "records", "bytes", "sha256")
_EPISODE_KEYS = ("first_record", "num_frames", "crc")


def finished_shards(plan: SplitPlan) -> set[int]:
    """Returns the numbers of the finished shards; all of them, once the split is complete."""
    try:
        names = os.listdir(plan.progress)
    except FileNotFoundError:
        return set(range(plan.num_shards))
    return {int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdecimal()}


def finished_episodes(plan: SplitPlan) -> int:
    """Returns how many episodes the finished shards have."""
    return sum(len(plan.episodes(number)) for number in finished_shards(plan))


def read_entries(plan: SplitPlan) -> dict[int, dict[str, Any]]:
    """Returns the parts of the index of all finished shards whose file is there, in the size it was written with.

    Raises:
      DataError: what is kept about a shard is damaged.
    """
    entries = {}
    for path in sorted(plan.progress.glob("[0-9]*.json")):
        entry = read_kept(path, (*_SHARD_KEYS, "episodes"))
        if is_written(plan.directory, entry):
            entries[int(path.stem)] = entry
    return entries


def read_kept(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """Reads a file of a progress directory. Raises DataError unless it has these keys."""
    try:
        content = json.loads(path.read_text("utf-8"))
        _ = [content[key] for key in keys]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged: delete {path.parent} to write the split afresh") from error
    return content


def is_written(directory: Path, entry: dict[str, Any]) -> bool:
    """Whether the file of a shard is there, in the size it was written with."""
    path = directory / entry["file"]
    return path.exists() and path.stat().st_size == entry["bytes"]


def entry_path(plan: SplitPlan, number: int) -> Path:
    """The file that says that a shard is finished."""
    return plan.progress / f"{number:05d}.json"


def record_shard(plan: SplitPlan, number: int, entry: dict[str, Any]) -> None:
    """Says that a shard is finished."""
    # The split is complete without it if another process has written the same shard, unseen: no locks there.
    with contextlib.suppress(FileNotFoundError):
        write_json(entry_path(plan, number), entry)


@contextlib.contextmanager
def claim(plan: SplitPlan, number: int, wait: bool) -> Iterator[bool]:
    """Holds a shard for writing; gives False if there is nothing to write, or nothing here.

    Args:
      wait: whether to wait for another process that holds it, which may finish the shard, or die.
    """
    try:
        descriptor = os.open(plan.progress / f"{number:05d}.claim", os.O_RDWR | os.O_CREAT, 0o666)
    except FileNotFoundError:  # the split is complete
        yield False
        return
    try:
        mine = wait_for_lock(descriptor) if wait else try_lock(descriptor)
        yield mine and plan.progress.exists() and not entry_path(plan, number).exists()
    finally:
        os.close(descriptor)


def entries_of_index(entry: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Returns the parts of the index of all shards of a complete split, as they were before they were put together."""
    shards = {number: {**shard, "episodes": []} for number, shard in enumerate(entry["shards"])}
    for episode in entry["episodes"]:
        kept = {key: episode[key] for key in ("id", *_EPISODE_KEYS)}
        shards[episode["shard"]]["episodes"].append(kept)
    return shards


def index_of_entries(split: str, shards: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the index entries of a split's shards and, in order, of all its episodes.

    Raises:
      DataError: two episodes have one name.
    """
    episodes: dict[str, dict[str, Any]] = {}
    for number, shard in enumerate(shards):
        for episode in shard["episodes"]:
            name = episode["id"]
            if name in episodes:
                raise DataError(f"split {split!r} has two episodes called {name!r}")
            episodes[name] = {"id": name, "shard": number, **{key: episode[key] for key in _EPISODE_KEYS}}
    return {
        "shards": [{key: shard[key] for key in _SHARD_KEYS} for shard in shards],
        "episodes": list(episodes.values()),
    }


def refuse_change(directory: Path, what: str, there: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises DataError naming the first field, as deep as it goes, in which what is there is not what is wanted."""
    for key, new in wanted.items():
        names, old = [key], there.get(key)
        if old == new:
            continue
        while isinstance(old, dict) and isinstance(new, dict):
            name = next(name for name in {**old, **new} if old.get(name, ...) != new.get(name, ...))
            names, old, new = [*names, name], old.get(name, "absent"), new.get(name, "absent")
        raise DataError(
            f"{what} in {directory} was written with {'.'.join(names)} = {old!r}, not {new!r}: "
            "use another directory, or delete this one"
        )
