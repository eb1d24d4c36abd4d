"""Checkpoints of a run: Orbax writes them, a manifest verifies them, and the newest intact one is restored.

A step's directory holds `state/` (Orbax, OCDBT; names as in `rad_jax.model.names`) and `manifest/manifest.json`
(`rad_jax.runs.manifest`). It gets its final name when it is complete; what a killed process left behind has another name
and is removed at the next start. A step that does not match its manifest is renamed to `STEP.damaged`, with a warning, and
the step before it is used.
"""

import json
import logging
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers as policies

from rad_jax.config import CheckpointConfig
from rad_jax.errors import UserError
from rad_jax.model import names
from rad_jax.runs import manifest
from rad_jax.runs.manifest import DamagedCheckpoint, Manifest, ManifestHandler, ManifestSave

log = logging.getLogger(__name__)

UNFINISHED = "*.orbax-checkpoint-tmp*"
DISCARDED = "discarded"
NO_STEP = -1


class CheckpointError(UserError, RuntimeError):
    """A checkpoint could not be written, or none of the existing ones can be used."""


class CheckpointMismatch(UserError, ValueError):
    """The checkpoint is of another model or optimiser; the message names the first parameter that differs."""


class Checkpoints:
    """The checkpoints in one directory, opened for writing (hold the `WorkdirLock`) or only for reading.

    The state is any tree of arrays; its entries "params" and "ema" can be restored alone (`restore_part`). In a run of several
    processes each of them makes the same calls.
    """

    def __init__(self, directory: str | os.PathLike, config: CheckpointConfig | None = None):
        """Opens `directory` for writing, or without `config` for reading, which changes nothing in it.

        Keeps the `config.keep` newest steps, and every step divisible by `config.keep_every` (0: none). An old step is deleted
        only when its successor is complete.

        Raises:
          CheckpointError: opened for reading, and there is no such directory.
        """
        self.directory = pathlib.Path(directory).absolute()
        self._writes = config is not None
        self._saving: int | None = None
        if self._writes:
            if jax.process_index() == 0:
                self._clean_up()
            if jax.process_count() > 1:
                multihost_utils.sync_global_devices(f"{self.directory} is clean")
        elif not self.directory.is_dir():
            raise CheckpointError(f"no checkpoints in {self.directory}: the directory does not exist")
        self._manager = self._open(config)

    def _open(self, config: CheckpointConfig | None) -> ocp.CheckpointManager:
        rules = []
        if config is not None:
            rules.append(policies.LatestN(config.keep))
            if config.keep_every:
                rules.append(policies.EveryNSteps(config.keep_every))
        handlers = ocp.handlers.DefaultCheckpointHandlerRegistry()
        state_handler = ocp.PyTreeCheckpointHandler()
        handlers.add("state", ocp.args.PyTreeSave, state_handler)
        handlers.add("state", ocp.args.PyTreeRestore, state_handler)
        # Items are finalised in the order of their registration. The manifest is last: it hashes the files of the state.
        handlers.add("manifest", ManifestSave, ManifestHandler())
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(rules) if rules else None,
            # Deletes by renaming first: a process killed meanwhile must not leave half a step under a step's name.
            todelete_subdir=DISCARDED,
            create=self._writes,
        )
        absl_logging.get_absl_logger().addFilter(_without_traceback)
        return ocp.CheckpointManager(self.directory, options=options, handler_registry=handlers)

    def steps(self) -> list[int]:
        """The finished steps, oldest first."""
        return sorted(int(path.name) for path in self.directory.iterdir() if _is_step(path))

    def save(self, step: int, state: Any, metadata: dict[str, Any]) -> bool:
        """Starts to write the state after `step` optimiser steps; returns False if that step exists already.

        Returns when the values are copied, so that their buffers may be donated; files are written in the background.

        Args:
          metadata: JSON that is stored beside the state (configuration, tokenizer fingerprint).

        Raises:
          CheckpointError: the previous save failed, or a later step exists.
        """
        if not self._writes:
            raise CheckpointError(f"{self.directory} is open for reading only")
        self.wait()
        steps = self.steps()
        if step in steps:
            return False
        if steps and step < steps[-1]:
            raise CheckpointError(
                f"checkpoint {step} is older than {steps[-1]} in {self.directory}; nothing was written"
            )
        self._discard()
        leaves = {name: _as_array(leaf) for name, leaf in names.named_leaves(state).items()}
        described = {name: (leaf.shape, leaf.dtype.name) for name, leaf in leaves.items()}
        content = Manifest(step, described, json.loads(json.dumps(metadata)))
        arguments = ocp.args.Composite(
            state=ocp.args.PyTreeSave(_nested(leaves)), manifest=ManifestSave(content)
        )
        self._saving = step
        try:
            return self._manager.save(step, args=arguments, force=True)
        except Exception as error:
            raise self._failure(error) from error

    def restore(self, target: Any, step: int | None = None) -> tuple[Any, Manifest] | None:
        """The newest intact state and its manifest, or None if there is no checkpoint yet.

        Args:
          target: a tree with the structure of the state, of arrays or of `jax.ShapeDtypeStruct` with shardings; its devices
            need not be those that the state was saved from.
          step: restore this step and no other.

        Raises:
          CheckpointMismatch: the stored state has other leaves, shapes or dtypes.
          CheckpointError: there are checkpoints, but none (or not this one) is intact.
        """
        content = self._newest_intact(step)
        return content and (self._read(content, target, ""), content)

    def restore_part(
        self,
        part: str,
        target: Any,
        step: int | None = None,
        optional: Callable[[str], bool] = lambda name: False,
    ) -> tuple[Any, Manifest] | None:
        """Like `restore` for one top-level entry of the state, "params" or "ema"; the others are not read.

        Args:
          optional: leaves of `target` (by name within `part`) that keep their values if the checkpoint lacks them, such as the
            memory of a model that starts from weights without one.
        """
        content = self._newest_intact(step)
        return content and (self._read(content, target, part + "/", optional), content)

    def wait(self) -> None:
        """Blocks until the last save is complete; raises `CheckpointError` if it failed."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._failure(error) from error
        self._saving = None

    def close(self) -> None:
        """Waits for the last save and closes; raises `CheckpointError` if it failed and that was not raised before."""
        try:
            self.wait()
            if self._writes:
                self._discard()
        finally:
            self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _newest_intact(self, step: int | None) -> Manifest | None:
        """Compares steps with their manifests from the newest back, in process 0; all processes use its answer.

        If process 0 finds nothing usable it raises; the watch over the processes of a run then ends the others.
        """
        chosen = self._find_intact(step) if jax.process_index() == 0 else NO_STEP
        if jax.process_count() > 1:
            chosen = int(multihost_utils.broadcast_one_to_all(np.int32(chosen)))
        self._manager.reload()
        return None if chosen == NO_STEP else manifest.read(self.directory / str(chosen))

    def _find_intact(self, step: int | None) -> int:
        steps = self.steps()
        if step is not None:
            try:
                return manifest.verify(self.directory / str(step)).step
            except DamagedCheckpoint as error:
                have = ", ".join(map(str, steps)) or "none"
                raise CheckpointError(
                    f"checkpoint {step} in {self.directory}: {error}; there: {have}"
                ) from None
        for candidate in reversed(steps):
            try:
                return manifest.verify(self.directory / str(candidate)).step
            except DamagedCheckpoint as error:
                self._set_aside(candidate, error)
        if steps or any(self.directory.glob("*.damaged*")):
            raise CheckpointError(
                f"none of the checkpoints in {self.directory} is intact; move the directory away to start from step 0"
            )
        return NO_STEP

    def _read(
        self,
        content: Manifest,
        target: Any,
        prefix: str,
        optional: Callable[[str], bool] = lambda name: False,
    ) -> Any:
        wanted = {prefix + name: _as_struct(leaf) for name, leaf in names.named_leaves(target).items()}
        stored = {name: leaf for name, leaf in content.leaves.items() if name.startswith(prefix)}
        fresh = {n for n in wanted if n not in stored and optional(n.removeprefix(prefix))}
        self._check(
            content.step, {n: (w.shape, w.dtype.name) for n, w in wanted.items() if n not in fresh}, stored
        )
        tree = _nested({name: struct for name, struct in wanted.items() if name not in fresh})
        arguments = ocp.args.PyTreeRestore(
            item=tree, restore_args=ocp.checkpoint_utils.construct_restore_args(tree), partial_restore=True
        )
        restored = self._manager.restore(content.step, args=ocp.args.Composite(state=arguments)).state
        values = {"/".join(keys): value for keys, value in flatten_dict(restored).items()}
        return names.map_named(lambda name, leaf: values.get(prefix + name, leaf), target)

    def _check(self, step: int, wanted: dict[str, Any], stored: dict[str, Any]) -> None:
        differing = [name for name in {**wanted, **stored} if wanted.get(name) != stored.get(name)]
        if differing:
            name = min(differing, key=lambda name: not name.startswith("params/"))
            more = f" (and {len(differing) - 1} more)" if len(differing) > 1 else ""
            raise CheckpointMismatch(
                f"checkpoint {step} in {self.directory} is of another model: {name} is {_words(stored.get(name))} there, "
                f"{_words(wanted.get(name))} here{more}; use the configuration it was made with, or another --workdir"
            )

    def _failure(self, error: Exception) -> CheckpointError:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if len(reason) > 300:  # long file names come first, the system's own message last
            reason = f"{reason[:120]} ... {reason[-150:]}"
        return CheckpointError(
            f"checkpoint {self._saving} could not be written to {self.directory}: {reason}"
        )

    def _clean_up(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        for leftover in self.directory.glob(UNFINISHED):
            shutil.rmtree(leftover)
        self._discard()
        for step in self.steps():
            try:
                manifest.read(self.directory / str(step))
            except DamagedCheckpoint as error:
                self._set_aside(step, error)

    def _discard(self) -> None:
        if jax.process_index() == 0:
            shutil.rmtree(self.directory / DISCARDED, ignore_errors=True)

    def _set_aside(self, step: int, reason: Exception) -> None:
        """Warns, and frees the step's name by renaming the damaged directory: the run will save that step again."""
        if self._writes:
            aside = self.directory / f"{step}.damaged"
            while aside.exists():
                aside = aside.with_name(aside.name + "+")
            (self.directory / str(step)).rename(aside)
        action = f"set aside as {aside.name}" if self._writes else "skipped"
        log.warning("checkpoint %d in %s is damaged and %s: %s", step, self.directory, action, reason)


def _is_step(path: pathlib.Path) -> bool:
    return path.name.isdecimal() and path.name == str(int(path.name)) and path.is_dir()


def _nested(leaves: dict[str, Any]) -> dict[str, Any]:
    return unflatten_dict({tuple(name.split("/")): leaf for name, leaf in leaves.items()})


def _as_array(leaf: Any) -> jax.Array:
    return leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)


def _as_struct(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _words(leaf: tuple[tuple[int, ...], str] | None) -> str:
    return "absent" if leaf is None else f"{leaf[1]}{list(leaf[0])}"


def _without_traceback(record: logging.LogRecord) -> bool:
    """Orbax logs a failed save with the traceback of every thread; it is raised as a `CheckpointError` as well."""
    if "orbax" in record.pathname:
        record.exc_info = None
    return True
