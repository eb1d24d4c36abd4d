"""How the recordings of a survey are divided into splits: what fits together, what is trained on, what is evaluated."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.recordings import source
from data_prep.recordings.episode import common, episode_spec, misfit
from data_prep.recordings.survey import Found, Skipped
from rad_jax.data import EpisodeSpec

TRAIN, TEST = "train", "test"
CONTEXT_SHARE = 0.6  # of the frames of an evaluation, where nothing else says how many are given


@dataclass(frozen=True)
class Wanted:
    """The options of a conversion that decide what becomes of a recording; see the help of the command."""

    format: str
    dst: Path
    split: str
    size: tuple[int, int] | None
    skip: int | None
    min_frames: int | None
    test_dst: Path | None
    test_episodes: int | None
    test_share: float | None
    test_frames: int | None
    context: int | None
    pattern: str | None

    @property
    def has_test(self) -> bool:
        return self.test_episodes is not None or self.test_share is not None


@dataclass(frozen=True)
class Split:
    """One split to write.

    Attributes:
      directory: where.
      split: its name.
      spec: the schema of its episodes.
      found: its recordings.
      contexts: for an evaluation, how many frames of each are given; else None for each.
    """

    directory: Path
    split: str
    spec: EpisodeSpec
    found: Sequence[Found]
    contexts: Sequence[int | None]


@dataclass(frozen=True)
class Division:
    """What becomes of the recordings.

    Attributes:
      splits: what is to be written.
      skipped: the recordings that are left out, and why.
      without_pose: columns of the pose that a recording does not know though others do, by its id; for want of them, no
        episode of the data set has these columns.
      problem: why nothing can be written as wanted; empty if it can.
    """

    splits: Sequence[Split] = ()
    skipped: Sequence[Skipped] = ()
    without_pose: Mapping[str, Sequence[str]] = field(default_factory=dict)
    problem: str = ""


def divide(wanted: Wanted, results: Sequence[Found | Skipped]) -> Division:
    """Divide the recordings of a survey into splits."""
    skipped = {result.id: result.reason for result in results if isinstance(result, Skipped)}
    found = []
    for result in results:
        if isinstance(result, Found) and result.num_frames < (wanted.min_frames or 0):
            skipped[result.id] = f"{result.num_frames} frames, fewer than --min-frames {wanted.min_frames}"
        elif isinstance(result, Found):
            found.append(result)
    of_all = common([each.traits for each in found]) if found else None
    skipped |= {each.id: reason for each in found if (reason := misfit(each.traits, of_all))}
    found = [each for each in found if each.id not in skipped]
    contexts: dict[str, int] = {}
    for each in found:
        context, reason = _context(wanted, each)
        if not reason:
            contexts[each.id] = context
        elif wanted.split != TRAIN:
            skipped[each.id] = reason
    chosen, problem = _choose(wanted, found, contexts, len(results))
    splits = []
    for directory, split, members in chosen:
        spec = episode_spec(
            source(wanted.format), of_all, context=split != TRAIN, info=_info(wanted, split, members)
        )
        given = [contexts[each.id] if split != TRAIN else None for each in members]
        splits.append(Split(directory, split, spec, members, given))
    left_out = [Skipped(*item) for item in sorted(skipped.items())]
    return Division(splits, left_out, _without_pose(found), problem)


def _without_pose(found: Sequence[Found]) -> dict[str, list[str]]:
    """The columns of the pose that a recording lacks and others have, by its id."""
    known = {column: None for each in found for column in each.traits.pose}  # a dict keeps their order
    lacking = {each.id: [name for name in known if name not in each.traits.pose] for each in found}
    return {name: columns for name, columns in lacking.items() if columns}


def _context(wanted: Wanted, each: Found) -> tuple[int, str]:
    """How many frames of a recording an evaluation would give, and why it cannot be evaluated, if it cannot."""
    frames = min(each.num_frames, wanted.test_frames or each.num_frames)
    if wanted.pattern and each.pattern != wanted.pattern:
        return 0, f"its pattern is {each.pattern or 'none that is known'}, wanted {wanted.pattern}"
    context = wanted.context or (each.pattern_context if wanted.pattern else each.n_context)
    context = context or max(1, round(CONTEXT_SHARE * frames))
    if context >= frames:
        return 0, f"a context of {context} among {frames} frames leaves nothing to predict"
    return context, ""


def _choose(
    wanted: Wanted, found: Sequence[Found], contexts: Mapping[str, int], total: int
) -> tuple[list[tuple[Path, str, list[Found]]], str]:
    """Directory, name and recordings of every split, or what is wrong."""
    able = [each for each in found if each.id in contexts]
    if not wanted.has_test:
        chosen = found if wanted.split == TRAIN else able
        if not chosen:
            return [], f"none of {total} recordings can be used"
        return [(wanted.dst, wanted.split, list(chosen))], ""
    count = wanted.test_episodes or round((wanted.test_share or 0) * len(found))
    if not 0 < count <= len(able):
        return [], f"{count} test episodes: {len(able)} of {total} recordings can be evaluated"
    testing = able[-count:]
    names = {each.id for each in testing}
    training = [each for each in found if each.id not in names]
    if not training:
        return [], f"{count} test episodes of {len(found)} leave none to train on: give --split test for all"
    return [(wanted.dst, TRAIN, training), (wanted.test_dst, TEST, testing)], ""


def _info(wanted: Wanted, split: str, chosen: Sequence[Found]) -> dict[str, Any]:
    """What a split records about how it was made."""
    words = [f"python -m data_prep.convert --format {wanted.format} --src SRC --dst DIR --split {split}"]
    facts: dict[str, Any] = {}
    if wanted.size:
        words.append(f"--size {wanted.size[1]}x{wanted.size[0]}")
    names = ["skip", "min_frames"]
    if split != TRAIN:
        patterns = {each.pattern for each in chosen}
        facts["protocol"] = (patterns.pop() if len(patterns) == 1 else None) or "continue"
        names += ["test_frames", "context", "pattern"]
    for name in names:
        if getattr(wanted, name) is not None:
            words.append(f"--{name.replace('_', '-')} {getattr(wanted, name)}")
    # A hash of what is written: the same command with other recordings must not resume this data set.
    content = json.dumps([[each.id, each.num_frames, each.num_bytes] for each in chosen])
    facts["recordings"] = hashlib.sha256(content.encode()).hexdigest()[:16]
    return {**facts, "command": " ".join(words)}
