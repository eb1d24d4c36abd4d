"""Encodes recordings directly, without a data set of raw frames in between.

Options and the choice of episodes are those of `data_prep.convert`. The result is what encoding its data set would give, except
for the record of where the frames came from.
"""

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from data_prep.common.pool import Pool
from data_prep.latents.source import Frames, Source
from data_prep.recordings import Candidate, conversion, frames
from data_prep.recordings.episode import episode_without_frames
from data_prep.recordings.splits import Split
from data_prep.recordings.survey import Settings, journal_held
from rad_jax.data import Episode


def parse(program: str, options: argparse.Namespace, rest: Sequence[str]) -> argparse.Namespace:
    """Parses the options of `data_prep.convert`.

    Args:
      program: the command that is run, for errors.
      options: what that command has parsed; options that both commands have are passed on.
      rest: words that only `data_prep.convert` knows.
    """
    parser = conversion.parser()
    parser.prog = program
    if len(options.split or ()) > 1:
        parser.error("argument --split: recordings become one split, and test episodes")
    words = ["--format", options.format, "--src", options.src, "--dst", options.dst]
    for split in options.split or ():
        words += ["--split", split]
    return parser.parse_args([*map(os.fspath, words), *rest])


def open_recordings(options: argparse.Namespace, workers: int) -> list[tuple[Path, Source]]:
    """Checks all recordings and divides them into splits; returns each with the directory of its latents.

    Prints and reports which recordings are skipped, and why. The digest of a split is a hash of its recordings' names, numbers
    of frames and file sizes.

    Args:
      options: of `parse`.
      workers: processes that check.

    Raises:
      DataError: there are no such recordings, or none of them can be used.
    """
    candidates = conversion.find_recordings(options)
    # One host checks, the others read what it found.
    with journal_held(options.dst, wait=True), Pool(min(workers, len(candidates))) as pool:
        settings, splits = conversion.check_recordings(options, candidates, pool)
    return [(split.directory, _source(split, settings, candidates)) for split in splits]


def _source(split: Split, settings: Settings, candidates: Mapping[str, Candidate]) -> Source:
    return Source(
        split.split,
        spec=split.spec,
        num_episodes=len(split.found),
        num_frames=sum(found.num_frames for found in split.found),
        digest=split.spec.info["recordings"],
        read=partial(_read, split, settings, [candidates[found.id] for found in split.found]),
    )


def _read(
    split: Split, settings: Settings, candidates: Sequence[Candidate], number: int
) -> tuple[Episode, Iterator[Frames]]:
    """Raises `BadRecording` if the files are not what they were when they were checked."""
    recording = conversion.open_recording(settings, candidates[number], split.found[number], split.spec)
    episode = episode_without_frames(recording, split.spec, split.contexts[number])
    return episode, frames(recording, split.spec.arrays["frames"][0][:2])
