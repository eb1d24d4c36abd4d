"""Fits the patch-PCA tokenizer to a data set and records it there.

    python -m data_prep.fit_tokenizer --data DIR [--split train --patch 8 --channels 16 --frames 4096
                                                  --decoder-steps 0 --seed 0]

Fits to frames drawn uniformly from the split; the last eighth of its episodes is held out for the reported reconstruction.
Writes DIR/tokenizer.npz and records it, with its fingerprint, in the index of the data set; an earlier file is replaced only
when the new one is complete. PCA takes about a second. --decoder-steps trains the residual decoder as well.
"""

import argparse
import pathlib
import sys
import time
from collections.abc import Sequence
from functools import partial

import numpy as np
from jaxtyping import UInt8

from data_prep.common.command import Parser, natural, positive, run, seed
from rad_jax.allocator import keep_freed_memory
from rad_jax.data import Episodes, record_tokenizer
from rad_jax.metrics import psnr
from rad_jax.tokenizer import Tokenizer, patch_pca

PROGRAM, FILE = "fit_tokenizer", "tokenizer.npz"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = Parser(PROGRAM, __doc__)
    add = parser.add_argument
    add("--data", required=True, type=pathlib.Path, help="directory of the data set")
    add("--split", default="train", help="split to fit to (train)")
    add("--patch", default=8, type=positive, help="pixels along a side of a patch (8)")
    add("--channels", default=16, type=positive, help="channels of the latents (16)")
    add("--frames", default=4096, type=positive, help="frames to fit to (4096)")
    add("--decoder-steps", default=0, type=natural, help="training steps of the residual decoder (0, none)")
    add("--seed", default=0, type=seed, help="seed of the choice of frames and of the decoder (0)")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    return run(PROGRAM, partial(fit_tokenizer, options), continues=False)


def fit_tokenizer(options: argparse.Namespace) -> None:
    """Fits a tokenizer, prints its reconstruction, writes and records it.

    Raises:
      DataError, TokenizerError: there is no such split, it has no frames, or sizes do not fit.
    """
    episodes = Episodes(options.data, options.split)
    first_held_out = len(episodes) - len(episodes) // 8
    fitted, held_out = range(first_held_out), range(first_held_out, len(episodes))
    where = "held-out frames"
    if not held_out:
        held_out = fitted
        where = "the frames it was fitted to (the split has too few episodes to hold any out)"
    chosen = random_frames(episodes, fitted, options.frames, options.seed)
    start = time.monotonic()
    tokenizer = patch_pca.fit(chosen, options.patch, options.channels)
    print(f"patch PCA of {len(chosen)} frames: {time.monotonic() - start:.1f} s")
    test = random_frames(episodes, held_out, max(1, options.frames // 8), options.seed + 1)
    print(f"reconstruction of {where}: {reconstruction_psnr(tokenizer, test):.2f} dB")
    if options.decoder_steps:
        start = time.monotonic()
        tokenizer = tokenizer.with_decoder(chosen, options.decoder_steps, options.seed)
        print(f"residual decoder, {options.decoder_steps} steps: {time.monotonic() - start:.1f} s")
        print(f"reconstruction with it: {reconstruction_psnr(tokenizer, test):.2f} dB")
    path = options.data / FILE
    tokenizer.save(path)
    record_tokenizer(options.data, tokenizer.name, tokenizer.fingerprint, FILE)
    shape = "x".join(map(str, tokenizer.latent_shape(*chosen.shape[1:3])))
    print(f"{path}: latents {shape}, scale {tokenizer.scale:.4f}, sha256 {tokenizer.fingerprint[:12]}")


def random_frames(
    episodes: Episodes, chosen: Sequence[int], count: int, seed: int
) -> UInt8[np.ndarray, "m H W 3"]:
    """Returns `count` frames (or all, if there are fewer) of the chosen episodes, all frames equally likely.

    Each stored chunk is read once.
    """
    lengths = episodes.lengths[list(chosen)]
    ends = np.cumsum(lengths)
    picked = np.random.default_rng(seed).choice(ends[-1], min(count, ends[-1]), replace=False)
    number = np.searchsorted(ends, picked, side="right")
    frame = picked - (ends - lengths)[number]
    chunk = episodes.spec.chunk
    frames = []
    for key in np.unique(np.stack([number, frame // chunk], 1), axis=0):
        first = int(key[1]) * chunk
        stop = min(first + chunk, int(lengths[key[0]]))
        stored = episodes.read(chosen[key[0]], first, stop, ["frames"])["frames"]
        frames.append(stored[frame[(number == key[0]) & (frame // chunk == key[1])] - first])
    return np.concatenate(frames)


def reconstruction_psnr(tokenizer: Tokenizer, frames: UInt8[np.ndarray, "m H W 3"]) -> float:
    """Returns the mean over frames of the PSNR in dB of decoded latents, clipped to [0, 1]."""
    images = np.asarray(frames, np.float32) / 255
    decibels = [
        psnr(np.clip(tokenizer.decode(tokenizer.encode(some)), 0, 1), some)
        for some in np.array_split(images, -(-len(images) // 256))
    ]
    return float(np.concatenate(decibels).mean())


if __name__ == "__main__":
    sys.exit(main())
