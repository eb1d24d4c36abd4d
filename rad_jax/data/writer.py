"""Writes the splits of a data set, shard by shard; a run that was stopped continues where it was.

A shard is written under a temporary name and renamed when it is complete, then entered into the split's progress file.
When all shards are there, the metadata for TensorFlow Datasets and at last `index.json` are replaced, so that a reader
only ever sees whole splits. Episodes are pure functions of their index, so the files do not depend on where a run was
stopped, byte for byte.
"""

import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rad_jax.data import example
from rad_jax.data.index import FILE, load_index, replace_durably, schema_entry, write_json, writing
from rad_jax.data.resume import finished_shards, refuse_change, split_entry
from rad_jax.data.spec import DataError, Episode, EpisodeSpec, check_episode, check_name
from rad_jax.data.tfds_metadata import write_tfds_metadata

# One record per ArrayRecord group: reading a record at random decodes nothing else. Latents and rendered
# frames hardly shrink under a general compressor, which would only cost reading time.
_OPTIONS = "group_size:1,uncompressed"


def write_split(
    directory: str | os.PathLike,
    split: str,
    spec: EpisodeSpec,
    make_episodes: Callable[[range], Iterable[Episode]],
    num_episodes: int,
    *,
    episodes_per_shard: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes one split, or what is missing of it.

    Args:
      directory: the data set; made if it is not there. All its splits have the same arrays, statics and chunk.
      split: e.g. "train".
      spec: the schema, and the `info` of this split.
      make_episodes: gives the episodes of a range of indices, in order (the range is one shard, so that a renderer can
        batch over it). An episode must be a pure function of its own index. An episode without "episode_id" is called
        "<split>-<index>".
      num_episodes: episodes of the split.
      episodes_per_shard: episodes of a shard file; the last shard has the rest.
      progress: called as (episodes done, num_episodes) at the start and after every episode.

    Raises:
      DataError: an episode does not fit the schema, the split or the data set exists with another content, or another
        process is writing to the directory. Finished shards stay.
    """
    check_name("split", split)
    if num_episodes < 1 or episodes_per_shard < 1:
        raise DataError(
            f"split {split!r}: num_episodes is {num_episodes} and episodes_per_shard {episodes_per_shard}, "
            "expected at least 1"
        )
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    plan = {"info": spec.info, "num_episodes": num_episodes, "episodes_per_shard": episodes_per_shard}
    with writing(directory):
        index = load_index(directory) or {**schema_entry(spec), "tokenizer": None, "splits": {}}
        refuse_change(directory, "the data set", index, schema_entry(spec))
        progress_file = directory / f"{split}.progress.json"
        done = finished_shards(directory, split, index, progress_file, {**schema_entry(spec), **plan})
        report = progress or (lambda done, total: None)
        made = sum(len(shard["episodes"]) for shard in done.values())
        report(made, num_episodes)
        num_shards = -(-num_episodes // episodes_per_shard)
        for number in range(num_shards):
            if number in done:
                continue
            indices = range(number * episodes_per_shard, min((number + 1) * episodes_per_shard, num_episodes))
            path = directory / f"{spec.name}-{split}.array_record-{number:05d}-of-{num_shards:05d}"
            episodes = _counted(make_episodes(indices), made, num_episodes, report)
            done[number] = _write_shard(path, split, spec, indices, episodes)
            made += len(indices)
            write_json(progress_file, {**schema_entry(spec), **plan, "shards": done})
        entry = {**plan, **split_entry(split, [done[number] for number in range(num_shards)])}
        index["splits"] = dict(sorted({**index["splits"], split: entry}.items()))
        write_tfds_metadata(directory, spec, index["splits"])
        write_json(directory / FILE, index)
        progress_file.unlink(missing_ok=True)


def _counted(
    episodes: Iterable[Episode], made: int, total: int, report: Callable[[int, int], None]
) -> Iterator[Episode]:
    """Passes episodes on; when the next one is asked for, the one before has been written and is reported."""
    for number, episode in enumerate(episodes, made + 1):
        yield episode
        report(number, total)


def _write_shard(
    path: Path, split: str, spec: EpisodeSpec, indices: range, episodes: Iterator[Episode]
) -> dict[str, Any]:
    """Writes one shard file and returns its part of the index."""
    from array_record.python.array_record_module import ArrayRecordWriter

    temporary = path.with_name(path.name + ".tmp")
    writer = ArrayRecordWriter(os.fspath(temporary), _OPTIONS)
    entries, records = [], 0
    try:
        for number in indices:
            episode = next(episodes, None)
            if episode is None:
                raise DataError(
                    f"make_episodes ended before episode {number} of split {split!r} (asked for {indices})"
                )
            episode_id = episode.get("episode_id", f"{split}-{number:06d}")
            num_frames = check_episode(spec, episode_id, episode)
            arrays = {name: _contiguous(episode[name]) for name in [*spec.arrays, *spec.statics]}
            crc = _checksum(arrays)
            for record in _records(spec, episode_id, num_frames, arrays, crc):
                writer.write(record)
            entries.append({"id": episode_id, "first_record": records, "num_frames": num_frames, "crc": crc})
            records += -(-num_frames // spec.chunk)
        if next(episodes, None) is not None:
            raise DataError(
                f"make_episodes gave more episodes than it was asked for ({indices} of split {split!r})"
            )
    except BaseException:
        writer.close()
        temporary.unlink(missing_ok=True)
        raise
    writer.close()
    with open(temporary, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    size = temporary.stat().st_size
    replace_durably(temporary, path)
    return {"file": path.name, "records": records, "bytes": size, "sha256": sha256, "episodes": entries}


def _contiguous(array: np.ndarray | np.generic) -> np.ndarray:
    """Returns the array in C order and little-endian, as it lies in the record."""
    array = np.asarray(array)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)


def _checksum(arrays: dict[str, np.ndarray]) -> int:
    """Returns one CRC-32 over all arrays of an episode, by which its records recognise the index they belong to."""
    crc = 0
    for name in sorted(arrays):
        crc = zlib.crc32(arrays[name].reshape(-1).view(np.uint8), zlib.crc32(name.encode(), crc))
    return crc


def _records(
    spec: EpisodeSpec, episode_id: str, num_frames: int, arrays: dict[str, np.ndarray], crc: int
) -> Iterable[bytes]:
    """Yields an episode's records: `spec.chunk` frames each, the last one as short as it is."""
    common = {name: arrays[name].tobytes() for name in spec.statics}
    common |= {"episode_id": episode_id.encode(), "num_frames": np.int32(num_frames).tobytes()}
    common |= {"episode_crc": np.uint32(crc).tobytes()}
    for chunk, start in enumerate(range(0, num_frames, spec.chunk)):
        frames = {name: arrays[name][start : start + spec.chunk].tobytes() for name in spec.arrays}
        place = {"chunk": np.int32(chunk).tobytes(), "start": np.int32(start).tobytes()}
        yield example.encode({**common, **frames, **place})
