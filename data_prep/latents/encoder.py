"""From frames to latents, in batches of one size that are split over devices."""

from collections.abc import Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Float16, UInt8

from data_prep.latents.source import Frames
from rad_jax.tokenizer import Tokenizer


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
