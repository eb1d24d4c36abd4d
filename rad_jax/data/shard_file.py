"""Writes the file of one shard: records, chunk by chunk of episode by episode."""

import contextlib
import hashlib
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rad_jax.data import example
from rad_jax.data.shards import SplitLayout
from rad_jax.data.spec import DataError, Episode, EpisodeSpec, check_episode
from rad_jax.errors import failure_of_the_system
from rad_jax.files import replacing

# One record per ArrayRecord group: reading a record at random decodes nothing else. Latents and rendered
# frames hardly shrink under a general compressor, which would only cost reading time.
_OPTIONS = "group_size:1,uncompressed"


def write_shard_file(layout: SplitLayout, number: int, episodes: Iterable[Episode]) -> dict[str, Any]:
    """Writes a shard, whole or not at all, and returns its entry of the index.

    Raises:
      DataError: there are more or fewer episodes than the shard has, or one does not fit the schema.
      OSError: it cannot be written; nothing of it remains.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    path, indices, given = layout.path(number), layout.episodes(number), iter(episodes)
    asked = f"those of split {layout.split!r} that it was asked for ({indices})"
    entries, count = [], 0
    with replacing(path) as temporary:
        with (
            _failures_of_the_system(path),
            contextlib.closing(ArrayRecordWriter(str(temporary), _OPTIONS)) as writer,
        ):
            for index in indices:
                episode = next(given, None)
                if episode is None:
                    raise DataError(f"make_episodes ended before episode {index} of {asked}")
                entry = _write_episode(writer, layout.spec, f"{layout.split}-{index:06d}", episode)
                entries.append({"first_record": count, **entry})
                count += -(-entry["num_frames"] // layout.spec.chunk)
                del episode  # frees its memory before the next one is made
            if next(given, None) is not None:
                raise DataError(f"make_episodes gave more episodes than {asked}")
        with open(temporary, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = temporary.stat().st_size
    return {"file": path.name, "records": count, "bytes": size, "sha256": sha256, "episodes": entries}


@contextlib.contextmanager
def _failures_of_the_system(path: Path) -> Iterator[None]:
    """ArrayRecord's own exception says in words alone that a disk is full."""
    try:
        yield
    except RuntimeError as error:
        raise failure_of_the_system(error, path) or error from error


def _write_episode(writer: Any, spec: EpisodeSpec, default_id: str, episode: Episode) -> dict[str, Any]:
    """Writes the records of an episode, of `spec.chunk` frames each; returns its entry in the index, without its position."""
    episode_id = episode.get("episode_id", default_id)
    num_frames = check_episode(spec, episode_id, episode)
    arrays = {name: _as_stored(episode[name]) for name in [*spec.arrays, *spec.statics]}
    crc = 0  # one CRC-32 over all arrays: it stands in the index and in each record, and ties them together
    for name in sorted(arrays):
        crc = zlib.crc32(arrays[name].reshape(-1).view(np.uint8), zlib.crc32(name.encode(), crc))
    common = {name: arrays[name].tobytes() for name in spec.statics}
    common |= {"episode_id": episode_id.encode(), "num_frames": np.int32(num_frames).tobytes()}
    common |= {"episode_crc": np.uint32(crc).tobytes()}
    for chunk, start in enumerate(range(0, num_frames, spec.chunk)):
        frames = {name: arrays[name][start : start + spec.chunk].tobytes() for name in spec.arrays}
        place = {"chunk": np.int32(chunk).tobytes(), "start": np.int32(start).tobytes()}
        writer.write(example.encode({**common, **frames, **place}))
    return {"id": episode_id, "num_frames": num_frames, "crc": crc}


def _as_stored(array: np.ndarray | np.generic) -> np.ndarray:
    """Returns the array in C order and little-endian."""
    array = np.asarray(array)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
