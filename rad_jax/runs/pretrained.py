"""An exported model: one directory that is read back with one call, without its run or its data.

    config.json          what the model is, see `Description`
    model.safetensors    the parameters, named as in `rad_jax.model.names`, with the description in the metadata
    orbax/state/         the same parameters as an Orbax checkpoint
    orbax/manifest/      the description, and the sha256 of every file in orbax/state (`rad_jax.runs.manifest`)
    tokenizer.npz        the tokenizer's file, unless it is a large network

Either form of the parameters is enough. `rad_jax.runs.export` writes such a directory.
"""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from rad_jax import tokenizer as tokenizers
from rad_jax.arrays import fingerprint
from rad_jax.config import Config, ConfigError, config_from_dict
from rad_jax.model import RAD
from rad_jax.model.names import named_leaves, nested, parameter_shapes
from rad_jax.runs import manifest
from rad_jax.runs.manifest import DamagedCheckpoint, Manifest, UnknownFormat
from rad_jax.runs.restore import TrainedModel
from rad_jax.runs.stored_config import without_commands
from rad_jax.runs.trained_on import TrainedOn
from rad_jax.tokenizer import TokenizerError
from rad_jax.weights.tensors import WeightsError, match, read_metadata, read_tensors

CONFIG, TENSORS, ORBAX, STATE = "config.json", "model.safetensors", "orbax", "state"
FORMAT = "rad_jax model 1"
METADATA = "rad_jax"  # the description's key in the metadata of model.safetensors


@dataclasses.dataclass(frozen=True)
class Description:
    """What an export says about its parameters.

    Attributes:
      config: the run's configuration as `Config.to_dict` gives it, with nothing left open.
      parameters: "ema" (averaged over training) or "params" (those of the last step).
      step: optimiser steps they were trained for.
      sha256: `fingerprint` of the parameters.
      tokenizer: "name", "fingerprint", and "file", the name of its file in the directory (None: not included).
      data: what the training data say about themselves ("actions": names of the entries, ...); None if an earlier version
        exported the model without its data.
      frame_size: height and width of the training frames in pixels; None if unknown.
    """

    config: dict[str, Any]
    parameters: str
    step: int
    sha256: str
    tokenizer: dict[str, str | None]
    data: dict[str, Any] | None
    frame_size: list[int] | None = None

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> "Description":
        """Raises `WeightsError` unless ``text`` is what `to_json` made."""
        try:
            values = json.loads(text)
            if values.pop("format") != FORMAT:
                raise ValueError
            description = cls(**values)
            strings = (
                description.sha256,
                description.tokenizer["name"],
                description.tokenizer["fingerprint"],
            )
            file = description.tokenizer["file"]
            if not all(isinstance(s, str) for s in strings) or (file and Path(file).name != file):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise WeightsError(
                f"{where} does not describe a model of this version ({FORMAT}); export it again with --mode export"
            ) from None
        return description

    def checked_config(self, where: str) -> Config:
        """The configuration, without shell commands; raises `WeightsError` if it is not one, or leaves sizes open."""
        try:
            config = config_from_dict(self.config)
            _ = config.model.grid
        except (ConfigError, AttributeError) as error:
            raise WeightsError(f"{where}: {error}") from None
        if config.model.action_dim is None:
            raise WeightsError(f"{where}: model.action_dim=none: a trained model has one")
        return without_commands(config)


