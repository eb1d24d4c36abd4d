"""Writes one shard: a file of records, chunk by chunk of episode by episode."""

import hashlib
import os
import socket
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rad_jax.data import example
from rad_jax.data.plan import SplitPlan
from rad_jax.data.spec import DataError, Episode, EpisodeSpec, check_episode
from rad_jax.files import replace_durably

# One record per ArrayRecord group: reading a record at random decodes nothing else. Latents and rendered
# frames hardly shrink under a general compressor, which would only cost reading time.
_OPTIONS = "group_size:1,uncompressed"


def write_shard_file(plan: SplitPlan, number: int, episodes: Iterable[Episode]) -> dict[str, Any]:
    """Writes a shard under a temporary name, renames it when it is complete, and returns its part of the index.

    Raises:
      DataError: there are more or fewer episodes than the shard has, or one does not fit the schema.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    path, indices, episodes = plan.path(number), plan.episodes(number), iter(episodes)
    remove_temporaries(path.parent, path.name)
    temporary = path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    writer = ArrayRecordWriter(os.fspath(temporary), _OPTIONS)
    entries, records = [], 0
    try:
        for index in indices:
            episode = next(episodes, None)
            if episode is None:
                raise DataError(
                    f"make_episodes ended before episode {index} of split {plan.split!r} (asked for {indices})"
                )
            entry, lot = _episode_records(plan.spec, f"{plan.split}-{index:06d}", episode)
            for record in lot:
                writer.write(record)
            entries.append({"first_record": records, **entry})
            records += -(-entry["num_frames"] // plan.spec.chunk)
            del episode, lot  # not held while the next one is made
        if next(episodes, None) is not None:
            raise DataError(
                f"make_episodes gave more episodes than it was asked for ({indices} of split {plan.split!r})"
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


def remove_temporaries(directory: Path, shards: str) -> None:
    """Removes what writers that were killed have left of shards (names, * for any)."""
    for temporary in directory.glob(f"{shards}.*.tmp"):
        temporary.unlink(missing_ok=True)


def _episode_records(
    spec: EpisodeSpec, default_id: str, episode: Episode
) -> tuple[dict[str, Any], Iterator[bytes]]:
    """Returns an episode's entry in the index, but for its place, and its records."""
    episode_id = episode.get("episode_id", default_id)
    num_frames = check_episode(spec, episode_id, episode)
    arrays = {name: _contiguous(episode[name]) for name in [*spec.arrays, *spec.statics]}
    crc = _checksum(arrays)
    entry = {"id": episode_id, "num_frames": num_frames, "crc": crc}
    return entry, _records(spec, episode_id, num_frames, arrays, crc)


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
) -> Iterator[bytes]:
    """Yields an episode's records: `spec.chunk` frames each, the last one as short as it is."""
    common = {name: arrays[name].tobytes() for name in spec.statics}
    common |= {"episode_id": episode_id.encode(), "num_frames": np.int32(num_frames).tobytes()}
    common |= {"episode_crc": np.uint32(crc).tobytes()}
    for chunk, start in enumerate(range(0, num_frames, spec.chunk)):
        frames = {name: arrays[name][start : start + spec.chunk].tobytes() for name in spec.arrays}
        place = {"chunk": np.int32(chunk).tobytes(), "start": np.int32(start).tobytes()}
        yield example.encode({**common, **frames, **place})
