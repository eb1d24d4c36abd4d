"""Convert recordings as their makers left them into a data set.

    python -m data_prep.convert --format vrag --src recordings --dst datasets/minecraft --size 128x72 --test-episodes 60
    python -m data_prep.convert --format vrag --src recordings/rotate --dst datasets/rotate --split test --pattern rotate

Formats: loopnav, memory_maze, minerl, oasis, teco, vpt, vrag, worldmem; `data_prep.recordings` has the files of each. Every
recording is checked first, which decodes its video once; those that cannot be used are left out and named, with the reason,
here and in convert_report.json beside the data set. The others are written in order of their names, the last ones into the
test set. A run that was stopped continues when the same command is given again.

Test sets, and every split that is not called train, are for evaluation: they say how many frames of an episode are given
(n_context): --context, or where the pattern says, or the recording itself, or 60 %. --pattern takes only recordings that rotate
in place (rotate), walk a lap and repeat it (polygon), or go out and come back the same way (out_and_back).
"""

import argparse
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

from data_prep.common.command import Parser, natural, positive, run, size
from data_prep.common.pool import Pool
from data_prep.common.progress_bar import ProgressBar
from data_prep.recordings import FORMATS, BadRecording, Candidate, Recording, find, layout, read
from data_prep.recordings.episode import episode
from data_prep.recordings.patterns import KINDS
from data_prep.recordings.plan import TRAIN, Part, Wanted, plan
from data_prep.recordings.survey import Found, Settings, Skipped, journal_held, survey
from rad_jax.data import DataError, Episode, EpisodeSpec, write_split
from rad_jax.data.index import load_index
from rad_jax.data.spec import check_name
from rad_jax.files import write_json

PROGRAM, REPORT = "convert", "convert_report.json"
_SHARD_BYTES, _SHARD_EPISODES = 2**27, 1024
_NAMED = 20  # skipped recordings that are named on the screen
_LARGEST_SIDE = 4096


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = parser().parse_args(arguments)
    return run(PROGRAM, partial(convert, options))


def convert(options: argparse.Namespace) -> None:
    """Check, report, write; see the module's text. Raises `DataError`, `BadRecording` or `OSError`."""
    candidates = find_recordings(options)
    with journal_held(options.dst, wait=False), Pool(min(options.workers, len(candidates))) as pool:
        settings, parts = check_recordings(options, candidates, pool)
        for part in parts:
            _write(part, settings, candidates, pool, options.shard_episodes)


def find_recordings(options: argparse.Namespace) -> dict[str, Candidate]:
    """What could be recordings, by id. Raises `DataError` if there is nothing, or the options do not fit together."""
    _check(options)
    candidates = {candidate.id: candidate for candidate in find(options.format, options.src)}
    if not candidates:
        raise DataError(
            f"no recordings of format {options.format} below {options.src}: expected {layout(options.format)}"
        )
    return candidates


def check_recordings(
    options: argparse.Namespace, candidates: Mapping[str, Candidate], pool: Pool
) -> tuple[Settings, list[Part]]:
    """How recordings are read, and which become which split; says and reports what is left out. The journal must be held.

    Raises:
      DataError: none can be used, or not as wanted.
    """
    settings = Settings(options.format, options.skip, options.size, options.test_frames)
    with closing(ProgressBar(f"{options.src}: checking")) as bar:
        results = survey(list(candidates.values()), settings, options.dst, pool, bar)
    wanted = Wanted(**{field.name: getattr(options, field.name) for field in fields(Wanted)})
    parts, skipped, problem = plan(wanted, results)
    _report(options, results, parts, skipped)
    if problem:
        raise DataError(f"{problem}; see {options.dst / REPORT}")
    return settings, parts


def _report(
    options: argparse.Namespace,
    results: Sequence[Found | Skipped],
    parts: Sequence[Part],
    skipped: Sequence[Skipped],
) -> None:
    """Write the report beside the data set, and say what matters of it."""
    notes = [{"id": r.id, "notes": list(r.notes)} for r in results if isinstance(r, Found) and r.notes]
    content = {
        "format": options.format,
        "recordings": len(results),
        "splits": {f"{part.directory}: {part.split}": [each.id for each in part.found] for part in parts},
        "skipped": [vars(each) for each in skipped],
        "notes": notes,
    }
    write_json(options.dst / REPORT, content)
    for each in skipped[:_NAMED]:
        print(f"{PROGRAM}: skipped {each.id}: {each.reason}", file=sys.stderr)
    if len(skipped) > _NAMED:
        print(f"{PROGRAM}: and {len(skipped) - _NAMED} more, see {options.dst / REPORT}", file=sys.stderr)
    for part in parts:
        frames = sum(_frames(part, each, options.test_frames) for each in part.found)
        pose = part.spec.info.get("pose")
        print(
            f"{part.directory}, {part.split}: {len(part.found)} of {len(results)} recordings, {frames} frames, "
            f"{_bytes(part.spec) * frames / 1e9:.2f} GB; pose: {' '.join(pose) if pose else 'not known'}"
        )


def _frames(part: Part, each: Found, test_frames: int | None) -> int:
    return min(each.num_frames, test_frames) if part.split != TRAIN and test_frames else each.num_frames


def _bytes(spec: EpisodeSpec) -> int:
    """Of one frame on the disk, about: of its images."""
    height, width, channels = spec.arrays["frames"][0]
    return height * width * channels * (2 if "oracle" in spec.arrays else 1)


