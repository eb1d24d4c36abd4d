"""Convert recordings, in the files of their makers, into a data set.

    python -m data_prep.convert --format vrag --src recordings --dst datasets/minecraft --size 128x72 --test-episodes 60
    python -m data_prep.convert --format vrag --src recordings/rotate --dst datasets/rotate --split test --pattern rotate

Formats: loopnav, memory_maze, minerl, oasis, teco, vpt, vrag, worldmem; `data_prep.recordings.formats` describes the files of
each. Every recording is checked first, which decodes its video once. Recordings that cannot be used are left out and named,
with the reason, on the screen and in convert_report.json beside the data set. The others are written in order of their names,
the last ones into the test set. The same command resumes a run that was stopped.

Test sets, and every split that is not called train, are for evaluation. Each of their episodes says how many of its frames are
given (n_context): as --context says, or the pattern, or the recording itself, or 60 %. --pattern takes only recordings that
turn in place (rotate), walk a lap and repeat it (polygon), or go out and come back the same way (out_and_back).
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from functools import partial

import numpy as np

from data_prep.common.command import run
from data_prep.common.pool import Pool
from data_prep.common.progress_bar import ProgressBar
from data_prep.recordings import conversion
from data_prep.recordings.conversion import PROGRAM, Unreadable
from data_prep.recordings.splits import Chosen, Split
from rad_jax.data import DataError, Episode, EpisodeSpec, write_split
from rad_jax.data.spec import check_episode

_SHARD_BYTES, _SHARD_EPISODES = 2**27, 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = conversion.parser(description=__doc__).parse_args(arguments)
    return run(PROGRAM, partial(convert, options))


def convert(options: argparse.Namespace) -> None:
    """Check, report, write; see the module's text. Raises `DataError` or `OSError`."""
    with conversion.checked_recordings(options, wait=False) as (splits, pool):
        for split in splits:
            while True:
                try:
                    _write(split, options, pool)
                    break
                except Unreadable as error:
                    split = conversion.leave_out(options, split, error)


def _write(split: Split, options: argparse.Namespace, pool: Pool) -> None:
    """Write a split, or the shards that are missing, with a progress bar."""
    directory = split.directory
    directory.mkdir(parents=True, exist_ok=True)
    frame = conversion.frame_bytes(split.spec)
    total, free = split.num_frames * frame, shutil.disk_usage(directory).free
    written = sum(path.stat().st_size for path in directory.glob(f"{split.spec.name}-{split.split}.*"))
    if total > free + written:
        raise DataError(
            f"{directory} needs {total / 1e9:.1f} GB, {free / 1e9:.1f} are free: choose a smaller --size, or "
            "encode the recordings into latents at once (data_prep.encode_latents)"
        )
    fitting = max(_SHARD_BYTES // (frame * max(each.length for each in split.recordings)), 1)
    with ProgressBar(f"{directory} {split.split}") as bar:
        write_split(
            directory,
            split.split,
            split.spec,
            pool.lookahead(partial(make_episode, options, split.spec), split.recordings),
            len(split.recordings),
            episodes_per_shard=options.shard_episodes or min(fitting, _SHARD_EPISODES),
            progress=bar,
        )


def make_episode(options: argparse.Namespace, spec: EpisodeSpec, chosen: Chosen) -> Episode:
    """One episode of a split. Raises `Unreadable` if its files are not what they were when they were checked."""
    episode, chunks = conversion.read_episode(options, spec, chosen)
    with conversion.unreadable(chosen):
        episode["frames"] = np.concatenate(list(chunks))
        check_episode(spec, chosen.candidate.id, episode)
    return episode


if __name__ == "__main__":
    sys.exit(main())
