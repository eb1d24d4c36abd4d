"""What an earlier run left of a split: which shards are finished, and whether they belong to what is being written.

While a split is written, its finished shards (entries of the index, each with its episodes) are kept in a progress file
beside the data; when it is complete they become the split's part of `index.json`.
"""

import json
from pathlib import Path
from typing import Any

from rad_jax.data.spec import DataError

_SHARD_KEYS = ("file", "records", "bytes", "sha256")
_EPISODE_KEYS = ("first_record", "num_frames", "crc")


def finished_shards(
    directory: Path, split: str, index: dict[str, Any], progress_file: Path, plan: dict[str, Any]
) -> dict[int, dict[str, Any]]:
    """Returns the finished shards by number: those of the index, or else those of a run that was stopped.

    A shard that is gone since, or has another size, is not among them, and so is made again.

    Args:
      directory, split: what is being written.
      index: of the data set.
      progress_file: of the split.
      plan: what the split must have been begun with: schema, info, number of episodes, episodes per shard.

    Raises:
      DataError: the split was begun with something else, or the progress file is damaged.
    """
    if split in index["splits"]:
        entry = index["splits"][split]
        refuse_change(directory, f"split {split!r}", {**index, **entry}, plan)
        shards = {number: {**shard, "episodes": []} for number, shard in enumerate(entry["shards"])}
        for episode in entry["episodes"]:
            shards[episode["shard"]]["episodes"].append(episode)
    elif progress_file.exists():
        try:
            entry = json.loads(progress_file.read_text("utf-8"))
            shards = {int(number): shard for number, shard in entry["shards"].items()}
        except (ValueError, KeyError) as error:
            raise DataError(
                f"{progress_file} is damaged: delete it to write split {split!r} afresh"
            ) from error
        refuse_change(directory, f"the unfinished split {split!r}", entry, plan)
    else:
        return {}
    sizes = {number: _size(directory / shard["file"]) for number, shard in shards.items()}
    return {number: shard for number, shard in shards.items() if sizes[number] == shard["bytes"]}


def split_entry(split: str, shards: list[dict[str, Any]]) -> dict[str, Any]:
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


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.exists() else None
