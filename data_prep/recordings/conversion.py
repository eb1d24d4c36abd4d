"""The part of a conversion that writes nothing but a report: options, the check of all recordings, their division into splits.

`data_prep.convert` writes the splits as frames, `data_prep.encode_latents` as latents.
"""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_prep.common.command import Parser, natural, positive, size
from data_prep.common.pool import Pool
from data_prep.common.progress_bar import ProgressBar
from data_prep.recordings import FORMATS, BadRecording, find, frames, read, source
from data_prep.recordings.episode import episode_without_frames
from data_prep.recordings.patterns import KINDS
from data_prep.recordings.recording import Recording
from data_prep.recordings.splits import TRAIN, Chosen, Division, Split, divide, without
from data_prep.recordings.survey import Found, journal_held, num_bytes, reason_of, survey
from data_prep.recordings.video import FrameChunks
from rad_jax.data import DataError, Episode, EpisodeSpec
from rad_jax.data.index import load_index
from rad_jax.data.spec import check_name
from rad_jax.data.writer import discard
from rad_jax.errors import UserError
from rad_jax.files import write_json
from rad_jax.files.json_files import read_json

PROGRAM, REPORT = "convert", "convert_report.json"
_NAMED = 20  # recordings that are named on the screen
_LARGEST_SIDE = 4096


@contextmanager
def checked_recordings(options: argparse.Namespace, *, wait: bool) -> Iterator[tuple[Sequence[Split], Pool]]:
    """Checks all recordings; gives the splits that they become, and the processes that checked them, to use further.

    Prints and reports what is left out. Until the end of the context no other process converts into the directory.

    Args:
      options: of `parser`.
      wait: whether another process that holds the directory is waited for.

    Raises:
      DataError: there are no recordings, none can be used, or too few for the options; options contradict each other; or
        another process holds the directory.
    """
    _check(options)
    candidates = {candidate.id: candidate for candidate in find(options.format, options.src)}
    if not candidates:
        files = ", ".join(f"*{ending}" for ending in source(options.format).endings)
        raise DataError(f"no recordings of format {options.format} below {options.src}: expected {files}")
    with journal_held(options.dst, wait), Pool(min(options.workers, len(candidates))) as pool:
        with ProgressBar(f"{options.src}: checking") as bar:
            results = survey(candidates, options, pool, bar)
        division = divide(options, candidates, results)
        _report(options, results, division)
        if division.problem:
            raise DataError(f"{division.problem}; see {options.dst / REPORT}")
        yield division.splits, pool


def _report(options: argparse.Namespace, results: Mapping[str, Found | str], division: Division) -> None:
    """Write the report beside the data set, and print the gist of it."""
    splits = division.splits
    content = {
        "format": options.format,
        "recordings": len(results),
        "splits": {
            f"{each.directory}: {each.split}": [one.candidate.id for one in each.recordings]
            for each in splits
        },
        "skipped": [{"id": name, "reason": reason} for name, reason in division.skipped.items()],
        "without_pose": division.without_pose,
        "notes": [
            {"id": name, "notes": list(result.notes)}
            for name, result in results.items()
            if isinstance(result, Found) and result.notes
        ],
    }
    write_json(options.dst / REPORT, {**_reports(options), options.split: content})
    without = "of the pose, so the data set goes without; move it away to keep them"
    _say(options, [f"skipped {name}: {reason}" for name, reason in division.skipped.items()])
    _say(
        options, [f"{name} lacks {' '.join(lost)} {without}" for name, lost in division.without_pose.items()]
    )
    for each in splits:
        size, pose = frame_bytes(each.spec) * each.num_frames, each.spec.info.get("pose", ["not known"])
        print(
            f"{each.directory}, {each.split}: {len(each.recordings)} of {len(results)} recordings, "
            f"{each.num_frames} frames, {size / 1e9:.2f} GB; pose: {' '.join(pose)}"
        )


