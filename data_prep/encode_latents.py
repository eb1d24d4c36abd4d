"""Encode a data set into latents, on one host or on many.

    python -m data_prep.encode_latents --src datasets/maze9 --dst datasets/maze9_latents
    python -m data_prep.encode_latents --src DIR --dst DIR --tokenizer NAME --weights FILE --workers 4
    python -m data_prep.encode_latents --src DIR --dst DIR --format vrag --size 640x360 --tokenizer NAME --weights FILE

Frames become float16 latents; everything else of an episode is kept. After a stop, the same command continues and ends with
the same bytes (on devices of the same kind, as many per process: others may round the last bit of a latent differently).
--workers N runs N copies on this host, which share its devices. Hosts that see the same directories may all run the same
command. Each copy takes shards that no other has; where the file system has no locks, give each host its share with
--shard 0/4, 1/4, ... Without --tokenizer, the tokenizer that was fitted to the source encodes.

With --format the source is a directory of recordings, which are decoded and encoded at once: as raw frames, an episode of 1200
frames of 640x360 takes 830 MB. The other options (--size, --test-episodes, --pattern, ...) are those of data_prep.convert.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.common.command import Parser, positive, run
from data_prep.latents.job import Job, TokenizerFile, make_job
from data_prep.latents.source import Source, SplitSource
from data_prep.latents.workers import encode_shards, local_devices
from rad_jax import tokenizer as tokenizers
from rad_jax.data import DataError
from rad_jax.data.index import FILE, index_locked, load_index
from rad_jax.data.writer import begin, finish
from rad_jax.files import remove_temporaries, write_bytes
from rad_jax.tokenizer import Tokenizer, TokenizerError

PROGRAM = "encode_latents"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = parse(PROGRAM, __doc__, arguments)
    return run(PROGRAM, partial(encode, options))


def encode(options: argparse.Namespace) -> None:
    """Encode what the options say; raises a `UserError` or `OSError`."""
    share, of = options.shard
    if options.workers > 1:  # on a shared GPU, no process may reserve most of the memory
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    devices = max(len(local_devices(worker, options.workers)) for worker in range(options.workers))
    if options.batch % devices:
        raise DataError(
            f"--batch {options.batch}: expected a multiple of {devices}, the devices of a process"
        )
    jobs = make_jobs(options)
    for job in jobs:
        begin(job.layout)
    encode_shards(jobs, [range(share, job.layout.num_shards, of) for job in jobs], options.workers)
    report(jobs)


def report(jobs: Sequence[Job]) -> None:
    """Complete the splits whose shards are all finished, and print the state of each split."""
    for job in jobs:
        layout = job.layout
        if finish(layout):
            shape = "x".join(map(str, layout.spec.arrays["latents"][0]))
            print(
                f"{layout.directory} {layout.split}: {layout.num_episodes} episodes, latents {shape} float16"
            )
        else:
            print(f"{layout.directory} {layout.split}: this share is done; the last one completes the split")


def make_jobs(options: argparse.Namespace) -> list[Job]:
    """Return one job per split, all of them checked before anything is written.

    Raises:
      DataError, TokenizerError: something is missing or does not fit.
    """
    if options.dst == options.src:
        raise DataError("--dst: latents need a directory of their own, expected another one than --src")
    file, tokenizer = open_tokenizer(options)
    sources = open_sources(options)
    keep = options.keep_frames
    jobs = [
        make_job(
            source,
            directory,
            file,
            tokenizer,
            _recorded_path(options, file),
            batch=options.batch,
            keep_frames="n_context" in source.spec.statics if keep is None else keep,
            episodes_per_shard=options.shard_episodes,
        )
        for directory, source in sources
    ]
    for directory, _ in sources:
        directory.mkdir(parents=True, exist_ok=True)
        if _is_copied(options, file):
            _copy(file.path, directory / file.path.name)
    return jobs


def open_sources(options: argparse.Namespace) -> list[tuple[Path, Source]]:
    """Return the splits to encode, each with the directory of its latents."""
    if options.format is not None:
        from data_prep.latents.recordings import open_recordings

        return open_recordings(options.recordings, options.workers)
    splits = options.split or source_index(options)["splits"]
    return [(options.dst, SplitSource(options.src, split)) for split in splits]


def source_index(options: argparse.Namespace) -> dict[str, Any]:
    """Return the index of the data set to encode. Raises DataError if there is none."""
    index = load_index(options.src)
    if index is None:
        raise DataError(f"no data set at {options.src}: it has no {FILE}; of recordings name the --format")
    return index


def open_tokenizer(options: argparse.Namespace) -> tuple[TokenizerFile, Tokenizer]:
    """Return the tokenizer that the options name, or else the one that the source records."""
    if (options.tokenizer is None) != (options.weights is None):
        raise TokenizerError("--tokenizer and --weights go together: one of them is missing")
    if options.tokenizer is not None:
        tokenizer = tokenizers.load(options.tokenizer, options.weights)
        return TokenizerFile(options.tokenizer, options.weights, tokenizer.fingerprint), tokenizer
    recorded = None if options.format else source_index(options)["tokenizer"]
    if recorded is None:
        raise TokenizerError(
            f"{options.src} has no tokenizer of its own: name one with --tokenizer and --weights"
        )
    file = TokenizerFile(recorded["name"], options.src / recorded["path"], recorded["fingerprint"])
    return file, file.load()


def _is_copied(options: argparse.Namespace, file: TokenizerFile) -> bool:
    """Whether the tokenizer lies in the source: it is copied then, because the source may be deleted."""
    return file.path.is_file() and file.path.resolve().is_relative_to(options.src.resolve())


def _recorded_path(options: argparse.Namespace, file: TokenizerFile) -> str:
    return file.path.name if _is_copied(options, file) else os.fspath(file.path.resolve())


def _copy(source: Path, target: Path) -> None:
    """Copies a file, unless an equal one is there. Raises DataError if another one is."""
    if target.exists() and target.read_bytes() == source.read_bytes():
        return
    if target.exists():
        raise DataError(
            f"{target} is another tokenizer than {source}: use another directory, or delete this one"
        )
    with index_locked(target.parent):
        remove_temporaries(target.parent, target.name)
        write_bytes(target, source.read_bytes())


def parse(
    program: str, description: str | None, arguments: Sequence[str] | None, *, local: bool = True
) -> argparse.Namespace:
    """Parse the options of the local command or of the one for Beam; with --format also those of `data_prep.convert`."""
    parser = _parser(program, description, local)
    options, rest = parser.parse_known_args(arguments)
    for name in ("src", "dst", "weights"):  # they mean the same in every process
        if getattr(options, name) is not None:
            setattr(options, name, getattr(options, name).absolute())
    if options.format is not None:
        from data_prep.latents.recordings import parse as parse_recordings

        options.recordings = parse_recordings(program, options, rest)
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def _parser(program: str, description: str | None, local: bool) -> Parser:
    parser = Parser(program, description)
    add = parser.add_argument
    add("--src", required=True, type=Path, help="the data set, or with --format the directory of recordings")
    add("--dst", required=True, type=Path, help="directory of the data set of latents")
    add("--format", help="whose recordings they are; further options are those of data_prep.convert")
    add("--split", nargs="+", help="splits to encode (all)")
    add("--tokenizer", help="name of the tokenizer (the one fitted to the source)")
    add("--weights", type=Path, help="its file")
    add("--batch", type=positive, default=32, help="frames encoded together (32)")
    add(
        "--keep-frames",
        action=argparse.BooleanOptionalAction,
        help="store frames beside latents (of episodes for evaluation, whose predictions are compared with them)",
    )
    add("--shard-episodes", type=positive, help="episodes of a shard file (a 64th of them, or 256 MiB)")
    work = "that encode, and check recordings" if local else "that check recordings"
    add("--workers", type=positive, default=1, help=f"processes of this host {work} (1)")
    if local:
        add(
            "--shard",
            type=_share,
            default=(0, 1),
            metavar="K/N",
            help="only the K-th of N shares, K from 0 to N-1",
        )
    return parser


def _share(text: str) -> tuple[int, int]:
    share, _, of = text.partition("/")
    if not (share.isdecimal() and of.isdecimal() and int(share) < int(of)):
        raise argparse.ArgumentTypeError(f"expected K/N with K from 0 to N-1, not {text}")
    return int(share), int(of)


if __name__ == "__main__":
    sys.exit(main())
