"""Reading random training windows of latents: frames per second of one core, and bytes read over those that are needed.

    python -m benchmarks.read_windows [--data DIR] [--episodes 100 --frames 1200 --clip 100 --seconds 10]

A data set of the size of Minecraft latents (18 x 32 x 16, float16; 100 episodes are 2.2 GB) is written to DIR, or to a
directory that is removed afterwards. The process is bound to one core. Windows are read at random places of random episodes,
one by one as the pipeline's threads do, and then as batches of that pipeline. Seconds are those of the processor, with the
system's share for it; bytes are what the process asked the system for (rchar of /proc/self/io), metadata and opening of
files included. `--cold` asks the system to forget the files first, and again before every hundredth window.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from benchmarks import timing
from rad_jax.config import DataConfig
from rad_jax.data import Episode, Episodes, EpisodeSpec, write_split
from rad_jax.data.windows import Windows, train_batches, train_dataset

LATENT, ACTION, POSE = (18, 32, 16), 25, 5
SPEC = EpisodeSpec(
    "minecraft",
    {"latents": (LATENT, "float16"), "actions": ((ACTION,), "float32"), "pose": ((POSE,), "float32")},
    info={"actions": [f"action_{index}" for index in range(ACTION)]},
)
FRAME_BYTES = int(np.prod(LATENT)) * 2 + ACTION * 4  # what a window holds of each frame


def make_episodes(frames: int, indices: range) -> Iterator[Episode]:
    """Noise: stored as it is, it reads like any other latents."""
    noise = np.random.default_rng(0).standard_normal((frames, *LATENT), np.float32).astype(np.float16)
    for index in indices:
        yield {
            "latents": np.roll(noise, index, axis=0),
            "actions": np.eye(ACTION, dtype=np.float32)[np.arange(frames) % ACTION],
            "pose": np.full((frames, POSE), index, np.float32),
        }


class Meter:
    """What happens between its beginning and now."""

    def __init__(self):
        self._begin = self._now()

    def _now(self) -> np.ndarray:
        text = Path("/proc/self/io").read_text()
        fields = dict(line.split(": ") for line in text.splitlines())
        return np.array([time.process_time(), time.monotonic(), float(fields["rchar"])])

    def read(self) -> tuple[float, float, float]:
        """Processor seconds, seconds, bytes read."""
        return tuple(self._now() - self._begin)


def measure(label: str, read: Callable[[], int], seconds: float) -> None:
    """Calls ``read``, which returns how many frames it has read, for some seconds, and prints what that took."""
    meter, frames = Meter(), 0
    while meter.read()[1] < seconds:
        frames += read()
    processor, passed, size = meter.read()
    print(
        f"{label:<28}{frames / processor:10,.0f} frames per core second{frames / passed:10,.0f} per second"
        f"{size / (frames * FRAME_BYTES):8.3f} of the bytes needed{frames:10,} frames"
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--per-shard", type=int, default=12, help="episodes of a shard: 12 are 256 MiB")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--core", type=int, help="the core to be bound to (the first one allowed)")
    parser.add_argument("--cold", action="store_true")
    options = timing.options(__doc__, parser, episodes=100, frames=1200, clip=100, batch=8)
    core = min(os.sched_getaffinity(0)) if options.core is None else options.core
    os.sched_setaffinity(0, {core})
    with tempfile.TemporaryDirectory() as scratch:
        directory = options.data or Path(scratch)
        write_split(
            directory,
            "train",
            SPEC,
            lambda indices: make_episodes(options.frames, indices),
            options.episodes,
            episodes_per_shard=options.per_shard,
        )
        run(options, directory)


def run(options: argparse.Namespace, directory: Path) -> None:
    """All measurements of one data set."""
    rng = np.random.default_rng(1)
    files = sorted(directory.glob("*.array_record-*"))

    def forget():
        for path in files:
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)

    windows = Windows(Episodes(directory, "train"), DataConfig(clip=options.clip))
    count = 0

    def one() -> int:
        nonlocal count
        if options.cold and count % 100 == 0:
            forget()
        count += 1
        return len(windows[int(rng.integers(len(windows)))]["latents"])

    os.sync()  # what is not on the disk cannot be forgotten
    measure("windows, one by one", one, options.seconds)
    for threads in (1, 2):
        episodes = Episodes(directory, "train")
        config = DataConfig(clip=options.clip, threads=threads, buffer=4)
        batches = train_batches(train_dataset(episodes, config, batch=options.batch, seed=0), 0, config)
        with closing(batches):
            measure(
                f"batches of {options.batch}, {threads} thread(s)",
                lambda batches=batches: options.batch * next(batches)["latents"].shape[1],
                options.seconds,
            )


if __name__ == "__main__":
    main()
