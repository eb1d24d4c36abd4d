"""Writes the model of a run where others can read it; what is written is described in `rad_jax.runs.pretrained`."""

import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
from safetensors.numpy import save_file

from rad_jax import tokenizer as tokenizers
from rad_jax.arrays import fingerprint
from rad_jax.config import Config
from rad_jax.data import DataError, Episodes
from rad_jax.model.names import named_leaves, nested
from rad_jax.runs.manifest import FILE as MANIFEST
from rad_jax.runs.manifest import Manifest
from rad_jax.runs.pretrained import CONFIG, METADATA, ORBAX, STATE, TENSORS, Description
from rad_jax.runs.restore import restore_run
from rad_jax.tokenizer import TokenizerError

log = logging.getLogger(__name__)

DIRECTORY = "export"
SMALL = 32 * 2**20  # bytes up to which the tokenizer's file is exported with the model


def export(workdir: Path, config: Config | None = None, part: str = "ema") -> Path:
    """Writes the newest checkpoint of a run to ``workdir/export``, whole or not at all; returns that directory.

    The training data are looked at for the tokenizer's file and the names of the actions; they may be gone, and a warning
    then says what is not included.

    Args:
      config: if given, what makes the model must be the run's.
      part: "ema", the averaged parameters (those of the last step if the run kept no average), or "params".

    Raises:
      ConfigError, CheckpointError: in one or two lines, what is missing or does not fit.
    """
    run, params, part, checkpoint = restore_run(workdir, config, part)
    tensors = {name: np.asarray(leaf) for name, leaf in named_leaves(params).items()}
    episodes = _episodes(run)
    recorded = checkpoint.metadata["tokenizer"]
    tokenizer_file = _tokenizer_file(run, episodes, recorded)
    description = Description(
        config=run.to_dict(),
        parameters=part,
        step=checkpoint.step,
        sha256=fingerprint(tensors),
        tokenizer={**recorded, "file": tokenizer_file and f"tokenizer{tokenizer_file.suffix}"},
        data=episodes and dict(episodes.spec.info),
    )
    text = description.to_json()
    shapes = {name: (array.shape, array.dtype.name) for name, array in tensors.items()}
    temporary = workdir / f".{DIRECTORY}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        (temporary / CONFIG).write_text(text)
        save_file(tensors, temporary / TENSORS, {METADATA: text})
        _save_orbax(
            temporary.absolute() / ORBAX, tensors, Manifest(checkpoint.step, shapes, json.loads(text))
        )
        if tokenizer_file:
            shutil.copyfile(tokenizer_file, temporary / description.tokenizer["file"])
        return _move(temporary, workdir / DIRECTORY)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _save_orbax(directory: Path, tensors: dict[str, np.ndarray], content: Manifest) -> None:
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        checkpointer.save(directory / STATE, ocp.args.PyTreeSave(nested(tensors)))
    (directory / MANIFEST.parent).mkdir()
    content.write(directory, directory / MANIFEST.parent)


def _episodes(run: Config) -> Episodes | None:
    try:
        return Episodes(run.data.path, run.data.split)
    except DataError as error:
        reason = str(error).splitlines()[0]
        log.warning("the names of the actions are not exported: the training data are not there (%s)", reason)
        return None


def _tokenizer_file(run: Config, episodes: Episodes | None, recorded: dict[str, str]) -> Path | None:
    """The file of the tokenizer that the run was trained with, if it can be exported with the model."""
    name, fingerprint = recorded["name"], recorded["fingerprint"]
    of_data = ((episodes and episodes.tokenizer) or {}).get("path", "tokenizer.npz")
    path = Path(run.tokenizer.path or Path(run.data.path) / of_data)
    if path.is_file() and path.stat().st_size > SMALL:
        log.warning("tokenizer %s is not exported: %s is larger than %d MiB", name, path, SMALL // 2**20)
        return None
    try:
        tokenizers.load(name, path, fingerprint)
    except TokenizerError as error:
        log.warning("tokenizer %s is not exported: %s", name, str(error).splitlines()[0])
        return None
    return path


def _move(new: Path, target: Path) -> Path:
    """Puts a directory in the place of another; a crash leaves one of them whole."""
    old = new.with_suffix(".old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return target