def _write(
    part: Part, settings: Settings, candidates: dict[str, Candidate], pool: Pool, shard_episodes: int | None
) -> None:
    """Write a split, or what is missing of it, with a progress bar."""
    part.directory.mkdir(parents=True, exist_ok=True)
    longest = max(_frames(part, each, settings.first) for each in part.found)
    total = sum(_frames(part, each, settings.first) for each in part.found) * _bytes(part.spec)
    free = shutil.disk_usage(part.directory).free
    there = sum(path.stat().st_size for path in part.directory.glob(f"{part.spec.name}-{part.split}.*"))
    if total > free + there:
        raise DataError(
            f"{part.directory} needs {total / 1e9:.1f} GB, {free / 1e9:.1f} are free: choose a smaller --size, or "
            "encode the recordings into latents at once (data_prep.encode_latents)"
        )
    if shard_episodes is None:
        shard_episodes = min(max(_SHARD_BYTES // (_bytes(part.spec) * longest), 1), _SHARD_EPISODES)
    task = partial(make_episode, settings, part.spec)

    def make_episodes(indices: range) -> Iterator[Episode]:
        return pool.map(
            task, [(candidates[part.found[i].id], part.found[i], part.contexts[i]) for i in indices]
        )

    with closing(ProgressBar(f"{part.directory} {part.split}")) as bar:
        write_split(
            part.directory,
            part.split,
            part.spec,
            make_episodes,
            len(part.found),
            episodes_per_shard=shard_episodes,
            progress=bar,
        )


def make_episode(settings: Settings, spec: EpisodeSpec, job: tuple[Candidate, Found, int | None]) -> Episode:
    """One episode of a split. Raises `BadRecording` if its files are not what they were when they were checked."""
    candidate, found, n_context = job
    return episode(open_recording(settings, candidate, found, spec), spec, n_context)


def open_recording(settings: Settings, candidate: Candidate, found: Found, spec: EpisodeSpec) -> Recording:
    """The recording of an episode, without decoding its video, cut for an evaluation if the schema is for one."""
    recording = read(settings.format, candidate, skip=settings.skip, video_frames=found.video_frames)
    if recording.num_frames != found.num_frames:
        raise BadRecording(
            recording.video, f"{recording.num_frames} frames", f"{found.num_frames} as checked before"
        )
    cut = settings.first is not None and "n_context" in spec.statics
    return replace(recording.cut(0, settings.first) if cut else recording, id=found.id)


def _check(options: argparse.Namespace) -> None:
    """Options that cannot be, before anything is read or written."""
    check_name("split", options.split)
    testing = options.test_episodes is not None or options.test_share is not None
    if options.test_episodes is not None and options.test_share is not None:
        raise DataError("--test-episodes and --test-share: give one of them")
    if options.test_dst is not None and not testing:
        raise DataError("--test-dst: say how many with --test-episodes or --test-share")
    if testing and options.split != TRAIN:
        raise DataError(f"--split {options.split}: with test episodes the other ones are called {TRAIN}")
    if testing and options.test_dst is None:
        options.test_dst = options.dst.with_name(f"{options.dst.name}_test")
    if testing and options.test_dst.absolute() == options.dst.absolute():
        raise DataError(
            "--test-dst: evaluations hold more than training episodes, expected another directory"
        )
    for name in ("context", "pattern", "test_frames"):
        if getattr(options, name) is not None and options.split == TRAIN and not testing:
            raise DataError(
                f"--{name.replace('_', '-')}: only for evaluations: --test-episodes, or --split test"
            )
    for directory in (options.dst, options.test_dst):
        index = load_index(directory) if directory is not None else None
        if index is not None and options.format not in index["name"]:
            raise DataError(f"{directory} holds the data set {index['name']!r}: use another directory")


def parser() -> Parser:
    """The options of the command."""
    parser = Parser(PROGRAM, __doc__)
    add = parser.add_argument
    add("--format", required=True, choices=FORMATS, metavar="|".join(FORMATS), help="whose files they are")
    add("--src", required=True, type=Path, help="directory of the recordings, at any depth")
    add("--dst", required=True, type=Path, help="directory of the data set")
    add("--size", type=_size, metavar="WIDTHxHEIGHT", help="scale frames to so many pixels (their own)")
    add("--split", default=TRAIN, help="name of the split (train)")
    add("--test-episodes", type=positive, help="so many of the recordings become test episodes")
    add("--test-share", type=_share, help="or such a share of them, 0 to 1")
    add("--test-dst", type=Path, help="their directory (DST_test)")
    add("--test-frames", type=positive, help="only the first so many frames of an evaluation episode (all)")
    add("--context", type=positive, help="frames of an evaluation episode that are given (see above)")
    add("--pattern", choices=KINDS, metavar="|".join(KINDS), help="evaluate only recordings of a pattern")
    add("--skip", type=natural, help="frames left out at the start (worldmem 100, others 0)")
    add("--workers", type=positive, default=1, help="processes; each holds about three episodes (1)")
    add("--shard-episodes", type=positive, help="episodes of a shard file (about 128 MiB of frames)")
    return parser


def _size(text: str) -> tuple[int, int]:
    height, width = size(text)
    if max(height, width) > _LARGEST_SIDE:
        raise argparse.ArgumentTypeError(f"expected at most {_LARGEST_SIDE} pixels a side, not {text!r}")
    return height, width


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, at most 1, not {text!r}")
    return value


if __name__ == "__main__":
    sys.exit(main())
