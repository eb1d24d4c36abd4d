"""The shards of a split that is being written: which there are, which are finished, and who is writing the others.

    SPLIT.progress/plan.json      the layout that the split was begun with
    SPLIT.progress/00003.json     shard 3 is finished: its part of the index, with its episodes
    SPLIT.progress/00003.claim    locked by the process that writes shard 3

The directory exists from the beginning of a split until `index.json` contains it. Every process that can see it, on one host or
on many, writes shards of the same split. A claim is a `FileLock`, so a process that dies gives its shard back; on a file system
without locks, two processes may write the same shard, each in full, and the later one replaces the same bytes.
"""

import contextlib
import math
import os
import reprlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rad_jax.data.index import EPISODE, SCHEMA, SHARD, read_form, schema_entry
from rad_jax.data.spec import DataError, EpisodeSpec, check_name
from rad_jax.files import FileLock, Locked, remove_temporaries, write_json

LAYOUT = "plan.json"
_MOST_SHARDS = 99_999
_REMEDY = "delete {} to write the split afresh"


@dataclass(frozen=True)
class SplitLayout:
    """How a split is divided into shards: known before the first one is written, and the same for every process.

    Attributes:
      directory: the data set. All its splits have the same arrays, statics and chunk.
      split: e.g. "train".
      spec: the schema, and the `info` of this split.
      num_episodes: episodes of the split.
      episodes_per_shard: episodes of a shard file; the last shard has the rest.
      tokenizer: {"name", "fingerprint", "path"} of the data set's latents (see `record_tokenizer`); None accepts what is
        recorded already, or will be.

    Raises:
      DataError: the split cannot have this name, a number is below 1, or there are more shards than their names can count.
    """

    directory: Path
    split: str
    spec: EpisodeSpec
    num_episodes: int
    episodes_per_shard: int
    tokenizer: Mapping[str, str] | None = None

    def __post_init__(self):
        check_name("split", self.split)
        if self.num_episodes < 1 or self.episodes_per_shard < 1:
            raise DataError(
                f"split {self.split!r}: num_episodes is {self.num_episodes} and episodes_per_shard "
                f"{self.episodes_per_shard}, expected at least 1"
            )
        if self.num_shards > _MOST_SHARDS:
            raise DataError(
                f"split {self.split!r}: {self.num_episodes} episodes, {self.episodes_per_shard} in a shard, make "
                f"{self.num_shards} shards, expected at most {_MOST_SHARDS}"
            )

    @property
    def num_shards(self) -> int:
        return -(-self.num_episodes // self.episodes_per_shard)

    def episodes(self, number: int) -> range:
        """Indices of the episodes of a shard."""
        first = number * self.episodes_per_shard
        return range(first, min(first + self.episodes_per_shard, self.num_episodes))

    def path(self, number: int) -> Path:
        """File of a shard."""
        prefix = f"{self.spec.name}-{self.split}.array_record-"
        return self.directory / f"{prefix}{number:05d}-of-{self.num_shards:05d}"

    @property
    def progress_directory(self) -> Path:
        """Exists as long as the split is unfinished; see the module."""
        return self.directory / f"{self.split}.progress"

    def entry_path(self, number: int) -> Path:
        """File whose existence says that a shard is finished."""
        return self.progress_directory / f"{number:05d}.json"

    @property
    def shared(self) -> dict[str, Any]:
        """What all splits of the data set have in common, as JSON."""
        return schema_entry(self.spec) | ({"tokenizer": dict(self.tokenizer)} if self.tokenizer else {})

    @property
    def own(self) -> dict[str, Any]:
        """What the index says about this split alone, apart from its shards and episodes, as JSON."""
        sizes = {"num_episodes": self.num_episodes, "episodes_per_shard": self.episodes_per_shard}
        return {"info": self.spec.info, **sizes}

    @property
    def content(self) -> dict[str, Any]:
        """Everything that the bytes of the split depend on beside its episodes, as JSON."""
        return {**self.shared, **self.own}


def finished_shards(layout: SplitLayout) -> set[int]:
    """Returns the numbers of the finished shards; all of them, once the split is complete."""
    try:
        names = os.listdir(layout.progress_directory)
    except FileNotFoundError:
        return set(range(layout.num_shards))
    return {int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdecimal()}


def finished_episodes(layout: SplitLayout) -> int:
    """Returns the number of episodes in the finished shards."""
    return sum(len(layout.episodes(number)) for number in finished_shards(layout))


def read_entries(layout: SplitLayout) -> dict[int, dict[str, Any]]:
    """Returns the index entries of all finished shards that `is_written`. Raises DataError if one is damaged."""
    entries = {}
    for path in sorted(layout.progress_directory.glob("[0-9]*.json")):
        entry = read_form(path, {**SHARD, "episodes": [EPISODE]}, _REMEDY.format(path.parent))
        number = int(path.stem)
        if entry["file"] != layout.path(number).name:
            raise DataError(f"{path} is damaged (file is {entry['file']!r}): delete {path.parent}")
        if is_written(layout.directory, entry):
            entries[number] = entry
    return entries


def read_layouts(directory: Path) -> dict[str, dict[str, Any]]:
    """Returns the contents of the layouts of all unfinished splits, by split. Raises DataError if one is damaged."""
    paths, form = sorted(directory.glob(f"*.progress/{LAYOUT}")), {**SCHEMA, "format": int}
    return {path.parent.stem: read_form(path, form, _REMEDY.format(path.parent)) for path in paths}


def is_written(directory: Path, entry: dict[str, Any]) -> bool:
    """Whether the file of a shard exists with the size it was written with."""
    path = directory / entry["file"]
    return path.exists() and path.stat().st_size == entry["bytes"]


def record_shard(layout: SplitLayout, number: int, entry: dict[str, Any]) -> None:
    """Marks a shard as finished."""
    # Without locks, another process may have written the same shard and completed the split: the directory is gone then.
    with contextlib.suppress(FileNotFoundError):
        write_json(layout.entry_path(number), entry)


@contextlib.contextmanager
def claim(layout: SplitLayout, number: int, wait: bool) -> Iterator[bool]:
    """Holds a shard for writing. Yields False if it is finished already, or another process holds it.

    With `wait`, such a process is waited for until it finishes the shard or dies.
    """
    try:
        lock = FileLock(layout.progress_directory / f"{number:05d}.claim", math.inf if wait else 0.0)
    except (FileNotFoundError, Locked):  # the split is complete; or another process writes the shard
        yield False
        return
    with lock:
        # Looked at under the lock: whoever held it before may have finished the shard, or the split.
        unfinished = layout.progress_directory.exists() and not layout.entry_path(number).exists()
        if unfinished and lock.exclusive:
            remove_temporaries(layout.directory, layout.path(number).name)
        yield unfinished


def entries_of_index(entry: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Returns the entries of all shards of a complete split, as `read_entries` gave them before it was complete."""
    shards = {number: {**shard, "episodes": []} for number, shard in enumerate(entry["shards"])}
    for episode in entry["episodes"]:
        shards[episode["shard"]]["episodes"].append({key: episode[key] for key in EPISODE})
    return shards


def index_of_entries(split: str, shards: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the index entries of a split's shards and of all its episodes. Raises DataError if two have the same id."""
    episodes = [
        {"id": episode["id"], "shard": number, **{key: episode[key] for key in EPISODE}}
        for number, shard in enumerate(shards)
        for episode in shard["episodes"]
    ]
    for name, count in Counter(episode["id"] for episode in episodes).items():
        if count > 1:
            raise DataError(f"split {split!r} has two episodes called {name!r}")
    return {"shards": [{key: shard[key] for key in SHARD} for shard in shards], "episodes": episodes}


def refuse_change(directory: Path, what: str, there: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises DataError naming the first differing field, at any depth, between what exists and what is wanted."""
    for key, new in wanted.items():
        names, old = [key], there.get(key)
        if old == new:
            continue
        while isinstance(old, dict) and isinstance(new, dict):
            name = next(name for name in {**old, **new} if old.get(name, ...) != new.get(name, ...))
            names, old, new = [*names, name], old.get(name, "absent"), new.get(name, "absent")
        field = ascii(".".join(names))[1:-1][:80]
        raise DataError(
            f"{what} in {directory} was written with {field} = {reprlib.repr(old)}, not {reprlib.repr(new)}: "
            "use another directory, or delete this one"
        )
