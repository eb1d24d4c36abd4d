"""Encodes the shards of some jobs on this host, in one process or in several that run the same function.

Copies of this function, in processes of this host or of others, share the work through the claims on shards (see
`rad_jax.data.shards`) and know nothing of each other. A copy that dies gives its shard back.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import closing
from typing import Any

import jax

from data_prep.common.pool import Pool
from data_prep.common.progress_bar import ProgressBar
from data_prep.latents.job import Job, encode_shard
from rad_jax.data.shards import finished_episodes, finished_shards

_REFRESH_SECONDS = 0.5


def encode_shards(jobs: Sequence[Job], shares: Sequence[range], workers: int) -> None:
    """Encodes shards of splits that were begun; returns when all of them are finished.

    Args:
      jobs: the splits.
      shares: for each split, the numbers of the shards to encode here.
      workers: number of copies; one copy is this process.

    Raises:
      UserError: see `encode_shard`, or a process died; finished shards stay.
    """
    unfinished = sum(len(set(share) - finished_shards(job.layout)) for job, share in zip(jobs, shares))
    workers = min(workers, unfinished)
    total = sum(job.layout.num_episodes for job in jobs)
    with closing(ProgressBar("encoding")) as bar:

        def show() -> None:
            bar(sum(finished_episodes(job.layout) for job in jobs), total)

        show()
        if workers == 1:
            encode_share(jobs, shares, 0, 1, show)
        elif workers > 1:
            with Pool(workers) as pool:
                copies = {pool.submit(encode_share, jobs, shares, copy, workers) for copy in range(workers)}
                while copies:
                    ended, copies = wait(copies, _REFRESH_SECONDS, FIRST_COMPLETED)
                    for copy in ended:
                        pool.result(copy)
                    show()


def encode_share(
    jobs: Sequence[Job],
    shares: Sequence[range],
    worker: int,
    workers: int,
    show: Callable[[], None] = lambda: None,
) -> None:
    """Encodes what no other process encodes, then waits for the others, in case one of them dies.

    Args:
      jobs, shares: see `encode_shards`.
      worker: number of this copy, 0 <= worker < workers.
      workers: number of copies on this host.
      show: called after every shard.
    """
    devices = local_devices(worker, workers)
    with jax.default_device(devices[0]):
        tokenizer = jobs[0].tokenizer.load()
        for late in (False, True):
            for job, share in zip(jobs, shares):
                # Copies begin with different shards, so that even without locks they rarely encode the same one.
                unfinished = set(share) - finished_shards(job.layout)
                for number in sorted(unfinished, key=lambda n: ((n - worker) % workers, n)):
                    encode_shard(job, number, tokenizer, devices, wait=late)
                    show()


def local_devices(worker: int, workers: int) -> list[Any]:
    """Returns the devices of one of several processes of this host: its share, or one that it shares with others."""
    devices = jax.local_devices()
    return devices[worker::workers] or [devices[worker % len(devices)]]
