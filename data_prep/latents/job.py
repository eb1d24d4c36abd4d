"""The job of encoding a split, and the encoding of its shards, in this process, in several, or wherever Beam sends them.

Whoever encodes a shard claims it (see `rad_jax.data.shards`), so processes of any number of hosts share the work of a job and
know nothing of each other. One that dies gives its shard back.
"""

import argparse
import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import current_process
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Float16, UInt8

from data_prep.common.pool import Pool
from data_prep.common.progress_bar import ProgressBar
from data_prep.latents.source import Frames, Source
from rad_jax import tokenizer as tokenizers
from rad_jax.data import Episode, EpisodeSpec
from rad_jax.data.shards import SplitLayout, finished_episodes, finished_shards
from rad_jax.data.writer import write_shard
from rad_jax.tokenizer import Tokenizer

CHUNK = 20  # frames of latents per record, at least; see `EpisodeSpec`
SHARD_BYTES = 2**28
SHARDS = 64  # per split, if it has as many episodes: processes share them, and a stop costs at most one per process


@dataclass(frozen=True)
class Job:
    """A split to encode. Can be pickled, and means the same in every process.

    Attributes:
      source: the frames.
      layout: of the split of latents; names the tokenizer.
      weights: the tokenizer's file.
      batch: frames that are encoded together.
    """

    source: Source
    layout: SplitLayout
    weights: Path
    batch: int


