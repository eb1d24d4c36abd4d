"""The job of encoding a split, and the one function that encodes one of its shards, wherever it chunks."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Float16, UInt8

from data_prep.latents.source import Frames, Source
from rad_jax import tokenizer as tokenizers
from rad_jax.data import DataError, Episode, EpisodeSpec
from rad_jax.data.shards import SplitLayout
from rad_jax.data.writer import write_shard
from rad_jax.tokenizer import Tokenizer

CHUNK = 20  # frames of latents per record, at least; see `EpisodeSpec`
SHARD_BYTES = 2**28
SHARDS = 64  # per split, if it has as many episodes: processes share them, and a stop costs at most one per process


@dataclass(frozen=True)
class TokenizerFile:
    """A tokenizer to load.

    Attributes:
      name, path: as `rad_jax.tokenizer.load` takes them.
      fingerprint: which the tokenizer must have.
    """

    name: str
    path: Path
    fingerprint: str

    def load(self) -> Tokenizer:
        return tokenizers.load(self.name, self.path, self.fingerprint)


@dataclass(frozen=True)
class Job:
    """A split to encode. Can be pickled, and means the same in every process.

    Attributes:
      source: the frames.
      layout: of the split of latents.
      tokenizer: which encodes the frames.
      batch: frames that are encoded together.
    """

    source: Source
    layout: SplitLayout
    tokenizer: TokenizerFile
    batch: int

    @property
    def keep_frames(self) -> bool:
        """Whether the frames are stored beside their latents."""
        return "frames" in self.layout.spec.arrays


def make_job(
    source: Source,
    directory: Path,
    file: TokenizerFile,
    tokenizer: Tokenizer,
    recorded_path: str,
    *,
    batch: int,
    keep_frames: bool,
    episodes_per_shard: int | None = None,
) -> Job:
    """Returns the job of encoding a split.

    Args:
      source: the frames.
      directory: of the data set of latents.
      file: the tokenizer's file.
      tokenizer: what that file holds.
      recorded_path: the path of that file as the data set of latents will name it.
      batch: frames that are encoded together; recorded, because the last bits of a latent may depend on it.
      keep_frames: whether to store the frames beside their latents.
      episodes_per_shard: by default a 64th of the episodes, but at most 256 MiB of latents.

    Raises:
      TokenizerError: the tokenizer does not take frames of this size.
      DataError: the source has no episodes.
    """
    if not source.num_episodes:
        raise DataError(f"split {source.split!r} has no episodes to encode")
    spec = source.spec
    size = spec.arrays["frames"][0][:2]
    latent = tokenizer.latent_shape(*size)
    arrays = dict(spec.arrays)
    frames = arrays.pop("frames")
    arrays = {"latents": (latent, "float16"), **({"frames": frames} if keep_frames else {}), **arrays}
    about = {
        "tokenizer": file.name,
        "fingerprint": file.fingerprint,
        "frame_size": list(size),
        "batch": batch,
        "source": source.digest,
    }
    encoded = EpisodeSpec(
        spec.name, arrays, spec.statics, {**spec.info, "encoded": about}, max(spec.chunk, CHUNK)
    )
    if episodes_per_shard is None:
        episodes_per_shard = _episodes_per_shard(source, encoded)
    recorded = {"name": file.name, "fingerprint": file.fingerprint, "path": recorded_path}
    layout = SplitLayout(directory, source.split, encoded, source.num_episodes, episodes_per_shard, recorded)
    return Job(source, layout, file, batch)


def _episodes_per_shard(source: Source, spec: EpisodeSpec) -> int:
    frame = sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in spec.arrays.values())
    by_size = SHARD_BYTES * source.num_episodes // max(1, frame * source.num_frames)
    return max(1, min(by_size, -(-source.num_episodes // SHARDS)))


def encode_shard(
    job: Job,
    number: int,
    tokenizer: Tokenizer,
    devices: Sequence[Any],
    *,
    wait: bool = False,
) -> bool:
    """Encodes one shard of a split that was begun, unless it is finished; returns whether this call encoded it.

    Args:
      job: the split.
      number: of the shard.
      tokenizer: what `job.tokenizer` loads.
      devices: of this process; a batch is split over them.
      wait: see `rad_jax.data.writer.write_shard`.

    Raises:
      DataError: the source is damaged, or a latent is not finite in float16. Nothing of the shard remains.
    """

    def make_episodes(indices: range) -> Iterator[Episode]:
        return (encode_episode(job, index, tokenizer, devices) for index in indices)

    return write_shard(job.layout, number, make_episodes, wait=wait)


def encode_episode(job: Job, index: int, tokenizer: Tokenizer, devices: Sequence[Any]) -> Episode:
    """Returns one episode with latents, as it is stored."""
    episode, chunks = job.source.read(index)
    frames: list[Frames] = []
    if job.keep_frames:
        chunks = _also_to(frames, chunks)
    latents = list(encode_frames(tokenizer, chunks, job.batch, devices))
    if not latents:
        raise DataError(f"episode {episode['episode_id']!r} has no frames")
    episode["latents"] = np.concatenate(latents)
    if job.keep_frames:
        episode["frames"] = np.concatenate(frames)
    return episode


def encode_frames(
    tokenizer: Tokenizer, chunks: Iterable[Frames], batch: int, devices: Sequence[Any]
) -> Iterator[Float16[np.ndarray, "t rows cols ch"]]:
    """Yields the latents of consecutive chunks of frames, ``batch`` frames at a time.

    All batches have one size (the last one is padded), so the encoder compiles once, and a latent does not depend on the
    lengths of the chunks. The next batch is read while one is encoded.
    """
    mesh = Mesh(np.asarray(devices), ("batch",))
    sharding = NamedSharding(mesh, PartitionSpec("batch"))
    encoding = None
    for frames in rebatch(chunks, batch):
        padded = np.concatenate([frames, np.repeat(frames[-1:], batch - len(frames), axis=0)])
        images = _unit(jax.device_put(padded, sharding))
        started = tokenizer.encode(images).astype(jnp.float16), len(frames)
        if encoding is not None:
            yield _fetch(*encoding)
        encoding = started
    if encoding is not None:
        yield _fetch(*encoding)


@jax.jit
def _unit(frames: UInt8[Array, "t H W 3"]) -> Float[Array, "t H W 3"]:
    return frames.astype(jnp.float32) / 255


def _fetch(latents: jax.Array, count: int) -> Float16[np.ndarray, "t rows cols ch"]:
    return np.asarray(latents)[:count]


def rebatch(chunks: Iterable[Frames], batch: int) -> Iterator[Frames]:
    """Yields the same frames, ``batch`` at a time; the last batch may be shorter."""
    held: list[Frames] = []
    count = 0
    for chunk in chunks:
        while len(chunk):
            taken, chunk = chunk[: batch - count], chunk[batch - count :]
            held.append(taken)
            count += len(taken)
            if count == batch:
                yield np.concatenate(held)
                held, count = [], 0
    if count:
        yield np.concatenate(held)


def _also_to(copy: list[Frames], chunks: Iterable[Frames]) -> Iterator[Frames]:
    for chunk in chunks:
        copy.append(chunk)
        yield chunk