def load_pretrained(directory: str | os.PathLike, tokenizer: str | os.PathLike | None = None) -> TrainedModel:
    """Reads an exported model: the directory that ``--mode export`` wrote, or the Orbax checkpoint in it.

    Args:
      tokenizer: path of the tokenizer's file, needed if it was not exported with the model.

    Raises:
      WeightsError: in one or two lines, what is missing, damaged or does not fit together.
      TokenizerError: the tokenizer's file is missing, or is another tokenizer's.
    """
    directory = Path(directory)
    description = read_description(directory)
    if (directory / TENSORS).is_file():
        where = directory / TENSORS
        tensors = read_tensors(where)
    elif (where := _orbax_of(directory)) is not None:
        tensors = _read_orbax(where)
    else:
        raise WeightsError(f"{directory} holds no parameters: neither {TENSORS} nor {ORBAX}/")
    config = description.checked_config(str(directory))
    tensors = match(tensors, parameter_shapes(config.model), f"{where}, as {config.name}")
    if fingerprint(tensors) != description.sha256:
        raise WeightsError(f"{where} has other values than were exported (sha256 differs); export it again")
    params = nested({name: jnp.asarray(array) for name, array in tensors.items()})
    trained_on = _trained_on(directory, description, tokenizer)
    loaded = tokenizers.load(trained_on.tokenizer, trained_on.file, trained_on.fingerprint)
    config = dataclasses.replace(
        config, tokenizer=dataclasses.replace(config.tokenizer, path=str(trained_on.file), preview="")
    )
    return TrainedModel(config, RAD(config.model), params, loaded, description.step, trained_on)


def read_description(directory: Path) -> Description:
    """What a directory says about the model in it; raises `WeightsError`."""
    if not directory.is_dir():
        raise WeightsError(
            f"there is no directory {directory}; --mode export makes one in the work directory"
        )
    orbax = _orbax_of(directory)
    if orbax is not None and not (directory / CONFIG).is_file():
        text = json.dumps(_checked(manifest.read, orbax).metadata)
        return Description.from_json(text, str(orbax / manifest.FILE))
    try:
        text = (directory / CONFIG).read_text()
    except (OSError, UnicodeDecodeError):
        raise WeightsError(
            f"{directory} holds no exported model (no readable {CONFIG}); name the export/ of a work directory"
        ) from None
    return Description.from_json(text, str(directory / CONFIG))


def description_of(path: Path) -> Description:
    """What a model.safetensors says about itself; raises `WeightsError` if it is none that was exported here."""
    text = read_metadata(path).get(METADATA)
    if text is None:
        raise WeightsError(
            f"{path} is neither a DiT of Open-Oasis nor a model exported by --mode export (no {METADATA!r} in its metadata)"
        )
    return Description.from_json(text, f"the metadata of {path}")


def _trained_on(directory: Path, description: Description, tokenizer: str | os.PathLike | None) -> TrainedOn:
    """The facts of an export. The tokenizer's file is beside the parameters, or beside the Orbax checkpoint they are in."""
    name, of_weights, file = (description.tokenizer[key] for key in ("name", "fingerprint", "file"))
    places = [directory.absolute() / file, directory.absolute().parent / file] if file else []
    found = Path(tokenizer).absolute() if tokenizer else next(filter(Path.is_file, places), None)
    if found is None:
        raise TokenizerError(
            f"{directory} does not include its tokenizer {name} ({of_weights[:12]}): give the path of its file"
        )
    size = description.frame_size and tuple(description.frame_size)
    return TrainedOn(name, of_weights, found, size, None, description.data or {})


def _orbax_of(directory: Path) -> Path | None:
    """The Orbax checkpoint that a directory is, or has inside; None without one."""
    places = directory, directory / ORBAX
    return next((place for place in places if (place / manifest.FILE).is_file()), None)


def _read_orbax(directory: Path) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint whose files are what its manifest says; Orbax itself restores flipped bytes."""
    _checked(manifest.verify, directory)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        state = directory.absolute() / STATE
        tree = checkpointer.metadata(state).item_metadata.tree
        arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return named_leaves(checkpointer.restore(state, ocp.args.PyTreeRestore(restore_args=arrays)))


def _checked(check: Callable[[Path], Manifest], directory: Path) -> Manifest:
    try:
        return check(directory)
    except (DamagedCheckpoint, UnknownFormat) as error:
        raise WeightsError(f"{directory} is not an intact checkpoint: {error}") from None