def make_job(
    source: Source,
    directory: Path,
    tokenizer: Tokenizer,
    weights: Path,
    recorded_path: str,
    options: argparse.Namespace,
) -> Job:
    """Returns the job of encoding a split.

    Args:
      source: the frames.
      directory: of the data set of latents.
      tokenizer: what encodes the frames.
      weights: its file.
      recorded_path: the path of that file as the data set of latents will name it.
      options: of `data_prep.encode_latents`. The batch is recorded, because the last bits of a latent may depend on it.

    Raises:
      TokenizerError: the tokenizer does not take frames of this size.
    """
    spec = source.spec
    arrays = dict(spec.arrays)
    frames = arrays.pop("frames")
    size = frames[0][:2]
    latents = tokenizer.latent_shape(*size), "float16"
    keep_frames = "n_context" in spec.statics if options.keep_frames is None else options.keep_frames
    arrays = {"latents": latents, **({"frames": frames} if keep_frames else {}), **arrays}
    about = {
        "tokenizer": tokenizer.name,
        "fingerprint": tokenizer.fingerprint,
        "frame_size": list(size),
        "batch": options.batch,
        "source": source.digest,
    }
    info = {**spec.info, "encoded": about}
    encoded = EpisodeSpec(spec.name, arrays, spec.statics, info, max(spec.chunk, CHUNK))
    episodes_per_shard = options.shard_episodes
    if episodes_per_shard is None:
        frame = sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in arrays.values())
        by_size = SHARD_BYTES * source.num_episodes // (frame * source.num_frames)
        episodes_per_shard = max(1, min(by_size, -(-source.num_episodes // SHARDS)))
    recorded = {"name": tokenizer.name, "fingerprint": tokenizer.fingerprint, "path": recorded_path}
    layout = SplitLayout(directory, source.split, encoded, source.num_episodes, episodes_per_shard, recorded)
    return Job(source, layout, weights, options.batch)


def encode_shards(jobs: Sequence[Job], share: int, of: int, workers: int) -> None:
    """Encodes a share of the shards of splits that were begun, with a progress bar; returns when all of it is finished.

    Args:
      jobs: the splits, all with one tokenizer.
      share, of: see `unfinished`.
      workers: number of processes; one is this process.

    Raises:
      UserError: see `encode_shard`, or a process died; finished shards stay.
    """
    total = sum(job.layout.num_episodes for job in jobs)
    with ProgressBar("encoding") as bar, Pool(workers) as pool:

        def show() -> None:
            bar(sum(finished_episodes(job.layout) for job in jobs), total)

        show()
        # First the shards that nobody encodes; then wait for those of others, in case one of them dies.
        for wait in (False, True):
            task = functools.partial(encode_shard, jobs, workers, wait)
            for _ in pool.map(task, unfinished(jobs, share, of)):
                show()


def unfinished(jobs: Sequence[Job], share: int, of: int) -> list[tuple[int, int]]:
    """Returns what is still to be encoded of every ``of``-th shard from number ``share`` on: numbers of job and shard."""
    return [
        (number, shard)
        for number, job in enumerate(jobs)
        for shard in sorted(set(range(share, job.layout.num_shards, of)) - finished_shards(job.layout))
    ]


def encode_shard(jobs: Sequence[Job], workers: int, wait: bool, shard: tuple[int, int]) -> None:
    """Encodes one shard of a split that was begun, unless it is finished.

    Args:
      jobs: the splits, all with one tokenizer.
      workers: number of processes that share the devices of this host.
      wait: see `rad_jax.data.writer.write_shard`.
      shard: number of its job, and its own.

    Raises:
      UserError: the source is damaged, or a latent is not finite in float16. Nothing of the shard remains.
    """
    job, devices = jobs[shard[0]], local_devices(workers)
    with jax.default_device(devices[0]):
        recorded = job.layout.tokenizer
        tokenizer = _load(recorded["name"], job.weights, recorded["fingerprint"])

        def make_episodes(indices: range) -> Iterator[Episode]:
            return (encode_episode(job, index, tokenizer, devices) for index in indices)

        write_shard(job.layout, shard[1], make_episodes, wait=wait)


_load = functools.lru_cache(maxsize=1)(tokenizers.load)  # once for all shards of a process


def encode_episode(job: Job, index: int, tokenizer: Tokenizer, devices: Sequence[jax.Device]) -> Episode:
    """Returns one episode with latents, as it is stored."""
    episode, chunks = job.source.read(index)
    keep_frames = "frames" in job.layout.spec.arrays
    if keep_frames:
        chunks = list(chunks)
    latents = np.concatenate(list(encode_frames(tokenizer, chunks, job.batch, devices)))
    return episode | {"latents": latents} | ({"frames": np.concatenate(chunks)} if keep_frames else {})


def encode_frames(
    tokenizer: Tokenizer, chunks: Iterable[Frames], batch: int, devices: Sequence[jax.Device]
) -> Iterator[Float16[np.ndarray, "t rows cols ch"]]:
    """Yields the latents of consecutive chunks of frames, ``batch`` frames at a time.

    All batches have one size (the last one is padded), so the encoder compiles once, and a latent does not depend on the
    lengths of the chunks. The next batch is read while one is encoded.
    """
    sharding = NamedSharding(Mesh(np.asarray(devices), ("batch",)), PartitionSpec("batch"))
    encoding = []
    for frames in rebatch(chunks, batch):
        padded = np.concatenate([frames, np.repeat(frames[-1:], batch - len(frames), axis=0)])
        images = _unit(jax.device_put(padded, sharding))
        encoding.append((tokenizer.encode(images).astype(jnp.float16), len(frames)))
        if len(encoding) == 2:
            yield _fetch(*encoding.pop(0))
    if encoding:
        yield _fetch(*encoding.pop())


@jax.jit
def _unit(frames: UInt8[Array, "t H W 3"]) -> Float[Array, "t H W 3"]:
    return frames.astype(jnp.float32) / 255


def _fetch(latents: jax.Array, count: int) -> Float16[np.ndarray, "t rows cols ch"]:
    return np.asarray(latents)[:count]


def rebatch(chunks: Iterable[Frames], batch: int) -> Iterator[Frames]:
    """Yields the same frames, ``batch`` at a time; the last batch may be shorter."""
    rest = None
    for chunk in chunks:
        rest = chunk if rest is None else np.concatenate([rest, chunk])
        while len(rest) >= batch:
            yield rest[:batch]
            rest = rest[batch:]
    if rest is not None and len(rest):
        yield rest


def local_devices(workers: int) -> list[jax.Device]:
    """Returns the devices of this process, as many as each of ``workers`` processes of this host has: its share of the host's
    devices, or one that it shares with others."""
    devices = jax.local_devices()
    count = max(1, len(devices) // workers)
    # A name such as "SpawnProcess-3"; the numbers of a pool's processes are consecutive.
    number = int(re.search(r"\d*$", current_process().name)[0] or 0)
    first = number % workers * count % len(devices)
    return devices[first : first + count]