def _reports(options: argparse.Namespace) -> dict[str, Any]:
    """The reports of all splits that were converted into the directory, by ``--split``; none of another version."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return read_json(options.dst / REPORT, {"*": {"splits": {"*": list}, "skipped": list}})
    return {}


def _say(options: argparse.Namespace, lines: Sequence[str]) -> None:
    """Print the first of some lines, and how many there are more."""
    more = [f"and {len(lines) - _NAMED} more, see {options.dst / REPORT}"] * (len(lines) > _NAMED)
    for line in [*lines[:_NAMED], *more]:
        print(f"{PROGRAM}: {line}", file=sys.stderr)


def leave_out(options: argparse.Namespace, split: Split, error: "Unreadable") -> Split:
    """A split without a recording that could not be read when it was to be written, and without all others that have changed.

    What was written of the split is removed; what is left out is printed and added to the report.

    Raises:
      DataError: nothing is left of the split.
    """
    dropped = {each.candidate.id: reason for each in split.recordings if (reason := _changed(each))}
    name, dropped[name] = error.args
    reports, key = _reports(options), f"{split.directory}: {split.split}"
    report = reports[options.split]
    report["splits"][key] = [name for name in report["splits"][key] if name not in dropped]
    report["skipped"] += [{"id": name, "reason": reason} for name, reason in dropped.items()]
    write_json(options.dst / REPORT, reports)
    _say(options, [f"skipped {name}: {reason}" for name, reason in dropped.items()])
    discard(split.directory, split.split)
    left = without(options, split, dropped)
    print(f"{split.directory}, {split.split}: begun afresh with {len(left.recordings)} recordings")
    return left


def frame_bytes(spec: EpisodeSpec) -> int:
    """Bytes of the images of one frame."""
    height, width, channels = spec.arrays["frames"][0]
    return height * width * channels * (2 if "oracle" in spec.arrays else 1)


class Unreadable(UserError):
    """A recording that was checked, but cannot be read when its episode is to be made: its name, and the reason."""

    def __init__(self, name: str, reason: str):
        super().__init__(name, reason)  # by which it is made again from a pickle

    def __str__(self) -> str:
        name, reason = self.args
        return f"{name}: {reason}"


def read_episode(
    options: argparse.Namespace, spec: EpisodeSpec, chosen: Chosen
) -> tuple[Episode, FrameChunks]:
    """An episode of a split without its frames, and these in chunks, which are decoded as they are asked for.

    Raises:
      Unreadable: the files are not what they were when they were checked, or whatever else comes in between.
    """

    def chunks(recording: Recording) -> FrameChunks:
        with unreadable(chosen):
            yield from frames(recording, spec.arrays["frames"][0][:2])

    with unreadable(chosen):
        if reason := _changed(chosen):
            raise DataError(reason)
        known = chosen.found.video_frames
        recording = read(options.format, chosen.candidate, skip=options.skip, video_frames=known)
        if recording.num_frames != chosen.found.num_frames:
            expected = f"{chosen.found.num_frames} as checked before"
            raise BadRecording(recording.video, f"{recording.num_frames} frames", expected)
        recording = recording.cut(0, chosen.length)
        return episode_without_frames(recording, spec, chosen.n_context), chunks(recording)


@contextmanager
def unreadable(chosen: Chosen) -> Iterator[None]:
    """Raises whatever is raised as `Unreadable`."""
    try:
        yield
    except Unreadable:
        raise
    except Exception as error:
        raise Unreadable(chosen.candidate.id, reason_of(error)) from error


def _changed(chosen: Chosen) -> str:
    """How the files of a recording differ from those that were checked; empty if their sizes do not."""
    try:
        size = num_bytes(chosen.candidate)
    except OSError as error:
        return str(error)
    known = chosen.found.num_bytes
    return "" if size == known else f"its files have {size} bytes, expected {known} as checked before"


def _check(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other, before anything is read or written; complete ``test_dst``."""
    check_name("split", options.split)
    if options.size is not None and max(options.size) > _LARGEST_SIDE:
        raise DataError(f"--size: {max(options.size)} pixels, expected at most {_LARGEST_SIDE} a side")
    if options.test_share is not None and not 0 < options.test_share <= 1:
        raise DataError(f"--test-share: {options.test_share}, expected a number above 0, at most 1")
    testing = options.test_episodes is not None or options.test_share is not None
    if options.test_dst is not None and not testing:
        raise DataError("--test-dst: say how many with --test-episodes or --test-share")
    if testing and options.split != TRAIN:
        raise DataError(f"--split {options.split}: with test episodes the other ones are called {TRAIN}")
    if testing and options.test_dst is None:
        options.test_dst = options.dst.with_name(f"{options.dst.name}_test")
    if testing and options.test_dst.absolute() == options.dst.absolute():
        raise DataError("--test-dst: evaluations hold more than training episodes, use another directory")
    for name in ("context", "pattern", "test_frames"):
        if getattr(options, name) is not None and options.split == TRAIN and not testing:
            option = f"--{name.replace('_', '-')}"
            raise DataError(f"{option}: only for evaluations: --test-episodes, or --split test")
    for option, directory in (("--dst", options.dst), ("--test-dst", options.test_dst)):
        if directory is None:
            continue
        if directory.resolve().is_relative_to(options.src.resolve()):
            raise DataError(
                f"{option} {directory}: its files would be taken for recordings, use a directory outside of --src"
            )
        if directory.exists() and not directory.is_dir():
            raise DataError(f"{option} {directory}: there is a file, expected a directory or nothing")
        index = load_index(directory)
        if index is not None and options.format not in index["name"]:
            raise DataError(f"{directory} holds the data set {index['name']!r}: use another directory")
        given = option == "--test-dst" or options.split != TRAIN
        if index is not None and given != ("n_context" in index["statics"]):
            raise DataError(
                f"{directory} holds {'training' if given else 'test'} episodes: use another {option}"
            )


def parser(program: str = PROGRAM, description: str | None = None) -> Parser:
    """The options of the command."""
    parser = Parser(program, description)
    add = parser.add_argument
    add("--format", required=True, choices=FORMATS, metavar="|".join(FORMATS), help="whose files they are")
    add("--src", required=True, type=Path, help="directory of the recordings, at any depth")
    add("--dst", required=True, type=Path, help="directory of the data set")
    add("--size", type=size, metavar="WIDTHxHEIGHT", help="scale frames to so many pixels (their own)")
    add("--split", default=TRAIN, help="name of the split (train)")
    number = parser.add_mutually_exclusive_group()
    number.add_argument("--test-episodes", type=positive, help="so many recordings become test episodes")
    number.add_argument("--test-share", type=float, help="or such a share of them, 0 to 1")
    add("--test-dst", type=Path, help="their directory (DST_test)")
    add("--test-frames", type=positive, help="only the first so many frames of an evaluation episode (all)")
    add("--context", type=positive, help="frames of an evaluation episode that are given (see above)")
    add("--pattern", choices=KINDS, metavar="|".join(KINDS), help="evaluate only recordings of a pattern")
    add("--skip", type=natural, help="frames left out at the start (worldmem 100, others 0)")
    add("--min-frames", type=positive, help="leave out recordings with fewer, as are shorter than a clip")
    add("--workers", type=positive, default=1, help="processes; each holds about three episodes (1)")
    add("--shard-episodes", type=positive, help="episodes of a shard file (about 128 MiB of frames)")
    return parser
