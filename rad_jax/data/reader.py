"""Reads windows of frames from a split, decoding only the records that they touch."""

import functools
import hashlib
import os
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rad_jax.data import example
from rad_jax.data.index import FILE, load_index, spec_of
from rad_jax.data.spec import BOOKKEEPING, DamagedRecord, DataError
from rad_jax.errors import ADVICE
from rad_jax.files.json_files import has_form

# Random access: no read-ahead, and a file buffer smaller than a record. The footer of a file holds its index; the default
# prefetch of 1 MiB per opened file would be half a window.
_OPTIONS = "readahead_buffer_size:0,max_parallelism:1,footer_prefetch_bytes:64K"
_FILE_BUFFER = 32768

Fields = dict[str, memoryview]

OPEN_FILES = 256
"""Shards of a split that are open at a time, at most: a quarter of the files that a process may open."""

_AGAIN = "run the command that writes the data set again"
_REPAIR = f"delete the file and {_AGAIN}"
_KEEP = (
    "keep the file, whose sha256 is that of the one that was written: "
    "the cause is index.json, memory, or the limit of open files (ulimit -n)"
)


class Episodes:
    """One split of a data set, open for reading. Cheap to open; can be pickled and shared between threads.

    Attributes:
      directory, split: what was opened.
      spec: EpisodeSpec of the split.
      ids: name of every episode.
      lengths: frames of every episode, int64.
      checksums: sha256 (hex) of every shard as it was written.
      tokenizer: {"name", "fingerprint", "path"} as recorded with the data set, or None.

    Raises:
      DataError: there is no such data set or split, its index is damaged, or a shard is missing or of another size than it was
        written with.
    """

    def __init__(self, directory: str | os.PathLike, split: str):
        self.directory, self.split = Path(directory), split
        index = load_index(self.directory)
        if index is None:
            raise DataError(f"no data set at {self.directory}: it has no {FILE}")
        if split not in index["splits"]:
            state = "does not exist"
            if (self.directory / f"{split}.progress").exists():
                state = "was not finished: run the command that writes it again"
            others = ", ".join(index["splits"])
            raise DataError(f"split {split!r} of {self.directory} {state}; there are: {others}")
        self.spec = spec_of(index, split)
        self.tokenizer: dict[str, str] | None = index["tokenizer"]
        entry = index["splits"][split]
        self._shards, self._episodes = entry["shards"], entry["episodes"]
        self.ids = [episode["id"] for episode in self._episodes]
        self.checksums = [shard["sha256"] for shard in self._shards]
        self.lengths = np.array([episode["num_frames"] for episode in self._episodes], np.int64)
        self._damaged: set[int] = set()  # shards whose hash is wrong, which takes a while to find out
        self._paths = paths = [self.directory / shard["file"] for shard in self._shards]
        for path, shard in zip(paths, self._shards):
            state = f"has {path.stat().st_size} bytes" if path.exists() else "is missing"
            if state != f"has {shard['bytes']} bytes":
                written = f"{shard['records']} records of {shard['bytes']} bytes were written"
                remedy = _REPAIR if path.exists() else _AGAIN
                raise DataError(f"shard {path} {state}, {written}: {remedy}")
        # A reader that is pushed out is closed when no thread reads it any more.
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._reader = functools.lru_cache(min(OPEN_FILES, limit // 4))(lambda shard: _open(paths[shard]))

    @property
    def pictures(self) -> str:
        """What a model reads: "latents" if the data set has them, else "frames". Raises DataError if it has neither."""
        for name in ("latents", "frames"):
            if name in self.spec.arrays:
                return name
        raise DataError(f"{self} has neither 'latents' nor 'frames'")

    def __len__(self) -> int:
        return len(self._episodes)

    def __reduce__(self):
        return Episodes, (self.directory, self.split)

    def __repr__(self) -> str:
        return f"Episodes({os.fspath(self.directory)!r}, {self.split!r})"

    def read(
        self, episode: int, start: int = 0, stop: int | None = None, arrays: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Returns frames start..stop-1 of an episode.

        Args:
          episode: number of the episode.
          start, stop: frames; without `stop` up to the end.
          arrays: names of per-frame arrays, all if None.

        Returns:
          name -> (stop - start, ...), newly allocated.

        Raises:
          DataError: no such episode, frames or array; or an intact shard cannot be read now.
          DamagedRecord: a record is damaged, or belongs to another data set.
        """
        entry = self._entry(episode)
        length = entry["num_frames"]
        arrays = tuple(self.spec.arrays) if arrays is None else arrays
        stop = length if stop is None else stop
        if not 0 <= start < stop <= length:
            where = f"episode {entry['id']!r} of {self}"
            raise DataError(f"{where} has {length} frames, asked for {start}..{stop}")
        out = {}
        for name in arrays:
            if name not in self.spec.arrays:
                raise DataError(f"{self} has no array {name!r}; there are: {', '.join(self.spec.arrays)}")
            shape, dtype = self.spec.arrays[name]
            out[name] = np.empty((stop - start, *shape), dtype)
        chunk = self.spec.chunk
        for number, fields in self._chunks(entry, start // chunk, (stop - 1) // chunk + 1):
            first = number * chunk
            begin, end = max(start, first), min(stop, first + chunk)
            for name, array in out.items():
                frames = _decoded(fields[name], array.dtype).reshape(-1, *array.shape[1:])
                array[begin - start : end - start] = frames[begin - first : end - first]
        return out

    def static(self, episode: int) -> dict[str, np.ndarray]:
        """Returns the per-episode arrays of an episode, by name."""
        ((_, fields),) = self._chunks(self._entry(episode), 0, 1)
        return {
            name: _decoded(fields[name], dtype).reshape(shape).astype(dtype)
            for name, (shape, dtype) in self.spec.statics.items()
        }

    def context(self, episode: int) -> int:
        """Returns how many frames of an episode are given, of those that were made for evaluation.

        Raises:
          DataError: the data set does not say it, in a whole number named "n_context".
        """
        shape, dtype = self.spec.statics.get("n_context", (None, "missing"))
        if shape != () or "int" not in dtype:
            raise DataError(
                f"{self} was not made for evaluation: its 'n_context' is {dtype}{list(shape or ())}"
            )
        return int(self.static(episode)["n_context"])

    def verify(self) -> None:
        """Reads every shard once and compares its sha256 with the index.

        Raises:
          DataError: naming the first shard that is not the one that was written.
        """
        for shard, (path, checksum) in enumerate(zip(self._paths, self.checksums)):
            if self._digest(shard) != checksum:
                raise DataError(f"shard {path} is not the file that was written (sha256 differs): {_REPAIR}")

    def _digest(self, shard: int) -> str:
        with open(self._paths[shard], "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _unreadable(self, entry: dict[str, Any], record: int, problem: str, is_read: bool) -> DataError:
        """The error of a record; no `DamagedRecord` where an intact shard cannot be read now, which must not be deleted then.

        Args:
          entry: of its episode.
          record: its number in the shard.
          problem: what is wrong.
          is_read: whether the record could be read and its content is wrong, whatever the hash of the shard.
        """
        shard, kind = entry["shard"], DamagedRecord
        try:
            intact = shard not in self._damaged and self._digest(shard) == self.checksums[shard]
            remedy = _KEEP if intact else _REPAIR
            if not intact:
                self._damaged.add(shard)
            elif not is_read:
                kind = DataError
        except FileNotFoundError:
            remedy = _AGAIN
        except OSError as error:
            kind, advice = DataError, ADVICE.get(error.errno, "it may be intact")
            remedy = f"keep the file, which cannot be opened now ({error.strerror}): {advice}"
        where = f"shard {self._paths[shard]}, record {record}"
        return kind(f"{where}: {problem} (episode {entry['id']!r}); {remedy}")

    def _entry(self, episode: int) -> dict[str, Any]:
        if not 0 <= episode < len(self):
            raise DataError(f"{self} has episodes 0..{len(self) - 1}, asked for {episode}")
        return self._episodes[episode]

    def _chunks(self, entry: dict[str, Any], first: int, stop: int) -> Iterator[tuple[int, Fields]]:
        """Yields (number, checked features) of an episode's chunks first..stop-1."""
        offset = entry["first_record"]
        records = self._records(entry, offset + first, offset + stop)
        for number, record in zip(range(first, stop), records, strict=True):
            try:
                fields = self._checked(entry, number, record)
            except ValueError as error:
                raise self._unreadable(entry, offset + number, str(error), True) from error
            yield number, fields

    def _checked(self, entry: dict[str, Any], number: int, record: bytes) -> Fields:
        """Returns the features of a record. Raises ValueError unless it is chunk `number` of the episode."""
        try:
            fields = example.decode(record)
            episode_id = str(fields["episode_id"], "utf-8")
            chunk, crc = (int.from_bytes(fields[name], "little") for name in ("chunk", "episode_crc"))
            found = {name: len(fields[name]) for name in self.spec.sizes}
            if unknown := fields.keys() - found.keys() - BOOKKEEPING.keys() - {"episode_id"}:
                raise KeyError(f"the index has no array {min(unknown)!r}")
        except (ValueError, KeyError) as error:
            raise ValueError(f"not a record of this data set ({error!r})") from error
        if (episode_id, chunk, crc) != (entry["id"], number, entry["crc"]):
            raise ValueError(
                f"holds chunk {chunk} of episode {episode_id!r} (checksum {crc:08x}), "
                f"expected chunk {number} of {entry['id']!r} ({entry['crc']:08x})"
            )
        frames = min(self.spec.chunk, entry["num_frames"] - number * self.spec.chunk)
        for name, size in self.spec.sizes.items():
            expected = size * (frames if name in self.spec.arrays else 1)
            if found[name] != expected:
                raise ValueError(f"array {name!r} has {found[name]} bytes, expected {expected}")
        return fields

    def _records(self, entry: dict[str, Any], first: int, stop: int) -> list[bytes]:
        shard = entry["shard"]
        try:
            return self._reader(shard).read(first, stop)
        except (RuntimeError, IndexError):
            # The message names neither file nor record, and this reader cannot be used again: find the record one by one.
            self._reader.cache_clear()
        records = []
        for record in range(first, stop):
            try:
                records += _open(self._paths[shard]).read([record])
            except (RuntimeError, IndexError) as error:
                reason = str(error).split(";")[0]
                raise self._unreadable(entry, record, f"cannot be read ({reason})", False) from error
        return records


def check_latents(episodes: Episodes, name: str, fingerprint: str) -> None:
    """Raises `DataError` if a data set has neither frames nor latents, or latents of another tokenizer.

    Args:
      episodes: the split that a model is to read.
      name, fingerprint: of the model's tokenizer.
    """
    recorded = episodes.tokenizer or {"name": "an unknown tokenizer", "fingerprint": ""}
    if episodes.pictures == "latents" and recorded["fingerprint"] != fingerprint:
        whose = f"another {name}" if recorded["name"] == name else name
        raise DataError(
            f"{episodes} has latents of {recorded['name']}, the model works on those of {whose}: "
            "encode the episodes with that one"
        )


def frame_size(episodes: Episodes) -> tuple[int, int]:
    """Height and width of the frames of a data set, or of those that its latents were made from.

    Raises:
      DataError: it has no frames, and does not say.
    """
    if "frames" in episodes.spec.arrays:
        shape, dtype = episodes.spec.arrays["frames"]
        if len(shape) != 3 or shape[2] != 3 or dtype != "uint8":
            raise DataError(f"{episodes}: frames are {dtype}{list(shape)}, expected uint8[height, width, 3]")
        return shape[0], shape[1]
    if not has_form(episodes.spec.info, {"encoded": {"frame_size": (int, int)}}):
        where = "info['encoded']['frame_size']"
        raise DataError(f"{episodes} has no frames, and its {where} does not say how large they were")
    height, width = episodes.spec.info["encoded"]["frame_size"]
    return height, width


def _decoded(field: memoryview, dtype: str | np.dtype) -> np.ndarray:
    return np.frombuffer(field, np.dtype(dtype).newbyteorder("<"))


def _open(path: Path) -> Any:
    from array_record.python.array_record_module import ArrayRecordReader

    return ArrayRecordReader(os.fspath(path), _OPTIONS, file_reader_buffer_size=_FILE_BUFFER)
