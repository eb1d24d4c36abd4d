"""Where the frames to encode come from: here a data set; recordings are in `data_prep.latents.recordings`.

A source describes its episodes without their frames, and yields the frames of an episode in short chunks, so that an episode of
any length is never in memory as a whole.
"""

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from rad_jax.data import DataError, Episode, Episodes, EpisodeSpec

Frames = UInt8[np.ndarray, "t H W 3"]


class Source(Protocol):
    """One split to encode. Can be pickled.

    Attributes:
      split: its name.
      spec: schema of its episodes, with "frames".
      num_episodes: number of its episodes.
      num_frames: number of frames of all of them together.
      digest: changes with the content.
    """

    split: str
    spec: EpisodeSpec
    num_episodes: int
    num_frames: int
    digest: str

    def read(self, number: int) -> tuple[Episode, Iterator[Frames]]:
        """Returns an episode without its frames, and an iterator over chunks of its frames, in order.

        The arrays of the episode are complete once the iterator is exhausted.
        """


class SplitSource:
    """A split of a data set.

    Raises:
      DataError: there is no such data set or split, or it has no frames, or has latents already.
    """

    def __init__(self, directory: Path, split: str):
        self.directory, self.split = Path(directory), split
        arrays = self._episodes.spec.arrays
        if "frames" not in arrays:
            raise DataError(f"{self._episodes} has no array 'frames'; there are: {', '.join(arrays)}")
        shape, dtype = arrays["frames"]
        if dtype != "uint8" or len(shape) != 3 or shape[-1] != 3:
            raise DataError(f"{self._episodes}: frames are {dtype}{list(shape)}, expected uint8[H, W, 3]")
        if "latents" in arrays:
            raise DataError(f"{self._episodes} has latents already: encode the data set they were made from")

    def __reduce__(self):
        return SplitSource, (self.directory, self.split)

    @cached_property
    def _episodes(self) -> Episodes:
        return Episodes(self.directory, self.split)

    @property
    def spec(self) -> EpisodeSpec:
        return self._episodes.spec

    @property
    def num_episodes(self) -> int:
        return len(self._episodes)

    @property
    def num_frames(self) -> int:
        return int(self._episodes.lengths.sum())

    @property
    def digest(self) -> str:
        """Hash of the ids of all episodes and the checksums of all shards, in order."""
        text = json.dumps([self._episodes.ids, self._episodes.checksums])
        return hashlib.sha256(text.encode()).hexdigest()

    def read(self, number: int) -> tuple[Episode, Iterator[Frames]]:
        """See `Source`. Raises DataError if a record is damaged."""
        episode = {**self._episodes.static(number), "episode_id": self._episodes.ids[number]}
        return episode, self._frames(number, episode)

    def _frames(self, number: int, episode: Episode) -> Iterator[Frames]:
        length, chunk = int(self._episodes.lengths[number]), self.spec.chunk
        others = []
        for start in range(0, length, chunk):  # record by record: none is read twice
            arrays = self._episodes.read(number, start, min(start + chunk, length))
            yield arrays.pop("frames")
            others.append(arrays)
        episode |= {name: np.concatenate([arrays[name] for arrays in others]) for name in others[0]}
