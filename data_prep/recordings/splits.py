"""How the recordings of a survey are divided into splits: what fits together, what is trained on, what is evaluated."""

import argparse
import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_prep.recordings import Candidate, source
from data_prep.recordings.episode import common, episode_spec, misfit
from data_prep.recordings.survey import Found
from rad_jax.data import DataError, EpisodeSpec

TRAIN, TEST = "train", "test"
CONTEXT_SHARE = 0.6  # of the frames of an evaluation, where nothing else says how many are given


@dataclass(frozen=True)
class Chosen:
    """A recording of a split.

    Attributes:
      candidate: its files.
      found: what the survey found of it.
      length: how many of its frames are stored.
      n_context: for an evaluation, how many of these are given; else None.
    """

    candidate: Candidate
    found: Found
    length: int
    n_context: int | None


@dataclass(frozen=True)
class Split:
    """One split to write: the directory, its name, the schema of its episodes, and the recordings that they are made of."""

    directory: Path
    split: str
    spec: EpisodeSpec
    recordings: Sequence[Chosen]

    @property
    def num_frames(self) -> int:
        """Frames of all its episodes."""
        return sum(each.length for each in self.recordings)


@dataclass(frozen=True)
class Division:
    """What becomes of the recordings.

    Attributes:
      splits: what is to be written.
      skipped: why recordings are left out, by their ids in order.
      without_pose: columns of the pose that a recording does not know though others do, by its id; for want of them, no
        episode of the data set has these columns.
      problem: why nothing can be written as wanted; empty if it can.
    """

    splits: Sequence[Split]
    skipped: Mapping[str, str]
    without_pose: Mapping[str, Sequence[str]]
    problem: str


def divide(
    options: argparse.Namespace, candidates: Mapping[str, Candidate], results: Mapping[str, Found | str]
) -> Division:
    """Divide the recordings of a survey into splits, by the options of `data_prep.recordings.conversion.parser`."""
    skipped = {name: reason for name, reason in results.items() if isinstance(reason, str)}

    def usable(recordings: Sequence[Found], defect: Callable[[Found], str]) -> list[Found]:
        skipped.update({each.id: reason for each in recordings if (reason := defect(each))})
        return [each for each in recordings if each.id not in skipped]

    recordings = [found for found in results.values() if isinstance(found, Found)]
    recordings = usable(recordings, lambda each: _too_short(options, each))
    if options.split != TRAIN:
        recordings = usable(recordings, lambda each: _no_evaluation(options, each))
    of_all = common([each.traits for each in recordings]) if recordings else None
    recordings = usable(recordings, lambda each: misfit(each.traits, of_all))
    columns = dict.fromkeys(name for each in recordings for name in each.traits.pose)  # in order
    lacking = {each.id: [name for name in columns if name not in each.traits.pose] for each in recordings}
    chosen, problem = _choose(options, recordings, len(results))
    splits = []
    for directory, split, members in chosen:
        info, evaluated = _info(options, split, members), split != TRAIN
        spec = episode_spec(source(options.format), of_all, context=evaluated, info=info)
        parts = [_evaluated_part(options, each) if evaluated else (each.num_frames, None) for each in members]
        chosen_parts = [Chosen(candidates[each.id], each, *part) for each, part in zip(members, parts)]
        splits.append(Split(directory, split, spec, chosen_parts))
    without_pose = {name: unknown for name, unknown in lacking.items() if unknown}
    return Division(splits, dict(sorted(skipped.items())), without_pose, problem)


def without(options: argparse.Namespace, split: Split, names: Collection[str]) -> Split:
    """A split without some recordings, by their ids. Raises `DataError` if none would be left."""
    kept = [each for each in split.recordings if each.candidate.id not in names]
    if not kept:
        raise DataError(f"{split.directory}: no recording of {split.split} can be read any more")
    info = {**split.spec.info, **_info(options, split.split, [each.found for each in kept])}
    return replace(split, spec=replace(split.spec, info=info), recordings=kept)


def _evaluated_part(options: argparse.Namespace, found: Found) -> tuple[int, int]:
    """How many frames of a recording are evaluated, and how many of these are given."""
    length = min(found.num_frames, options.test_frames or found.num_frames)
    stated = found.pattern_context if options.pattern else found.n_context
    return length, options.context or stated or max(1, round(CONTEXT_SHARE * length))


def _too_short(options: argparse.Namespace, found: Found) -> str:
    if found.num_frames >= (options.min_frames or 0):
        return ""
    return f"{found.num_frames} frames, fewer than --min-frames {options.min_frames}"


def _no_evaluation(options: argparse.Namespace, found: Found) -> str:
    """Why a recording cannot be evaluated; empty if it can."""
    if options.pattern and found.pattern != options.pattern:
        return f"its pattern is {found.pattern or 'none that is known'}, wanted {options.pattern}"
    length, n_context = _evaluated_part(options, found)
    if n_context >= length:
        return f"a context of {n_context} among {length} frames leaves nothing to predict"
    return ""


def _choose(
    options: argparse.Namespace, usable: list[Found], total: int
) -> tuple[list[tuple[Path, str, list[Found]]], str]:
    """Directory, name and recordings of every split, or what is wrong."""
    if not usable:
        return [], f"none of {total} recordings can be used"
    if options.test_dst is None:
        return [(options.dst, options.split, usable)], ""
    able = [each for each in usable if not _no_evaluation(options, each)]
    count = options.test_episodes or round((options.test_share or 0) * len(usable))
    if not 0 < count <= len(able):
        return [], f"{count} test episodes: {len(able)} of {total} recordings can be evaluated"
    testing = able[-count:]
    names = {each.id for each in testing}
    training = [each for each in usable if each.id not in names]
    if not training:
        return [], f"{count} test episodes of {len(usable)} leave none to train on: give --split test for all"
    return [(options.dst, TRAIN, training), (options.test_dst, TEST, testing)], ""


def _info(options: argparse.Namespace, split: str, chosen: Sequence[Found]) -> dict[str, Any]:
    """What a split records about how it was made."""
    words = [f"python -m data_prep.convert --format {options.format} --src SRC --dst DIR --split {split}"]
    facts: dict[str, Any] = {}
    if options.size:
        words.append(f"--size {options.size[1]}x{options.size[0]}")
    names = ["skip", "min_frames"]
    if split != TRAIN:
        patterns = {each.pattern for each in chosen}
        facts["protocol"] = (patterns.pop() if len(patterns) == 1 else None) or "continue"
        names += ["test_frames", "context", "pattern"]
    for name in names:
        if getattr(options, name) is not None:
            words.append(f"--{name.replace('_', '-')} {getattr(options, name)}")
    # A hash of what is written: the same command with other recordings must not resume this data set.
    content = json.dumps([[each.id, each.num_frames, each.num_bytes] for each in chosen])
    facts["recordings"] = hashlib.sha256(content.encode()).hexdigest()[:16]
    return {**facts, "command": " ".join(words)}
