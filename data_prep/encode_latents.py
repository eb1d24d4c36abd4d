"""Encode a data set into latents, on one host or on many.

    python -m data_prep.encode_latents --src datasets/maze9 --dst datasets/maze9_latents
    python -m data_prep.encode_latents --src DIR --dst DIR --tokenizer NAME --weights FILE --workers 4
    python -m data_prep.encode_latents --src DIR --dst DIR --format vrag --size 640x360 --tokenizer NAME --weights FILE

Frames become float16 latents; everything else of an episode is kept. After a stop, the same command continues and ends with
the same bytes (on devices of the same kind, as many per process: others may round the last bit of a latent differently).
--workers N encodes in N processes, which share the devices of this host. Hosts that see the same directories may all run the
same command: each takes shards that no other has. Where the file system has no locks, give each host its share with
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

from data_prep.common.command import Parser, positive, run
from data_prep.latents.job import Job, encode_shards, local_devices, make_job
from data_prep.latents.source import recorded_sources, split_source
from data_prep.recordings import conversion
from rad_jax import tokenizer as tokenizers
from rad_jax.data import DataError
from rad_jax.data.index import FILE, index_locked, load_index
from rad_jax.data.writer import begin, check, finish
from rad_jax.files import remove_temporaries, write_bytes
from rad_jax.tokenizer import Tokenizer, TokenizerError

PROGRAM = "encode_latents"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = parse(PROGRAM, __doc__, arguments)
    return run(PROGRAM, partial(encode, options))


def encode(options: argparse.Namespace) -> None:
    """Encode what the options say; raises a `UserError` or `OSError`."""
    if options.workers > 1:  # on a shared GPU, no process may reserve most of the memory
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    devices = len(local_devices(options.workers))
    if options.batch % devices:
        raise DataError(
            f"--batch {options.batch}: expected a multiple of {devices}, the devices of a process"
        )
    jobs = make_jobs(options)
    encode_shards(jobs, *options.shard, options.workers)
    report(jobs)


def make_jobs(options: argparse.Namespace) -> list[Job]:
    """Return one job per split, begun; all of them are checked before anything is written.

    Raises:
      DataError, TokenizerError: something is missing or does not fit.
    """
    if options.dst == options.src:
        raise DataError("--dst: latents need a directory of their own, expected another one than --src")
    if options.format:
        tokenizer, weights = open_tokenizer(options, None)
        sources = recorded_sources(options.recordings)
    else:
        index = load_index(options.src)
        if index is None:
            raise DataError(
                f"no data set at {options.src}: it has no {FILE}; of recordings name the --format"
            )
        tokenizer, weights = open_tokenizer(options, index["tokenizer"])
        splits = options.split or index["splits"]
        sources = [(options.dst, split_source(options.src, split)) for split in splits]
    # A tokenizer that lies in the source goes along, because the source may be deleted.
    goes_along = weights.resolve().is_relative_to(options.src.resolve()) and weights.is_file()
    recorded_path = weights.name if goes_along else os.fspath(weights.resolve())
    jobs = [
        make_job(source, directory, tokenizer, weights, recorded_path, options)
        for directory, source in sources
    ]
    for job in jobs:
        check(job.layout)
        if goes_along:
            _refuse_other(weights, job.layout.directory / weights.name)
    for job in jobs:
        job.layout.directory.mkdir(parents=True, exist_ok=True)
        if goes_along:
            _copy(weights, job.layout.directory / weights.name)
        begin(job.layout)
    return jobs


def open_tokenizer(options: argparse.Namespace, recorded: dict[str, str] | None) -> tuple[Tokenizer, Path]:
    """Return the tokenizer that the options name, or else the one that the source has recorded, and its file."""
    if (options.tokenizer is None) != (options.weights is None):
        raise TokenizerError("--tokenizer and --weights go together: one of them is missing")
    if options.tokenizer is not None:
        return tokenizers.load(options.tokenizer, options.weights), options.weights
    if recorded is None:
        raise TokenizerError(f"{options.src} has no tokenizer of its own: give --tokenizer and --weights")
    path = options.src / recorded["path"]
    return tokenizers.load(recorded["name"], path, recorded["fingerprint"]), path


def _refuse_other(source: Path, target: Path) -> None:
    """Raises `DataError` if another file than the source is in the place of its copy."""
    if target.exists() and target.read_bytes() != source.read_bytes():
        raise DataError(
            f"{target} is another tokenizer than {source}: name another --dst, or move this file away"
        )


def _copy(source: Path, target: Path) -> None:
    """Copies a file, unless an equal one is there. Raises `DataError` if another one is."""
    _refuse_other(source, target)
    if not target.exists():
        with index_locked(target.parent):
            remove_temporaries(target.parent, target.name)
            write_bytes(target, source.read_bytes())


def report(jobs: Sequence[Job]) -> None:
    """Complete the splits whose shards are all finished, and print the state of each split."""
    for job in jobs:
        layout = job.layout
        if finish(layout):
            shape = "x".join(map(str, layout.spec.arrays["latents"][0]))
            state = f"{layout.num_episodes} episodes, latents {shape} float16"
        else:
            state = "this share is done; the last one completes the split"
        print(f"{layout.directory} {layout.split}: {state}")


def parse(program: str, description: str | None, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the options of the local command or of the one for Beam; with --format also those of `data_prep.convert`."""
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
    add("--workers", type=positive, default=1, help="processes of this host, also to check recordings (1)")
    add("--shard", type=_share, default=(0, 1), metavar="K/N", help="only the K-th of N shares, K from 0 on")
    options, rest = parser.parse_known_args(arguments)
    for name in ("src", "dst", "weights"):  # they mean the same in every process
        if getattr(options, name) is not None:
            setattr(options, name, getattr(options, name).absolute())
    if options.format is not None:
        if len(options.split or ()) > 1:
            parser.error("argument --split: recordings become one split, and test episodes")
        shared = ["--format", options.format, "--src", options.src, "--dst", options.dst]
        shared += ["--workers", str(options.workers)]
        shared += ["--split", *options.split] if options.split else []
        options.recordings = conversion.parser(program).parse_args([*map(os.fspath, shared), *rest])
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def _share(text: str) -> tuple[int, int]:
    share, _, of = text.partition("/")
    if not (share.isdecimal() and of.isdecimal() and int(share) < int(of)):
        raise argparse.ArgumentTypeError(f"expected K/N with K from 0 to N-1, not {text}")
    return int(share), int(of)


if __name__ == "__main__":
    sys.exit(main())
