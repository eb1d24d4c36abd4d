"""Writes the splits of a data set, shard by shard, in one process or in many. A stopped run continues where it was.

    begin(layout)                                # every process, or one before the others start
    write_shard(layout, number, make_episodes)   # the unit of work: any process, any shard, in any order
    finish(layout)                               # every process; the one that finds all shards finished completes the split

A shard is written under a temporary name, renamed when it is complete, and then marked as finished (see `rad_jax.data.shards`).
When all shards are finished, the metadata for TensorFlow Datasets and, last, `index.json` are replaced, so a reader only ever
sees whole splits. Episodes are pure functions of their index, so the files are the same, byte for byte, wherever a run was
stopped and however many processes wrote. `write_split` does all of this in one call.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from rad_jax.data import shards
from rad_jax.data.index import index_locked, load_index, schema_entry, write_index
from rad_jax.data.shard_file import write_shard_file
from rad_jax.data.shards import SplitLayout
from rad_jax.data.spec import DataError, Episode, EpisodeSpec
from rad_jax.data.tfds_metadata import write_tfds_metadata
from rad_jax.files import write_json
from rad_jax.files.folders import check_folder

MakeEpisodes = Callable[[range], Iterable[Episode]]
"""Returns the episodes of a range of indices, in order. The range is one shard, so that a renderer can batch over it. An
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
      directory: the data set; made if it is missing. All its splits have the same arrays, statics and chunk.
      split, spec, num_episodes, episodes_per_shard: see `SplitLayout`.
      make_episodes: see `MakeEpisodes`.
      progress: called as (episodes done, num_episodes) at the start and after every episode.

    Raises:
      DataError: an episode does not fit the schema, or the split or the data set exists with another content. Finished
        shards stay.
    """
    layout = SplitLayout(Path(directory), split, spec, num_episodes, episodes_per_shard)
    begin(layout)
    report = progress or (lambda done, total: None)
    report(shards.finished_episodes(layout), num_episodes)

    def counted(indices: range) -> Iterator[Episode]:
        # That the next episode is asked for means that the one before was written.
        for done, episode in enumerate(make_episodes(indices), shards.finished_episodes(layout) + 1):
            yield episode
            report(done, num_episodes)

    # First the shards that nobody writes; then wait for those of other processes, in case one of them dies.
    for wait in (False, True):
        for number in sorted(set(range(layout.num_shards)) - shards.finished_shards(layout)):
            write_shard(layout, number, counted, wait=wait)
    finish(layout)


def check(layout: SplitLayout) -> None:
    """Raises what `begin` raises where something of another content is in the way; nothing is written."""
    check_folder(layout.directory)
    if layout.directory.exists():
        _complete(layout)


def _complete(layout: SplitLayout) -> dict[int, dict[str, Any]]:
    """The shards of a split that is finished, by number; none of one that is not.

    Raises:
      DataError: as `begin`.
    """
    index = load_index(layout.directory)
    if index is not None:
        shards.refuse_change(layout.directory, "the data set", index, layout.shared)
    for split, stored in shards.read_layouts(layout.directory).items():
        own = split == layout.split
        # Another unfinished split may leave open which tokenizer the data set will have.
        wanted = layout.content if own else {k: v for k, v in layout.shared.items() if k in stored}
        shards.refuse_change(layout.directory, f"the unfinished split {split!r}", stored, wanted)
    if index is None or layout.split not in index["splits"]:
        return {}
    content = {**index, **index["splits"][layout.split]}
    shards.refuse_change(layout.directory, f"split {layout.split!r}", content, layout.content)
    return shards.entries_of_index(content)


def begin(layout: SplitLayout) -> None:
    """Prepares a split for its shards, or finds out which of them exist already.

    Raises:
      DataError: the split, the data set, or the unfinished part of either has another content, or is damaged.
      UnsafeFolder: see `check_folder`.
    """
    check_folder(layout.directory)
    layout.directory.mkdir(parents=True, exist_ok=True)
    with index_locked(layout.directory):
        complete = _complete(layout)
        there = {n: e for n, e in complete.items() if shards.is_written(layout.directory, e)}
        there |= shards.read_entries(layout)
        if there == complete and len(there) == layout.num_shards:
            _retire(layout)
            return
        layout.progress_directory.mkdir(exist_ok=True)
        write_json(layout.progress_directory / shards.LAYOUT, layout.content)
        for number in range(layout.num_shards):
            path = layout.entry_path(number)
            if number not in there:
                path.unlink(missing_ok=True)
            elif not path.exists():
                shards.record_shard(layout, number, there[number])


def write_shard(layout: SplitLayout, number: int, make_episodes: MakeEpisodes, *, wait: bool = False) -> bool:
    """Writes one shard of a split that was begun, unless it is finished; returns whether this call wrote it.

    Args:
      wait: if another process is writing the shard, whether to wait for it (and write the shard here if it dies), or to leave
        the shard to it.

    Raises:
      DataError: an episode does not fit the schema. Nothing of the shard remains.
    """
    with shards.claim(layout, number, wait) as mine:
        if mine:
            entry = write_shard_file(layout, number, make_episodes(layout.episodes(number)))
            shards.record_shard(layout, number, entry)
        return mine


def finish(layout: SplitLayout) -> bool:
    """Adds the split to the data set if all its shards are finished; returns whether they are.

    Raises:
      DataError: two episodes have the same id, a finished shard has changed, or another split was completed with another
        schema.
    """
    if len(shards.finished_shards(layout)) < layout.num_shards:
        return False
    with index_locked(layout.directory):
        if not layout.progress_directory.exists():  # another process was faster
            return True
        entries = shards.read_entries(layout)
        if len(entries) < layout.num_shards:
            missing = min(set(range(layout.num_shards)) - entries.keys())
            raise DataError(
                f"shard {layout.path(missing)} was written and is missing or has another size now: "
                "run the command that writes the data set again"
            )
        index = load_index(layout.directory) or {**schema_entry(layout.spec), "tokenizer": None, "splits": {}}
        if layout.tokenizer is not None:
            index["tokenizer"] = dict(layout.tokenizer)
        shards.refuse_change(layout.directory, "the data set", index, layout.shared)
        in_order = [entries[number] for number in range(layout.num_shards)]
        entry = {**layout.own, **shards.index_of_entries(layout.split, in_order)}
        index["splits"] = dict(sorted({**index["splits"], layout.split: entry}.items()))
        write_tfds_metadata(layout.directory, layout.spec, index["splits"])
        write_index(layout.directory, index)
        _retire(layout)
    return True


def discard(directory: Path, split: str) -> None:
    """Removes what there is of an unfinished split. No other process may be writing it; a finished one stays."""
    progress = directory / f"{split}.progress"
    with index_locked(directory):
        if not progress.exists() or split in (load_index(directory) or {"splits": ()})["splits"]:
            return
        for path in directory.glob(f"*-{split}.array_record-*"):
            path.unlink()
        shutil.rmtree(progress)


def _retire(layout: SplitLayout) -> None:
    """Removes the progress directory; renamed first, so that no process ever finds half of it."""
    aside = layout.progress_directory.with_name(f"{layout.progress_directory.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if layout.progress_directory.exists():
        os.replace(layout.progress_directory, aside)
        shutil.rmtree(aside, ignore_errors=True)
