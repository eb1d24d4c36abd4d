"""An exported model: one directory, written from a run and read back with one call, without the run or its data.

    config.json          the description: what the model is
    model.safetensors    the parameters, named as in `rad_jax.model.names`, with the description in the metadata
    orbax/state/         the same parameters as an Orbax checkpoint
    orbax/manifest/      the description, and the sha256 of every file in orbax/state (`rad_jax.runs.manifest`)
    tokenizer.npz        the tokenizer's file, unless it is a large network

Either form of the parameters is enough. The entries of the description:

    config        the run's configuration as `Config.to_dict` gives it, with nothing left open and without shell commands
    parameters    "ema" (averaged over training) or "params" (those of the last step)
    step          optimiser steps they were trained for
    sha256        `fingerprint` of the parameters
    tokenizer     "name", "fingerprint", and "file", the name of its file in the directory (null: not included)
    data          what the training data say about themselves ("actions": names of the entries, ...); null if an earlier version
                  exported the model without its data
    frame_size    height and width of the training frames in pixels; null if unknown
    odometry      what actions do (`rad_jax.odometry`), where the condition is made of it; else null, or absent
"""

import contextlib
import dataclasses
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
from safetensors.numpy import save

from rad_jax import files
from rad_jax.arrays import fingerprint
from rad_jax.config import Config, ConfigError, config_from_dict, override
from rad_jax.config.own import check_trusted
from rad_jax.data.spec import check_file_name
from rad_jax.errors import at
from rad_jax.files.json_files import check_form, parse_json, read_json
from rad_jax.model.names import named_leaves, nested
from rad_jax.runs import manifest
from rad_jax.runs.manifest import DamagedCheckpoint, Manifest, UnknownFormat
from rad_jax.runs.odometry import check_odometry
from rad_jax.runs.restore import TrainedModel, load_trained, open_model, stored_part
from rad_jax.runs.saving import be_quiet, failures
from rad_jax.runs.stored_config import without_commands
from rad_jax.runs.trained_on import TrainedOn, check_facts, copy_tokenizer, parse_odometry
from rad_jax.tokenizer import TokenizerError
from rad_jax.weights.tensors import WeightsError, read_metadata, read_tensors

log = logging.getLogger(__name__)

DIRECTORY = "export"
CONFIG, TENSORS, ORBAX, STATE = "config.json", "model.safetensors", "orbax", "state"
FORMAT = "rad_jax model 1"
METADATA = "rad_jax"  # the description's key in the metadata of model.safetensors
_FORM = {
    **dict.fromkeys(("format", "parameters", "sha256"), str),
    "config": dict,
    "step": int,
    "tokenizer": {"name": str, "fingerprint": str, "file": str | None},
    "data": dict | None,
}


def export(workdir: Path, config: Config | None = None, part: str = "ema") -> Path:
    """Writes the newest checkpoint of a run to ``workdir/export``, whole or not at all; returns that directory.

    Args:
      config: if given, what makes the model must be the run's.
      part: "ema", the averaged parameters (those of the last step if the run kept no average), or "params".

    Raises:
      ConfigError, CheckpointError, WeightsError, TokenizerError: in one or two lines, what is missing or does not fit.
    """
    files.check_writable(workdir)
    trained = load_trained(workdir, config, part)
    tensors = {name: np.asarray(leaf) for name, leaf in named_leaves(trained.params).items()}
    target = workdir / DIRECTORY
    temporary = workdir / f".{DIRECTORY}.{files.token()}.tmp"
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        stack.enter_context(at(target, temporary))
        temporary.mkdir()
        text = _describe(trained, part, tensors, copy_tokenizer(trained.trained_on, temporary))
        (temporary / CONFIG).write_text(text)
        # Not `save_file`, which writes with mode 0600 whatever the umask says.
        (temporary / TENSORS).write_bytes(save(tensors, {METADATA: text}))
        orbax = temporary.absolute() / ORBAX
        be_quiet()
        with failures("the export", target), _checkpointer() as checkpointer:
            checkpointer.save(orbax / STATE, ocp.args.PyTreeSave(nested(tensors)))
        shapes = {name: (array.shape, array.dtype.name) for name, array in tensors.items()}
        (orbax / manifest.FILE.parent).mkdir()
        Manifest(trained.step, shapes, json.loads(text)).write(orbax, orbax / manifest.FILE.parent)
        return _move(temporary, target)


def _describe(
    trained: TrainedModel, part: str, tensors: dict[str, np.ndarray], tokenizer_file: str | None
) -> str:
    facts = trained.trained_on
    if tokenizer_file is None:
        log.warning("tokenizer %s is not exported: give %s with the model", facts.tokenizer, facts.file)
    # Where the tokenizer lies on this machine is of no use to others.
    config = override(without_commands(trained.config), {"tokenizer.path": ""})
    description = {
        "format": FORMAT,
        "config": config.to_dict(),
        "parameters": stored_part(config, part),
        "step": trained.step,
        "sha256": fingerprint(tensors),
        "tokenizer": {"name": facts.tokenizer, "fingerprint": facts.fingerprint, "file": tokenizer_file},
        "data": facts.info,
        "frame_size": facts.frame_size,
        "odometry": facts.odometry and dataclasses.asdict(facts.odometry),
    }
    return json.dumps(description, indent=1) + "\n"


