"""The Grain pipeline of training clips: random windows of episodes.

It is a `grain.MapDataset`: element s is a pure function of (seed, s, process), so a run resumes at a step by slicing, and its
checkpoint needs no state of the pipeline. Threads of this process read the frames; worker processes are slower unless decoding
is heavy.
"""

import logging
from collections.abc import Iterator

import grain
import numpy as np

from rad_jax.config import DataConfig
from rad_jax.data.condition import condition_arrays, condition_dim, condition_features
from rad_jax.data.reader import Episodes
from rad_jax.data.spec import DataError

log = logging.getLogger(__name__)

Batch = dict[str, np.ndarray]
""""latents" (b, t, rows, cols, ch) float16 if the data set has them, else "frames" (b, t, H, W, 3) uint8; "actions"
(b, t, a) float32, the condition of every frame; "clip_id" (b, 2) int64, (episode, first frame)."""


# Windows of an endless dataset. Grain counts batches in floating point, which overflows for its own "endless" length.
_ENDLESS = 2**53


class Windows:
    """All windows of `config.clip` consecutive frames of all episodes, in order; indexing reads one.

    Episodes shorter than a window have none; a warning says how many these are.

    Raises:
      DataError: see `check_clips`.
    """

    def __init__(self, episodes: Episodes, config: DataConfig):
        clip = config.clip
        check_clips(episodes, config)
        short = np.flatnonzero(episodes.lengths < clip)
        if len(short):
            frames = f"{episodes.lengths[short].sum()} of {episodes.lengths.sum()} frames"
            log.warning(
                f"{episodes}: {len(short)} of {len(episodes)} episodes ({frames}) are shorter than a clip of {clip} frames "
                f"and are not used, first {episodes.ids[short[0]]!r}"
            )
        self.frames = episodes.pictures
        self._episodes, self._config = episodes, config
        self._ends = np.cumsum(np.maximum(episodes.lengths - clip + 1, 0))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def locate(self, index: int) -> tuple[int, int]:
        """Returns (episode, first frame) of a window."""
        episode = int(np.searchsorted(self._ends, index, side="right"))
        before = self._ends[episode - 1] if episode else 0
        return episode, int(index - before)

    def __getitem__(self, index: int) -> Batch:
        """Returns one window as in `Batch`, without the axis b."""
        episode, start = self.locate(index)
        names = [self.frames, *condition_arrays(self._config)]
        arrays = self._episodes.read(episode, start, start + self._config.clip, names)
        return {
            self.frames: arrays[self.frames],
            "actions": condition_features(self._episodes.spec, arrays, self._config),
            "clip_id": np.array([episode, start], np.int64),
        }


def check_clips(episodes: Episodes, config: DataConfig) -> None:
    """Raises `DataError` if all episodes are shorter than a clip, or the data set lacks what the condition needs."""
    longest = episodes.lengths.max(initial=0)
    if longest < config.clip:
        raise DataError(
            f"{episodes}: all {len(episodes)} episodes are shorter than a clip of {config.clip} frames, "
            f"the longest has {longest}: shorten the clip (data.clip)"
        )
    condition_dim(episodes.spec, config)


def train_dataset(
    episodes: Episodes,
    config: DataConfig,
    *,
    batch: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.MapDataset:
    """Returns the endless dataset whose element s is this process's share of the batch of step s.

    Every window of every episode comes once per epoch, shuffled anew for each epoch; a batch may span two epochs. The batch of
    a step, i.e. the shares of all processes in order, does not depend on the number of processes.

    Args:
      episodes: the split to read.
      config: its `clip`, the frames of a window, and the condition of a frame (see `rad_jax.data.condition`).
      batch: windows of this process (a step has `batch * process_count`).
      seed: of the shuffling, 0 <= seed < 2**32.
      process_index, process_count: which share of each step this process reads.

    Raises:
      DataError: see `Windows`.
    """
    endless = grain.MapDataset.source(Windows(episodes, config)).seed(seed).shuffle().repeat()[:_ENDLESS]
    return endless.batch(batch)[process_index::process_count]


def train_batches(dataset: grain.MapDataset, first_step: int, config: DataConfig) -> Iterator[Batch]:
    """Returns an endless iterator over the batches of steps `first_step`, `first_step + 1`, ..., read ahead by threads.

    Args:
      dataset: see `train_dataset`.
      first_step: 0, or the step at which a run resumes.
      config: its `threads`, which read batches ahead, and `buffer`, the batches held ready.

    Returns:
      An iterator with `close()`, which stops its threads.

    Raises:
      DataError: while iterating, a damaged shard (see `Episodes.read`).
    """
    return iter(dataset[first_step:].to_iter_dataset(grain.ReadOptions(config.threads, config.buffer)))
