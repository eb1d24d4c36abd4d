"""Encodes recordings directly, without a data set of raw frames in between.

Options and the choice of episodes are those of `data_prep.convert`. The result is what encoding its data set would give, except
for the record of where the frames came from.
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.common.pool import Pool
from data_prep.latents.source import Frames, Source
from data_prep.recordings import Candidate, conversion, frames
from data_prep.recordings.episode import episode_without_frames
from data_prep.recordings.splits import Split
from data_prep.recordings.survey import Settings, journal_held
from rad_jax.data import Episode, EpisodeSpec


@dataclass(frozen=True)
class RecordingSource:
    """Checked recordings as a split whose frames are never written.

    Attributes:
      part: the split, as `data_prep.convert` would write it.
      settings: how recordings are read.
      candidates: the files of each recording of the part, in order.
    """

    part: Split
    settings: Settings
    candidates: Sequence[Candidate]

    @property
    def split(self) -> str:
        return self.part.split

    @property
    def spec(self) -> EpisodeSpec:
        return self.part.spec

    @property
    def num_episodes(self) -> int:
        return len(self.part.found)

    @property
    def num_frames(self) -> int:
        return sum(found.num_frames for found in self.part.found)

    @property
    def digest(self) -> str:
        """Hash of the recordings' names, numbers of frames and file sizes."""
        return self.spec.info["recordings"]

    def read(self, number: int) -> tuple[Episode, Iterator[Frames]]:
        """See `Source`. Raises `BadRecording` if the files are not what they were when they were checked."""
        found, context = self.part.found[number], self.part.contexts[number]
        recording = conversion.open_recording(self.settings, self.candidates[number], found, self.spec)
        episode = episode_without_frames(recording, self.spec, context)
        return episode, frames(recording, self.spec.arrays["frames"][0][:2])


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

    Prints and reports which recordings are skipped, and why.

    Args:
      options: of `parse`.
      workers: processes that check.

    Raises:
      DataError: there are no such recordings, or none of them can be used.
    """
    candidates = conversion.find_recordings(options)
    # One host checks, the others read what it found.
    with journal_held(options.dst, wait=True), Pool(min(workers, len(candidates))) as pool:
        settings, parts = conversion.check_recordings(options, candidates, pool)
    return [
        (part.directory, RecordingSource(part, settings, [candidates[found.id] for found in part.found]))
        for part in parts
    ]