def _move(new: Path, target: Path) -> Path:
    """Puts a directory in the place of another; a crash leaves one of them whole."""
    old = new.with_suffix(".old")
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return target


def load_pretrained(directory: str | os.PathLike, tokenizer: str | os.PathLike | None = None) -> TrainedModel:
    """Reads an exported model: the directory that ``--mode export`` wrote, or the Orbax checkpoint in it.

    Args:
      tokenizer: path of the tokenizer's file, needed if it was not exported with the model.

    Raises:
      WeightsError: in one or two lines, what is missing, damaged or does not fit together.
      TokenizerError: the tokenizer's file is missing, or is another tokenizer's.
      ConfigError: its memory is code that is not trusted, see `rad_jax.model.mixers.trust`.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise WeightsError(
            f"there is no directory {directory}; --mode export makes one in the work directory"
        )
    places = directory, directory / ORBAX
    orbax = next((place for place in places if (place / manifest.FILE).is_file()), None)
    if orbax is not None and not (directory / CONFIG).is_file():
        config, description = _parse(lambda: _verified(orbax).metadata, str(orbax / manifest.FILE))
    else:
        source = directory / CONFIG
        try:
            config, description = _parse(lambda: read_json(source), str(source))
        except OSError:
            raise WeightsError(
                f"{directory} holds no exported model (no readable {CONFIG}); name the export/ of a work directory"
            ) from None
    if (directory / TENSORS).is_file():
        where = directory / TENSORS
        tensors = read_tensors(where)
    elif orbax is not None:
        where = orbax
        _verified(orbax)
        with _checkpointer() as checkpointer:
            tensors = named_leaves(checkpointer.restore(orbax.absolute() / STATE))
    else:
        raise WeightsError(f"{directory} holds no parameters: neither {TENSORS} nor {ORBAX}/")
    if fingerprint(tensors) != description["sha256"]:
        raise WeightsError(f"{where} has other values than were exported (sha256 differs); export it again")
    config = override(config, {"tokenizer.preview": ""})
    trained_on = _trained_on(directory, description, tokenizer)
    return open_model(config, tensors, f"{where}, as {config.name}", description["step"], trained_on)


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler())


def description_of(path: Path) -> tuple[Config, dict[str, Any]]:
    """The configuration of the model in a model.safetensors, and the other entries of its description.

    Raises:
      WeightsError: it is none that was exported here.
    """
    text = read_metadata(path).get(METADATA)
    if text is None:
        raise WeightsError(
            f"{path} is neither a DiT of Open-Oasis nor a model exported by --mode export (no {METADATA!r} in its metadata)"
        )
    return _parse(lambda: parse_json(text), f"the metadata of {path}")


def _parse(read: Callable[[], Any], where: str) -> tuple[Config, dict[str, Any]]:
    """The configuration and the other entries of a description, which may be a stranger's; raises `WeightsError`."""
    try:
        values = read()
        check_form(values, dict)
        # Which earlier versions may lack.
        values = {**dict.fromkeys(("data", "frame_size", "odometry")), **values}
        check_form(values, _FORM)
        check_facts(values, FORMAT, values["data"] or {})
        if (file := values["tokenizer"]["file"]) is not None:
            check_file_name("tokenizer.file", file)
        values["odometry"] = parse_odometry(values)
    except WeightsError:
        raise
    except ValueError as error:
        raise WeightsError(
            f"{where} does not describe a model of this version ({error}); export it again with --mode export"
        ) from None
    try:
        config = without_commands(config_from_dict(values.pop("config")))
    except ConfigError as error:
        raise WeightsError(f"{where}: {error}") from None
    check_trusted(config.memory.kind, f"{where}: ")
    for key in ("latent", "action_dim"):
        if getattr(config.model, key) is None:
            raise WeightsError(f"{where}: model.{key}=none: a trained model has one")
    try:
        check_odometry(config, values["odometry"], where)
    except ConfigError as error:
        raise WeightsError(str(error)) from None
    return config, values


def _trained_on(
    directory: Path, description: dict[str, Any], tokenizer: str | os.PathLike | None
) -> TrainedOn:
    """The facts of an export. The tokenizer's file is beside the parameters, or beside the Orbax checkpoint they are in."""
    name, weights, file = (description["tokenizer"].get(key) for key in ("name", "fingerprint", "file"))
    places = [directory.absolute() / file, directory.absolute().parent / file] if file else []
    found = Path(tokenizer).absolute() if tokenizer else next(filter(os.path.isfile, places), None)
    if found is None:
        raise TokenizerError(f"{directory} does not include its tokenizer {name}: give the path of its file")
    size = description["frame_size"] and tuple(description["frame_size"])
    return TrainedOn(name, weights, found, size, None, description["data"] or {}, description["odometry"])


def _verified(orbax: Path) -> Manifest:
    """The manifest of a checkpoint whose files are what it says; Orbax itself restores flipped bytes."""
    try:
        return manifest.verify(orbax)
    except (DamagedCheckpoint, UnknownFormat) as error:
        raise WeightsError(f"{orbax} is not an intact checkpoint: {error}") from None
