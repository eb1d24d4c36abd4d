"""Checkpoints of a run: Orbax writes them, a manifest verifies them, and the newest intact one is restored.

A step's directory holds `state/` (Orbax, OCDBT; names as in `rad_jax.model.names`) and `manifest/manifest.json`
(`rad_jax.runs.manifest`). It gets its final name when it is complete; what a killed process left behind has another name
and is removed at the next start. A step that does not match its manifest is renamed to `STEP.damaged`, with a warning, and
the step before it is used.
"""

import contextlib
import errno
import json
import logging
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers as policies

from rad_jax.config import CheckpointConfig
from rad_jax.errors import UserError
from rad_jax.model import names
from rad_jax.runs import manifest
from rad_jax.runs.manifest import DamagedCheckpoint, Manifest, ManifestHandler, ManifestSave, saved_steps
from rad_jax.runs.saving import CheckpointError, be_quiet, failures, first_line

log = logging.getLogger(__name__)

DISCARDED = "discarded"
NO_STEP = -1  # as a number, because one process tells the others
OF_THE_PROCESS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # failures that say nothing about the file


class CheckpointMismatch(UserError, ValueError):
    """The checkpoint is of another model or optimiser; the message names the first parameter that differs."""


class Checkpoints(contextlib.AbstractContextManager):
    """The checkpoints of a run that trains, of any tree of arrays; its entries "params" and "ema" are what `read_part` reads.

    Hold the `WorkdirLock`. In a run of several processes each of them makes the same calls.
    """

    def __init__(self, directory: str | os.PathLike, config: CheckpointConfig):
        """Opens `directory`, which is made if it is missing, and removes what killed processes have left in it.

        Keeps the `config.keep` newest steps, and every step divisible by `config.keep_every` (0: none). An old step is deleted
        only when its successor is complete.
        """
        self.directory = pathlib.Path(directory).absolute()
        self._saving, self._bytes = NO_STEP, 0
        self._discard()
        be_quiet()
        rules = [policies.LatestN(config.keep)]
        if config.keep_every:
            rules.append(policies.EveryNSteps(config.keep_every))
        handlers = ocp.handlers.DefaultCheckpointHandlerRegistry()
        state_handler = ocp.PyTreeCheckpointHandler()
        handlers.add("state", ocp.args.PyTreeSave, state_handler)
        handlers.add("state", ocp.args.PyTreeRestore, state_handler)
        # Items are finalised in the order of their registration. The manifest is last: it hashes the files of the state.
        handlers.add("manifest", ManifestSave, ManifestHandler())
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(rules),
            # Deletes by renaming first: a process killed meanwhile must not leave half a step under a step's name.
            todelete_subdir=DISCARDED,
            cleanup_tmp_directories=True,
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options, handler_registry=handlers)

    def save(self, step: int, state: Any, metadata: dict[str, Any]) -> None:
        """Starts to write the state after `step` optimiser steps, which must be later than all saved ones.

        Returns when the values are copied, so that their buffers may be donated; files are written in the background.

        Args:
          metadata: JSON that is stored beside the state (configuration, tokenizer fingerprint).

        Raises:
          CheckpointError: the previous save failed, or this one could not begin.
        """
        self.wait()
        self._discard()
        leaves = {name: jnp.asarray(leaf) for name, leaf in names.named_leaves(state).items()}
        described = {name: (leaf.shape, leaf.dtype.name) for name, leaf in leaves.items()}
        content = Manifest(step, described, json.loads(json.dumps(metadata)))
        arguments = ocp.args.Composite(
            state=ocp.args.PyTreeSave(names.nested(leaves)), manifest=ManifestSave(content)
        )
        self._saving, self._bytes = step, sum(leaf.nbytes for leaf in leaves.values())
        with self._failures():
            self._manager.save(step, args=arguments, force=True)

    def restore(self, target: Any) -> tuple[Any, Manifest] | None:
        """The newest intact state and its manifest, or None if there is no checkpoint yet.

        A newer step that is damaged is renamed, with a warning, because the run will save that step again.

        Args:
          target: a tree like the state, of arrays or of `jax.ShapeDtypeStruct` with shardings; its devices need not be those
            that the state was saved from.

        Raises:
          CheckpointMismatch: the stored state has other leaves, shapes or dtypes.
          CheckpointError: there are checkpoints, but none is intact.
        """
        # Process 0 chooses for all. If it raises, the watch over the processes of a run ends the others.
        step = _newest_intact(self.directory, _set_aside) if jax.process_index() == 0 else NO_STEP
        if jax.process_count() > 1:
            step = int(multihost_utils.broadcast_one_to_all(np.int32(step)))
        self._manager.reload()
        if step == NO_STEP:
            return None
        content = manifest.read(self.directory / str(step))
        wanted = names.named_leaves(target)
        self._refuse_another_model(content, wanted)
        tree = names.nested(wanted)
        arguments = ocp.args.PyTreeRestore(
            item=tree, restore_args=ocp.checkpoint_utils.construct_restore_args(tree)
        )
        with _reading(step, self.directory):
            restored = self._manager.restore(step, args=ocp.args.Composite(state=arguments)).state
            values = names.named_leaves(restored)
        return names.map_named(lambda name, _: values[name], target), content

    def wait(self) -> None:
        """Blocks until the last save is complete; raises `CheckpointError` if it failed."""
        with self._failures():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the last save and closes; raises `CheckpointError` if it failed and that was not raised before."""
        try:
            self.wait()
            self._discard()
        finally:
            with self._failures():
                self._manager.close()

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _refuse_another_model(self, content: Manifest, wanted: dict[str, Any]) -> None:
        here, there = {name: (leaf.shape, leaf.dtype.name) for name, leaf in wanted.items()}, content.leaves
        differing = [name for name in {**here, **there} if here.get(name) != there.get(name)]
        if differing:
            name = min(differing, key=lambda name: not name.startswith("params/"))
            more = f" (and {len(differing) - 1} more)" if len(differing) > 1 else ""
            stored, expected = (
                f"{leaves[name][1]}{list(leaves[name][0])}" if name in leaves else "absent"
                for leaves in (there, here)
            )
            raise CheckpointMismatch(
                f"checkpoint {content.step} in {self.directory} is of another model: {name} is {stored} there, "
                f"{expected} here{more}; use the configuration it was made with, or another --workdir"
            )

    def _failures(self) -> contextlib.AbstractContextManager:
        steps = [step for step in saved_steps(self.directory) if step != self._saving]
        before = f"the run continues from checkpoint {steps[-1]}" if steps else "there is no earlier one"
        size = f"it takes up to {self._bytes:,} bytes; {before}"
        return failures(f"checkpoint {self._saving}", self.directory, size)

    def _discard(self) -> None:
        if jax.process_index() == 0:
            shutil.rmtree(self.directory / DISCARDED, ignore_errors=True)


def read_part(directory: pathlib.Path, part: str) -> tuple[dict[str, np.ndarray], Manifest] | None:
    """One entry of the newest intact state, "params" or "ema": its arrays by their names within it, and the manifest.

    None if there is no checkpoint yet. Nothing is changed in `directory`; the other entries are not read.

    Raises:
      CheckpointError: there are checkpoints, but none is intact.
    """
    step = _newest_intact(directory, lambda path: "skipped")
    if step == NO_STEP:
        return None
    content = manifest.read(directory / str(step))
    leaves = [name for name in content.leaves if name.startswith(f"{part}/")]
    with _reading(step, directory), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        arrays = names.nested({name: ocp.RestoreArgs(restore_type=np.ndarray) for name in leaves})
        tree = jax.tree.map(lambda _: 0, arrays)
        arguments = ocp.args.PyTreeRestore(item=tree, restore_args=arrays, partial_restore=True)
        restored = checkpointer.restore(directory.absolute() / str(step) / "state", arguments)
        return names.named_leaves(restored[part]), content


@contextlib.contextmanager
def _reading(step: int, directory: pathlib.Path) -> Iterator[None]:
    """A checkpoint whose files are what its manifest says may still hold something that Orbax cannot read."""
    try:
        yield
    except Exception as error:
        raise CheckpointError(
            f"checkpoint {step} in {directory} cannot be read ({first_line(error)}); "
            f"move {directory / str(step)} away to use the one before"
        ) from error


def _newest_intact(directory: pathlib.Path, handle: Callable[[pathlib.Path], str]) -> int:
    """Compares steps with their manifests, from the newest back; `handle` says what becomes of a damaged one."""
    steps = saved_steps(directory)
    for step in reversed(steps):
        try:
            return manifest.verify(directory / str(step)).step
        except DamagedCheckpoint as error:
            cause = error.__context__
            if isinstance(cause, OSError) and cause.errno in OF_THE_PROCESS:
                raise cause from None
            what = handle(directory / str(step))
            log.warning("checkpoint %d in %s is damaged and %s: %s", step, directory, what, error)
    if steps or any(directory.glob("*.damaged*")):
        raise CheckpointError(
            f"none of the checkpoints in {directory} is intact; move the directory away to start from step 0"
        )
    return NO_STEP


def _set_aside(path: pathlib.Path) -> str:
    aside = path.with_name(f"{path.name}.damaged")
    while aside.exists():
        aside = aside.with_name(aside.name + "+")
    path.rename(aside)
    return f"set aside as {aside.name}"
