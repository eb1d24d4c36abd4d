"""Checks all recordings below a directory before anything is converted, and remembers what it found.

Checking decodes every video once. Results are kept in a journal beside the data set, a line for each recording with the sizes
and times of its files, so that a run that was stopped, or is repeated, only looks at what is new or has changed.
"""

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.common.pool import Pool
from data_prep.recordings import BadRecording, Candidate, read
from data_prep.recordings.episode import Traits, traits
from data_prep.recordings.patterns import find_pattern
from rad_jax.data import DataError
from rad_jax.data.spec import check_file_name
from rad_jax.files import FileLock, Locked, replacing

JOURNAL, LOCK = "checked.jsonl", "checked.lock"


@dataclass(frozen=True)
class Settings:
    """What the result of a check depends on, beside the files.

    Attributes:
      format: name of the reader.
      skip: frames left out at the start; None for the format's own number.
      size: (height, width) that frames will be scaled to; None for their own.
      first: only so many frames are looked at for patterns; None for all.
    """

    format: str
    skip: int | None = None
    size: tuple[int, int] | None = None
    first: int | None = None


@dataclass(frozen=True)
class Found:
    """A recording that can be used: what is needed to choose, and to read it again without counting its frames.

    ``num_bytes`` is the size of its files.
    """

    id: str
    num_frames: int
    video_frames: int
    num_bytes: int
    traits: Traits
    n_context: int | None
    pattern: str | None
    pattern_context: int | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Skipped:
    """A recording that cannot be used, and why."""

    id: str
    reason: str


def survey(
    candidates: Sequence[Candidate],
    settings: Settings,
    directory: Path,
    pool: Pool,
    progress: Callable[[int, int], None],
) -> list[Found | Skipped]:
    """The result for every candidate, in their order.

    Args:
      candidates: of `data_prep.recordings.find`.
      settings: see there.
      directory: where the journal is; see `journal_held`.
      pool: does the work.
      progress: called as (results so far, of how many) whenever there is another.
    """
    journal = Journal(directory / JOURNAL, settings)
    state = {candidate.id: _state(candidate) for candidate in candidates}
    known = {c.id: journal.get(c.id, state[c.id]) for c in candidates}
    missing = [candidate for candidate in candidates if known[candidate.id] is None]
    done = len(candidates) - len(missing)
    progress(done, len(candidates))
    with journal:
        for candidate, result in zip(missing, pool.map(partial(inspect, settings), missing), strict=True):
            known[candidate.id] = result
            journal.add(state[candidate.id], result)
            done += 1
            progress(done, len(candidates))
    return [known[candidate.id] for candidate in candidates]


def inspect(settings: Settings, candidate: Candidate) -> Found | Skipped:
    """Reads one recording, frames and all."""
    try:
        check_file_name("the name of the recording", candidate.id)
    except DataError as error:
        return Skipped(candidate.id, str(error))
    try:
        recording = read(settings.format, candidate, skip=settings.skip)
        looks = traits(recording, settings.size)
        pattern = find_pattern(recording if settings.first is None else recording.cut(0, settings.first))
    except BadRecording as error:
        return Skipped(candidate.id, str(error))
    return Found(
        id=candidate.id,
        num_frames=recording.num_frames,
        video_frames=recording.video_frames,
        num_bytes=sum(path.stat().st_size for path in candidate.files.values()),
        traits=looks,
        n_context=recording.n_context,
        pattern=pattern and pattern.kind,
        pattern_context=pattern and pattern.n_context,
        notes=recording.notes,
    )


@contextlib.contextmanager
def journal_held(directory: Path, wait: bool) -> Iterator[None]:
    """Keeps the journal of a directory, which is made, from other processes; one that dies lets go of it.

    Raises:
      DataError: another process holds it, and is not to be waited for.
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        # Not the journal itself, which is replaced, and not the lock of the data set's index.
        lock = FileLock(directory / LOCK, math.inf if wait else 0.0)
    except Locked as error:
        raise DataError(
            f"{error.owner} is converting into {directory}: wait until it is done, or use another --dst"
        ) from None
    with lock:
        yield


def _state(candidate: Candidate) -> list[list[Any]]:
    """Names, sizes and times of a candidate's files."""
    stats = {key: path.stat() for key, path in candidate.files.items()}
    return [[key, stat.st_size, stat.st_mtime_ns] for key, stat in stats.items()]


class Journal:
    """The results of earlier runs with the same settings. As a context manager it takes new ones.

    A last line that a stopped run did not finish is left out, and so is a journal with other settings.
    """

    def __init__(self, path: Path, settings: Settings):
        self._path, self._head = path, json.dumps({"format": 1, "settings": vars(settings)})
        self._entries: dict[str, dict[str, Any]] = {}
        lines = path.read_text("utf-8", errors="replace").split("\n") if path.exists() else []
        if lines and lines[0] == self._head:
            self._entries = {entry["id"]: entry for entry in _whole(lines[1:])}

    def get(self, name: str, state: list[list[Any]]) -> Found | Skipped | None:
        """What was found of the recording of this name, if its files are still in this state."""
        entry = self._entries.get(name)
        if entry is None or entry["state"] != state:
            return None
        if "reason" in entry:
            return Skipped(name, entry["reason"])
        found = {**entry["found"], "traits": Traits.from_json(entry["found"]["traits"])}
        return Found(id=name, **{**found, "notes": tuple(found["notes"])})

    def __enter__(self) -> "Journal":
        lines = [self._head, *map(json.dumps, self._entries.values())]
        with replacing(self._path) as temporary:
            temporary.write_text("".join(line + "\n" for line in lines), "utf-8")
        self._file = open(self._path, "a", encoding="utf-8")
        return self

    def add(self, state: list[list[Any]], result: Found | Skipped) -> None:
        entry: dict[str, Any] = {"id": result.id, "state": state}
        if isinstance(result, Skipped):
            entry["reason"] = result.reason
        else:
            found = {key: value for key, value in vars(result).items() if key != "id"}
            entry["found"] = {**found, "traits": result.traits.as_json()}
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def __exit__(self, *error: object) -> None:
        self._file.close()


def _whole(lines: Sequence[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and {"id", "state"} <= set(entry) and {"reason", "found"} & set(entry):
            yield entry
