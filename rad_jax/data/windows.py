"""The Grain pipeline of training clips: random windows of episodes.

It is a `grain.MapDataset`: element s is a pure function of (seed, s, process), so a run resumes at a step by slicing, and its
checkpoint needs no state of the pipeline. Threads of this process read the frames; worker processes are slower unless decoding
is heavy.

Where `data.max_damaged` allows it, another window is read in place of one that touches a damaged record: which one is a
function of the seed and of its place in the order, so that a run still resumes, and reads with any number of threads, to the
same bits.
"""

import logging
from collections.abc import Iterator
from contextlib import closing

import grain
import numpy as np

from rad_jax.config import DataConfig
from rad_jax.data.condition import condition_arrays, condition_dim, condition_features
from rad_jax.data.reader import Episodes
from rad_jax.data.spec import DamagedRecord, DataError
from rad_jax.odometry import Odometry

log = logging.getLogger(__name__)

Batch = dict[str, np.ndarray]
""""latents" (b, t, rows, cols, ch) float16 if the data set has them, else "frames" (b, t, H, W, 3) uint8; "actions"
(b, t, a) float32, the condition of every frame; "clip_id" (b, 2) int64, (episode, first frame)."""


# Windows of an endless dataset. Grain counts batches in floating point, which overflows for its own "endless" length.
_ENDLESS = 2**53

_REPLACEMENT = 1  # part of the seed of what replaces a window, apart from the shuffling


class Windows:
    """All windows of `config.clip` consecutive frames of all episodes, in order; indexing reads one.

    Episodes shorter than a window have none; a warning says how many these are.

    Raises:
      DataError: see `check_clips`.
    """

    def __init__(self, episodes: Episodes, config: DataConfig, odometry: Odometry | None = None):
        clip = config.clip
        check_clips(episodes, config, odometry)
        short = np.flatnonzero(episodes.lengths < clip)
        if len(short):
            frames = f"{episodes.lengths[short].sum()} of {episodes.lengths.sum()} frames"
            log.warning(
                f"{episodes}: {len(short)} of {len(episodes)} episodes ({frames}) are shorter than a clip of {clip} frames "
                f"and are not used, first {episodes.ids[short[0]]!r}"
            )
        self.frames = episodes.pictures
        self._episodes, self._config, self._odometry = episodes, config, odometry
        self._ends = np.cumsum(np.maximum(episodes.lengths - clip + 1, 0))
        self.num_episodes = len(episodes) - len(short)  # that have windows

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
            "actions": condition_features(self._episodes.spec, arrays, self._config, self._odometry),
            "clip_id": np.array([episode, start], np.int64),
        }


class _Whole:
    """Reads the windows of an endless order, and others in place of those that are damaged.

    To the window it adds "damage": the damaged episodes that were met for it, by number, with the messages of their errors.
    """

    def __init__(self, windows: Windows, config: DataConfig, seed: int):
        self._windows, self._seed = windows, seed
        # With every episode damaged there is none to take instead.
        self._most = min(config.max_damaged, windows.num_episodes - 1)

    def __call__(self, place: int, index: int) -> Batch:
        damage: dict[int, str] = {}
        rng = np.random.default_rng((self._seed, _REPLACEMENT, place))
        while True:
            episode, _ = self._windows.locate(index)
            try:
                if episode not in damage:
                    return self._windows[index] | {"damage": np.array(damage, object)}
            except DamagedRecord as error:
                damage[episode] = str(error)
                if len(damage) > self._most:
                    raise
            index = int(rng.integers(len(self._windows)))


def check_clips(episodes: Episodes, config: DataConfig, odometry: Odometry | None = None) -> None:
    """Raises `DataError` if all episodes are shorter than a clip, or the data set lacks what the condition needs."""
    longest = episodes.lengths.max(initial=0)
    if longest < config.clip:
        raise DataError(
            f"{episodes}: all {len(episodes)} episodes are shorter than a clip of {config.clip} frames, "
            f"the longest has {longest}: shorten the clip (data.clip)"
        )
    condition_dim(episodes.spec, config, odometry)


def train_dataset(
    episodes: Episodes,
    config: DataConfig,
    *,
    batch: int,
    seed: int,
    odometry: Odometry | None = None,
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
      odometry: the run's, if the condition is made of it.
      process_index, process_count: which share of each step this process reads.

    Raises:
      DataError: see `Windows`.
    """
    windows = Windows(episodes, config, odometry)
    order = grain.MapDataset.range(len(windows)).seed(seed).shuffle().repeat()[:_ENDLESS]
    return order.map_with_index(_Whole(windows, config, seed)).batch(batch)[process_index::process_count]


def train_batches(dataset: grain.MapDataset, first_step: int, config: DataConfig) -> Iterator[Batch]:
    """Returns an endless iterator over the batches of steps `first_step`, `first_step + 1`, ..., read ahead by threads.

    Args:
      dataset: see `train_dataset`.
      first_step: 0, or the step at which a run resumes.
      config: its `threads`, which read batches ahead, and `buffer`, the batches held ready.

    Returns:
      An iterator with `close()`, which stops its threads.

    Raises:
      DamagedRecord: while iterating, a damaged record in the `max_damaged` + 1st episode, for this process; each of the
        episodes before is named in a warning.
      DataError: while iterating, a record that cannot be read for another reason (see `Episodes.read`).
    """
    damaged: set[int] = set()
    batches = iter(dataset[first_step:].to_iter_dataset(grain.ReadOptions(config.threads, config.buffer)))
    with closing(batches):
        for batch in batches:
            # Counted here, in the order of the steps, and not by the threads that read ahead.
            for episode, message in (item for met in batch.pop("damage") for item in met.items()):
                if episode not in damaged:
                    damaged.add(episode)
                    if len(damaged) > config.max_damaged:
                        raise DamagedRecord(message)
                    allowed = f"{len(damaged)} of at most {config.max_damaged} (data.max_damaged)"
                    log.warning(f"training goes on without a damaged episode, {allowed}: {message}")
            yield batch
