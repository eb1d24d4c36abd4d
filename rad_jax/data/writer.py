"""Writes the splits of a data set, shard by shard, in one process or in many; a run that was stopped continues where it was.

    begin(plan)                                  # every process, or one before the others start
    write_shard(plan, number, make_episodes)     # the unit of work: any process, any shard, in any order
    finish(plan)                                 # every process; the one that finds all shards finished completes the split

A shard is written under a temporary name and renamed when it is complete, then it is said to be finished (see
`rad_jax.data.progress`). When all shards are there, the metadata for TensorFlow Datasets and at last `index.json` are
replaced, so that a reader only ever sees whole splits. Episodes are pure functions of their index, so the files do not depend
on where a run was stopped or on how many processes it had, byte for byte. `write_split` is all of this in one call.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rad_jax.data import progress as kept
from rad_jax.data.index import FILE, load_index, schema_entry, writing
from rad_jax.data.plan import SplitPlan
from rad_jax.data.shard_file import remove_temporaries, write_shard_file
from rad_jax.data.spec import DataError, Episode, EpisodeSpec
from rad_jax.data.tfds_metadata import write_tfds_metadata
from rad_jax.files import write_json

MakeEpisodes = Callable[[range], Iterable[Episode]]
"""Gives the episodes of a range of indices, in order (the range is one shard, so that a renderer can batch over it). An
episode must be a pure function of its own index. An episode without "episode_id" is called "<split>-<index>"."""


def write_split(
    directory: str | os.PathLike,
    split: str,
    spec: EpisodeSpec,
    make_episodes: MakeEpisodes,
    num_episodes: int,
    *,
    episodes_per_shard: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes one split, or what is missing of it. Other processes that write the same split share the work.

    Args:
      directory: the data set; made if it is not there. All its splits have the same arrays, statics and chunk.
      split: e.g. "train".
      spec: the schema, and the `info` of this split.
      make_episodes: see `MakeEpisodes`.
      num_episodes: episodes of the split.
      episodes_per_shard: episodes of a shard file; the last shard has the rest.
      progress: called as (episodes done, num_episodes) at the start and after every episode.

    Raises:
      DataError: an episode does not fit the schema, or the split or the data set exists with another content. Finished
        shards stay.
    """
    plan = SplitPlan(Path(directory), split, spec, num_episodes, episodes_per_shard)
    begin(plan)
    report = progress or (lambda done, total: None)
    report(kept.finished_episodes(plan), num_episodes)

    def counted(indices: range) -> Iterator[Episode]:
        return _counted(make_episodes(indices), kept.finished_episodes(plan), num_episodes, report)

    # What another process is writing is left to it at first; in the end it is waited for.
    for wait in (False, True):
        for number in sorted(set(range(plan.num_shards)) - kept.finished_shards(plan)):
            write_shard(plan, number, counted, wait=wait)
    finish(plan)


def begin(plan: SplitPlan) -> None:
    """Prepares a split for its shards, or finds out what is there of it already.

    Raises:
      DataError: the split, the data set or what was begun of either has another content, or is damaged.
    """
    plan.directory.mkdir(parents=True, exist_ok=True)
    with writing(plan.directory):
        index = load_index(plan.directory)
        if index is not None:
            kept.refuse_change(plan.directory, "the data set", index, plan.shared)
        for other in sorted(plan.directory.glob("*.progress/plan.json")):
            own = other.parent == plan.progress
            wanted = plan.content if own else plan.shared
            stored = kept.read_kept(other, tuple(schema_entry(plan.spec)))
            # Of another split it may be left open which tokenizer the data set will have.
            comparable = {key: value for key, value in wanted.items() if own or key in stored}
            name = other.parent.name.removesuffix(".progress")
            kept.refuse_change(plan.directory, f"the unfinished split {name!r}", stored, comparable)
        entry = (index or {"splits": {}})["splits"].get(plan.split)
        complete = {}
        if entry is not None:
            kept.refuse_change(plan.directory, f"split {plan.split!r}", {**index, **entry}, plan.content)
            complete = kept.entries_of_index(entry)
        there = {n: e for n, e in complete.items() if kept.is_written(plan.directory, e)}
        there |= kept.read_entries(plan)
        if there == complete and len(there) == plan.num_shards:
            _retire(plan)
            return
        plan.progress.mkdir(exist_ok=True)
        write_json(plan.progress / "plan.json", plan.content)
        for number in range(plan.num_shards):
            path = kept.entry_path(plan, number)
            if number not in there:
                path.unlink(missing_ok=True)
            elif not path.exists():
                kept.record_shard(plan, number, there[number])


def write_shard(plan: SplitPlan, number: int, make_episodes: MakeEpisodes, *, wait: bool = False) -> bool:
    """Writes one shard of a split that was begun, unless that has been done.

    Args:
      plan: of the split.
      number: of the shard.
      make_episodes: see `MakeEpisodes`.
      wait: what to do if another process is writing the shard: wait until it is finished, or can be written here; or
        leave it to that one.

    Returns:
      Whether it was written here.

    Raises:
      DataError: an episode does not fit the schema. Nothing of the shard stays.
    """
    with kept.claim(plan, number, wait) as mine:
        if mine:
            entry = write_shard_file(plan, number, make_episodes(plan.episodes(number)))
            kept.record_shard(plan, number, entry)
        return mine


def finish(plan: SplitPlan) -> bool:
    """Makes the split a part of the data set if all its shards are finished; returns whether it is.

    Raises:
      DataError: two episodes have one name, a finished shard is not what it was, or another split has been completed with
        another schema.
    """
    if len(kept.finished_shards(plan)) < plan.num_shards:
        return False
    with writing(plan.directory):
        if not plan.progress.exists():  # another process was faster
            return True
        entries = kept.read_entries(plan)
        if len(entries) < plan.num_shards:
            missing = next(n for n in range(plan.num_shards) if n not in entries)
            raise DataError(
                f"shard {plan.path(missing)} was written and is missing or has another size now: "
                "run the command that writes the data set again"
            )
        index = load_index(plan.directory) or {**schema_entry(plan.spec), "tokenizer": None, "splits": {}}
        tokenizer = index["tokenizer"] if plan.tokenizer is None else dict(plan.tokenizer)
        index = {**index, "tokenizer": tokenizer}
        kept.refuse_change(plan.directory, "the data set", index, plan.shared)
        own = {key: plan.content[key] for key in ("info", "num_episodes", "episodes_per_shard")}
        shards = [entries[number] for number in range(plan.num_shards)]
        entry = {**own, **kept.index_of_entries(plan.split, shards)}
        index["splits"] = dict(sorted({**index["splits"], plan.split: entry}.items()))
        write_tfds_metadata(plan.directory, plan.spec, index["splits"])
        write_json(plan.directory / FILE, index)
        _retire(plan)
    return True


def _retire(plan: SplitPlan) -> None:
    """Removes what was kept while the split was written; renamed first, so that it is never there in part."""
    aside = plan.progress.with_name(f"{plan.progress.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if plan.progress.exists():
        remove_temporaries(plan.directory, f"{plan.spec.name}-{plan.split}.array_record-*")
        os.replace(plan.progress, aside)
        shutil.rmtree(aside, ignore_errors=True)


def _counted(
    episodes: Iterable[Episode], made: int, total: int, report: Callable[[int, int], None]
) -> Iterator[Episode]:
    """Passes episodes on; when the next one is asked for, the one before has been written and is reported."""
    for number, episode in enumerate(episodes, made + 1):
        yield episode
        report(number, total)
