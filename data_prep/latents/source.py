"""Where the frames to encode come from: a data set, or recordings, without a data set of raw frames in between.

Options and the choice of episodes of recordings are those of `data_prep.convert`. Encoding them gives what encoding their data
set would give, except for the record of where the frames came from.
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from data_prep.recordings import conversion
from data_prep.recordings.splits import Split
from rad_jax.data import DataError, Episode, Episodes, EpisodeSpec

Frames = UInt8[np.ndarray, "t H W 3"]


@dataclass(frozen=True)
class Source:
    """One split to encode. Can be pickled.

    Attributes:
      split: its name.
      spec: schema of its episodes, with "frames".
      num_episodes: number of its episodes.
      num_frames: number of frames of all of them together.
      digest: changes with the content.
      read: from the number of an episode to the episode without its frames, and an iterator over short chunks of its frames, in
        order, so that an episode of any length is never in memory as a whole. The arrays of the episode are complete once the
        iterator is exhausted. Raises `UserError` if the episode is damaged or has changed.
    """

    split: str
    spec: EpisodeSpec
    num_episodes: int
    num_frames: int
    digest: str
    read: Callable[[int], tuple[Episode, Iterator[Frames]]]


def split_source(directory: Path, split: str) -> Source:
    """Returns a split of a data set; its digest is a hash of the ids of all episodes and the checksums of all shards.

    Raises:
      DataError: there is no such data set or split, or it has no frames, or has latents already.
    """
    episodes = Episodes(directory, split)
    arrays = episodes.spec.arrays
    if "frames" not in arrays:
        raise DataError(f"{episodes} has no array 'frames'; there are: {', '.join(arrays)}")
    shape, dtype = arrays["frames"]
    if dtype != "uint8" or len(shape) != 3 or shape[-1] != 3:
        raise DataError(f"{episodes}: frames are {dtype}{list(shape)}, expected uint8[H, W, 3]")
    if "latents" in arrays:
        raise DataError(f"{episodes} has latents already: encode the data set they were made from")
    return Source(
        split,
        spec=episodes.spec,
        num_episodes=len(episodes),
        num_frames=int(episodes.lengths.sum()),
        digest=hashlib.sha256(json.dumps([episodes.ids, episodes.checksums]).encode()).hexdigest(),
        read=partial(_read_stored, episodes),
    )


def _read_stored(episodes: Episodes, number: int) -> tuple[Episode, Iterator[Frames]]:
    episode = {**episodes.static(number), "episode_id": episodes.ids[number]}

    def frames() -> Iterator[Frames]:
        length, chunk = int(episodes.lengths[number]), episodes.spec.chunk
        others = []
        for start in range(0, length, chunk):  # record by record: none is read twice
            arrays = episodes.read(number, start, min(start + chunk, length))
            yield arrays.pop("frames")
            others.append(arrays)
        episode.update({name: np.concatenate([arrays[name] for arrays in others]) for name in others[0]})

    return episode, frames()


def recorded_sources(options: argparse.Namespace) -> list[tuple[Path, Source]]:
    """Checks all recordings and divides them into splits; returns each with the directory of its latents.

    Prints and reports which recordings are skipped, and why. The digest of a split is a hash of its recordings' names, numbers
    of frames and file sizes.

    Args:
      options: of `data_prep.convert`.

    Raises:
      DataError: there are no such recordings, or none of them can be used.
    """
    sources = []
    with conversion.checked_recordings(options, wait=True) as (
        splits,
        _,
    ):  # one host checks, others read its journal
        for split in splits:
            read = partial(_read_recorded, options, split)
            size, digest = (len(split.recordings), split.num_frames), split.spec.info["recordings"]
            sources.append((split.directory, Source(split.split, split.spec, *size, digest, read)))
    return sources


def _read_recorded(
    options: argparse.Namespace, split: Split, number: int
) -> tuple[Episode, Iterator[Frames]]:
    return conversion.read_episode(options, split.spec, split.recordings[number])
