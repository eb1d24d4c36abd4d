"""Writes the model of a run where others can read it; `rad_jax.runs.pretrained` describes the directory."""

import dataclasses
import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
from safetensors.numpy import save

from rad_jax.arrays import fingerprint
from rad_jax.config import Config
from rad_jax.model.names import named_leaves, nested
from rad_jax.runs.manifest import FILE as MANIFEST
from rad_jax.runs.manifest import Manifest
from rad_jax.runs.pretrained import CONFIG, METADATA, ORBAX, STATE, TENSORS, Description
from rad_jax.runs.restore import TrainedModel, load_trained, stored_part
from rad_jax.runs.stored_config import without_commands
from rad_jax.runs.trained_on import copy_tokenizer

log = logging.getLogger(__name__)

DIRECTORY = "export"


def export(workdir: Path, config: Config | None = None, part: str = "ema") -> Path:
    """Writes the newest checkpoint of a run to ``workdir/export``, whole or not at all; returns that directory.

    Args:
      config: if given, what makes the model must be the run's.
      part: "ema", the averaged parameters (those of the last step if the run kept no average), or "params".

    Raises:
      ConfigError, CheckpointError, TokenizerError: in one or two lines, what is missing or does not fit.
    """
    trained = load_trained(workdir, config, part)
    tensors = {name: np.asarray(leaf) for name, leaf in named_leaves(trained.params).items()}
    temporary = workdir / f".{DIRECTORY}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        text = _describe(trained, part, tensors, copy_tokenizer(trained.trained_on, temporary)).to_json()
        (temporary / CONFIG).write_text(text)
        # Not `save_file`, which writes with mode 0600 whatever the umask says.
        (temporary / TENSORS).write_bytes(save(tensors, {METADATA: text}))
        shapes = {name: (array.shape, array.dtype.name) for name, array in tensors.items()}
        content = Manifest(trained.step, shapes, json.loads(text))
        _save_orbax(temporary.absolute() / ORBAX, tensors, content)
        return _move(temporary, workdir / DIRECTORY)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _describe(
    trained: TrainedModel, part: str, tensors: dict[str, np.ndarray], tokenizer_file: str | None
) -> Description:
    trained_on = trained.trained_on
    if tokenizer_file is None:
        log.warning(
            "tokenizer %s is not exported: give %s with the model", trained_on.tokenizer, trained_on.file
        )
    # Where the tokenizer lies on this machine is of no use to others.
    config = dataclasses.replace(
        trained.config, tokenizer=dataclasses.replace(trained.config.tokenizer, path="")
    )
    return Description(
        config=without_commands(config).to_dict(),
        parameters=stored_part(config, part),
        step=trained.step,
        sha256=fingerprint(tensors),
        tokenizer={
            "name": trained_on.tokenizer,
            "fingerprint": trained_on.fingerprint,
            "file": tokenizer_file,
        },
        data=trained_on.info,
        frame_size=trained_on.frame_size and list(trained_on.frame_size),
    )


def _save_orbax(directory: Path, tensors: dict[str, np.ndarray], content: Manifest) -> None:
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        checkpointer.save(directory / STATE, ocp.args.PyTreeSave(nested(tensors)))
    (directory / MANIFEST.parent).mkdir()
    content.write(directory, directory / MANIFEST.parent)


def _move(new: Path, target: Path) -> Path:
    """Puts a directory in the place of another; a crash leaves one of them whole."""
    old = new.with_suffix(".old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return target
