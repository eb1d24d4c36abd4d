"""Which recordings of a survey become which episodes: what fits together, what is trained on, what is evaluated, and how."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.recordings import source
from data_prep.recordings.episode import common, episode_spec, misfit
from data_prep.recordings.survey import Found, Skipped
from rad_jax.data import EpisodeSpec

TRAIN, TEST = "train", "test"
CONTEXT_SHARE = 0.6  # of the frames, where nothing else says how many are given


@dataclass(frozen=True)
class Wanted:
    """The options of a conversion that decide what becomes of a recording; see the help of the command."""

    format: str
    dst: Path
    split: str
    size: tuple[int, int] | None
    skip: int | None
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
class Part:
    """One split to write: where, its schema, its recordings, and if it is for evaluation the context of each."""

    directory: Path
    split: str
    spec: EpisodeSpec
    found: Sequence[Found]
    contexts: Sequence[int | None]


def plan(wanted: Wanted, results: Sequence[Found | Skipped]) -> tuple[list[Part], list[Skipped], str]:
    """What to write, what is left out and why, and, if nothing can be written as wanted, the reason."""
    skipped = {result.id: result.reason for result in results if isinstance(result, Skipped)}
    found = [result for result in results if isinstance(result, Found)]
    evaluated: dict[str, int] = {}
    if found:
        of_all = common([each.traits for each in found])
        skipped |= {e.id: misfit(e.traits, of_all) for e in found if misfit(e.traits, of_all)}
        found = [each for each in found if each.id not in skipped]
        for each in found:
            context, reason = _context(wanted, each)
            if not reason:
                evaluated[each.id] = context
            elif wanted.split != TRAIN:
                skipped[each.id] = reason
    parts, problem = [], ""
    splits, problem = _splits(wanted, found, evaluated, len(results))
    for directory, split, chosen in splits:
        context = split != TRAIN
        spec = episode_spec(source(wanted.format), of_all, context=context, info=_info(wanted, split, chosen))
        contexts = [evaluated[each.id] if context else None for each in chosen]
        parts.append(Part(directory, split, spec, chosen, contexts))
    return parts, [Skipped(*item) for item in sorted(skipped.items())], problem


def _context(wanted: Wanted, each: Found) -> tuple[int, str]:
    """How many frames of a recording would be given, and why it cannot be evaluated, if it cannot."""
    frames = min(each.num_frames, wanted.test_frames or each.num_frames)
    if wanted.pattern and each.pattern != wanted.pattern:
        return 0, f"its pattern is {each.pattern or 'none that is known'}, wanted {wanted.pattern}"
    context = wanted.context or (each.pattern_context if wanted.pattern else each.n_context)
    context = context or max(1, round(CONTEXT_SHARE * frames))
    if context >= frames:
        return 0, f"a context of {context} among {frames} frames leaves nothing to predict"
    return context, ""


def _splits(
    wanted: Wanted, found: Sequence[Found], evaluated: dict[str, int], total: int
) -> tuple[list[tuple[Path, str, list[Found]]], str]:
    """Directory, split and recordings of every split, or what is wrong."""
    able = [each for each in found if each.id in evaluated]
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
    """What a split says about how it was made."""
    words = [f"python -m data_prep.convert --format {wanted.format} --src SRC --dst DIR --split {split}"]
    facts: dict[str, Any] = {}
    if wanted.size:
        words.append(f"--size {wanted.size[1]}x{wanted.size[0]}")
    if wanted.skip is not None:
        words.append(f"--skip {wanted.skip}")
    if split != TRAIN:
        patterns = {each.pattern for each in chosen}
        facts["protocol"] = (patterns.pop() if len(patterns) == 1 else None) or "continue"
        for name in ("test_frames", "context", "pattern"):
            if getattr(wanted, name) is not None:
                words.append(f"--{name.replace('_', '-')} {getattr(wanted, name)}")
    # Of what is written, so that other recordings under the same command are not taken for a continuation.
    content = json.dumps([[each.id, each.num_frames, each.num_bytes] for each in chosen])
    facts["recordings"] = hashlib.sha256(content.encode()).hexdigest()[:16]
    return {**facts, "command": " ".join(words)}
