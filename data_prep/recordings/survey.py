"""Checks all recordings below a directory before anything is converted, and keeps a journal of those that can be used.

Checking decodes every video once. The journal lies beside the data set and has a line for each usable recording with the sizes
and times of its files, so that a run that was stopped, or is repeated, checks only what is new or has changed. What could not
be used is not in it and is checked again: the reason may have been of the moment, such as a file that could not be opened.
"""

import argparse
import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.common.pool import Pool
from data_prep.recordings import Candidate, read
from data_prep.recordings.episode import Traits, traits
from data_prep.recordings.patterns import find_pattern
from rad_jax.data import DataError
from rad_jax.data.spec import check_file_name
from rad_jax.errors import UserError, at
from rad_jax.files import FileLock, Locked
from rad_jax.files.json_files import parse_json

JOURNAL, LOCK = "checked.jsonl", "checked.lock"
DECIDING = ("format", "skip", "size", "test_frames")
"""Options of `data_prep.convert` on which the result of a check depends."""


_ARRAYS = {"*": ([int], str)}
_FORM = {
    "id": str,
    "num_frames": int,
    "video_frames": int,
    "num_bytes": int,
    "traits": {"arrays": _ARRAYS, "statics": _ARRAYS, "pose": [str]},
    "n_context": int | None,
    "pattern": str | None,
    "pattern_context": int | None,
    "notes": [str],
}


@dataclass(frozen=True)
class Found:
    """A recording that can be used: what decides its place in a data set, and what spares counting its frames again.

    Attributes:
      id: name of the recording.
      num_frames: frames of the episode.
      video_frames: frames of the video.
      num_bytes: size of its files.
      traits: what decides with which others it fits into a data set.
      n_context: frames that an evaluation gives, where the recording says so.
      pattern, pattern_context: see `data_prep.recordings.patterns`; None where there is none.
      notes: see `Recording`.
    """

    id: str
    num_frames: int
    video_frames: int
    num_bytes: int
    traits: Traits
    n_context: int | None
    pattern: str | None
    pattern_context: int | None
    notes: Sequence[str]


def survey(
    candidates: Mapping[str, Candidate],
    options: argparse.Namespace,
    pool: Pool,
    progress: Callable[[int, int], None],
) -> dict[str, Found | str]:
    """By id, in the order of the candidates: what was found, or why the recording cannot be used.

    Args:
      candidates: of `data_prep.recordings.find`, by id.
      options: of `data_prep.convert`. The caller holds the journal in ``options.dst``; see `journal_held`.
      pool: the processes that do the work.
      progress: called with the number of results so far, and how many there will be.
    """
    settings = {name: getattr(options, name) for name in DECIDING}
    path, head = options.dst / JOURNAL, json.dumps({"readers": _version(), "settings": settings})
    kept, states = _read_journal(path, head), {name: _state(each) for name, each in candidates.items()}
    results: dict[str, Found | str] = {
        n: found for n, (state, found) in kept.items() if states.get(n) == state
    }
    missing = [candidate for name, candidate in candidates.items() if name not in results]
    progress(len(results), len(candidates))
    with at(path), open(path, "a" if kept else "w", encoding="utf-8") as journal:
        if not kept:
            journal.write(head)
        for candidate, result in zip(missing, pool.map(partial(inspect, options), missing), strict=True):
            results[candidate.id] = result
            if isinstance(result, Found):
                entry = {"state": states[candidate.id], "found": asdict(result)}
                journal.write("\n" + json.dumps(entry))  # after what a run that was killed has left of a line
                journal.flush()
            progress(len(results), len(candidates))
    return {name: results[name] for name in candidates}


def inspect(options: argparse.Namespace, candidate: Candidate) -> Found | str:
    """Checks one recording, its frames included; returns why it cannot be used, if so, whatever it raises."""
    try:
        check_file_name("the name of the recording", candidate.id)
        recording = read(options.format, candidate, skip=options.skip)
        own = traits(recording, options.size)
        pattern = find_pattern(recording.cut(0, options.test_frames))
        return Found(
            id=candidate.id,
            num_frames=recording.num_frames,
            video_frames=recording.video_frames,
            num_bytes=num_bytes(candidate),
            traits=own,
            n_context=recording.n_context,
            pattern=pattern and pattern.kind,
            pattern_context=pattern and pattern.n_context,
            notes=recording.notes,
        )
    except Exception as error:
        return reason_of(error)


def reason_of(error: Exception) -> str:
    """Why a recording cannot be used, in one line; what is no `UserError` names its type."""
    if isinstance(error, UserError):
        return str(error)
    text = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}"[:200].removesuffix(": ")


def num_bytes(candidate: Candidate) -> int:
    """The size of the files of a recording. Raises `OSError` if one is gone."""
    return sum(path.stat().st_size for path in candidate.files.values())


def journal_held(directory: Path, wait: bool) -> FileLock:
    """A lock that keeps other processes from the journal of a directory, which is made; as a context manager, until its end.

    Raises:
      DataError: another process holds it, and ``wait`` is false.
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        # Not on the journal itself, which would be emptied, and not the lock of the data set's index.
        return FileLock(directory / LOCK, math.inf if wait else 0.0)
    except Locked as error:
        raise DataError(
            f"{error.owner} is converting into {directory}: wait until it is done, or use another --dst"
        ) from None


def _state(candidate: Candidate) -> list[list[Any]]:
    """Names, sizes and times of a candidate's files; zeros for one that has none, which its reader refuses."""
    state = []
    for key, path in candidate.files.items():
        try:
            stat = path.stat()
            state.append([key, stat.st_size, stat.st_mtime_ns])
        except OSError:
            state.append([key, 0, 0])
    return state


def _version() -> str:
    """A hash of the readers' source: another version may judge the same files differently."""
    source = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.rglob("*.py")))
    return hashlib.sha256(source).hexdigest()[:16]


def _read_journal(path: Path, head: str) -> dict[str, tuple[list[list[Any]], Found]]:
    """By id, the usable recordings of earlier runs with the same readers and settings, and the state of their files.

    Lines that are damaged, such as the last one of a run that was killed, do not count.
    """
    kept = {}
    first, *lines = path.read_text("utf-8", errors="replace").split("\n") if path.exists() else [""]
    for line in lines if first == head else ():
        with contextlib.suppress(ValueError, TypeError):
            entry = parse_json(line, {"state": list, "found": _FORM})
            found = Found(**{**entry["found"], "traits": Traits(**entry["found"]["traits"])})
            kept[found.id] = entry["state"], found
    return kept
