"""What encoding a split consists of, and the one function that encodes one of its shards, wherever it runs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float16

from data_prep.latents.source import Frames, Source
from rad_jax import tokenizer as tokenizers
from rad_jax.data import DataError, Episode, EpisodeSpec
from rad_jax.data.shards import SplitLayout
from rad_jax.data.writer import write_shard
from rad_jax.tokenizer import Tokenizer

CHUNK = 20  # frames of latents per record, at least: `rad_jax.data.spec`
SHARD_BYTES = 2**28
SHARDS = 64  # of a split, if it has as many episodes: they are dealt to processes, and what a stop costs is a shard

Report = Callable[[int, int, int], None]
"""Called as (shard, its episodes that are encoded, frames encoded since the last call)."""


@dataclass(frozen=True)
class TokenizerFile:
    """A tokenizer to load: its name, its file, and the fingerprint it must have."""

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
      tokenizer: what encodes.
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
    """The job of a split.

    Args:
      source: what is encoded.
      directory: of the data set of latents.
      file, tokenizer: what encodes.
      recorded_path: its file as the data set of latents names it.
      batch: frames that are encoded together; the last bits of a latent may depend on it, so it is recorded.
      keep_frames: store the frames beside their latents.
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
    report: Report = lambda *_: None,
) -> bool:
    """Encodes one shard of a split that was begun, unless that has been done; returns whether it was done here.

    Args:
      job: the split.
      number: of the shard.
      tokenizer: what ``job.tokenizer`` loads.
      devices: those of this process over which a batch is split.
      wait: see `rad_jax.data.writer.write_shard`.
      report: called after every batch of frames.

    Raises:
      DataError: the source is damaged, or a latent is not finite in float16. Nothing of the shard stays.
    """

    def make_episodes(indices: range) -> Iterator[Episode]:
        for done, index in enumerate(indices):
            yield encode_episode(job, index, tokenizer, devices, lambda n, done=done: report(number, done, n))
            report(number, done + 1, 0)

    return write_shard(job.layout, number, make_episodes, wait=wait)


def encode_episode(
    job: Job, index: int, tokenizer: Tokenizer, devices: Sequence[Any], report: Callable[[int], None]
) -> Episode:
    """One episode as it is stored; ``report`` is called with the frames of every batch that is encoded."""
    episode, pieces = job.source.read(index)
    kept: list[Frames] = []
    if job.keep_frames:
        pieces = _also_to(kept, pieces)
    latents = []
    for part in encode_pieces(tokenizer, pieces, job.batch, devices):
        latents.append(part)
        report(len(part))
    if not latents:
        raise DataError(f"episode {episode['episode_id']!r} has no frames")
    episode["latents"] = np.concatenate(latents)
    if job.keep_frames:
        episode["frames"] = np.concatenate(kept)
    return episode


def encode_pieces(
    tokenizer: Tokenizer, pieces: Iterable[Frames], batch: int, devices: Sequence[Any]
) -> Iterator[Float16[np.ndarray, "n rows cols ch"]]:
    """The latents of frames that come in pieces of any length, ``batch`` at a time.

    Frames are encoded in batches of one size, the last one filled up, so that everything is compiled once and a latent does
    not depend on how the frames were cut into pieces. While a batch is encoded the next one is read.
    """
    mesh = Mesh(np.asarray(devices), ("batch",))
    sharding = NamedSharding(mesh, PartitionSpec("batch"))
    encoding = None
    for frames in rebatch(pieces, batch):
        filled = np.concatenate([frames, np.repeat(frames[-1:], batch - len(frames), axis=0)])
        images = _unit(jax.device_put(filled, sharding))
        started = tokenizer.encode(images).astype(jnp.float16), len(frames)
        if encoding is not None:
            yield _fetch(*encoding)
        encoding = started
    if encoding is not None:
        yield _fetch(*encoding)


@jax.jit
def _unit(frames):
    return frames.astype(jnp.float32) / 255


def _fetch(latents: jax.Array, count: int) -> Float16[np.ndarray, "n rows cols ch"]:
    return np.asarray(latents)[:count]


def rebatch(pieces: Iterable[Frames], batch: int) -> Iterator[Frames]:
    """The same frames, ``batch`` at a time; what is left comes last."""
    held: list[Frames] = []
    count = 0
    for piece in pieces:
        while len(piece):
            part, piece = piece[: batch - count], piece[batch - count :]
            held.append(part)
            count += len(part)
            if count == batch:
                yield np.concatenate(held)
                held, count = [], 0
    if count:
        yield np.concatenate(held)


def _also_to(kept: list[Frames], pieces: Iterable[Frames]) -> Iterator[Frames]:
    for piece in pieces:
        kept.append(piece)
        yield piece
