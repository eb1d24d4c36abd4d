"""Parameters that a new run starts from (``train.init_from``): another run's, or those in a safetensors file.

    a work directory           the newest checkpoint of the run
    an export/ directory       its model.safetensors
    a .safetensors file        a DiT of Open-Oasis, or the model.safetensors of an export

If the run kept averaged parameters, they are taken, because its evaluation measured them. Every parameter of the base is set.
The memory is set if the source has one, which must be of the same kind; otherwise it stays fresh, and as its gate is zero the
model computes exactly what its base does.
"""

import logging
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from rad_jax.axes import PyTree
from rad_jax.config import ConfigError, ModelConfig
from rad_jax.config.messages import show_value
from rad_jax.model.names import is_memory, map_named, parameter_shapes
from rad_jax.runs.checkpoints import read_part
from rad_jax.runs.export import TENSORS, description_of
from rad_jax.runs.restore import recorded_tokenizer, stored_part
from rad_jax.runs.stored_config import FILE as CONFIG
from rad_jax.runs.stored_config import read_config
from rad_jax.weights import oasis_dit
from rad_jax.weights.tensors import WeightsError, match, read_tensors

log = logging.getLogger(__name__)

# Settings that the parameters depend on. Shapes alone are not enough: the number of heads appears in none of them.
BASE_KEYS = ("patch", "width", "depth", "heads", "mlp_ratio", "action_dim")
MEMORY_KEYS = ("kind", "own", "features")


class Source(NamedTuple):
    """What a run starts from.

    Attributes:
      where: the key and the path, for messages.
      model: whose parameters they are.
      tensors: the parameters by name.
      tokenizer: fingerprint of the tokenizer on whose latents they were trained; None if unknown.
    """

    where: str
    model: ModelConfig
    tensors: dict[str, np.ndarray]
    tokenizer: str | None


def read_source(source: str | Path) -> Source:
    """Reads one of the three that the module's docstring lists.

    Raises:
      ConfigError, CheckpointError, WeightsError: in one or two lines, what is missing or damaged.
    """
    path = Path(source)
    if (path / TENSORS).is_file():
        path = path / TENSORS
    where = f"train.init_from={path}"
    if not path.exists():
        raise ConfigError(
            f"{where}: does not exist; expected the work directory of a run or a .safetensors file"
        )
    return Source(where, *(_read_run(path) if path.is_dir() else _read_file(path)))


def check_source(source: Source, config: ModelConfig, tokenizer: str | None = None) -> None:
    """Refuses what a model cannot start from; sizes that ``config`` leaves open are not compared.

    Args:
      tokenizer: fingerprint of the tokenizer whose latents the model will see; a warning is logged if ``source`` is known to
        have been trained on another one's.

    Raises:
      WeightsError: in one or two lines, what does not fit.
    """
    _refuse_another_model(source.where, source.model, config)
    if source.tokenizer and tokenizer and source.tokenizer != tokenizer:
        log.warning(
            "%s was trained on latents of another tokenizer than that of the data: they mean something else to it",
            source.where,
        )
    if config.latent and config.action_dim:
        fresh = not any(map(is_memory, source.tensors))
        shapes = parameter_shapes(config).items()
        needed = {name: shape for name, shape in shapes if not (fresh and is_memory(name))}
        match(source.tensors, needed, source.where)


def initial_params(source: Source, params: PyTree) -> PyTree:
    """Returns ``params`` with the values of a source that was checked, keeping their dtypes and shardings."""

    def place(name: str, param: jax.Array) -> jax.Array:
        if name not in source.tensors:  # a fresh memory
            return param
        value = source.tensors[name].astype(param.dtype)
        return jax.make_array_from_callback(param.shape, param.sharding, lambda index: value[index])

    return map_named(place, params)


def _read_run(workdir: Path) -> tuple[ModelConfig, dict[str, np.ndarray], str | None]:
    """The model, the parameters by name, and the fingerprint of the tokenizer that they were trained with."""
    if not (workdir / CONFIG).exists():
        raise ConfigError(f"train.init_from={workdir}: there is no run (no {CONFIG})")
    run = read_config(workdir)
    found = read_part(workdir / "checkpoints", stored_part(run, "ema"))
    if found is None:
        raise ConfigError(f"train.init_from={workdir}: there is no checkpoint")
    arrays, manifest = found
    return run.model, arrays, recorded_tokenizer(manifest, workdir)


def _read_file(path: Path) -> tuple[ModelConfig, dict[str, np.ndarray], str | None]:
    """As `_read_run`, of a safetensors file."""
    tensors = read_tensors(path)
    if oasis_dit.is_oasis_dit(tensors):
        return *oasis_dit.convert_oasis_dit(tensors, str(path)), None
    config, description = description_of(path)
    return config.model, tensors, description["tokenizer"]["fingerprint"]


def _refuse_another_model(where: str, found: ModelConfig, wanted: ModelConfig) -> None:
    """Raises `WeightsError` unless parameters of a model ``found`` compute the same in a model ``wanted``."""
    memory_keys = () if found.memory.kind == "none" else MEMORY_KEYS
    differing = [
        f"{section}.{key}={show_value(getattr(theirs, key))}, here {show_value(getattr(ours, key))}"
        for section, theirs, ours, keys in (
            ("model", found, wanted, BASE_KEYS),
            ("memory", found.memory, wanted.memory, memory_keys),
        )
        for key in keys
        if getattr(ours, key) not in (None, getattr(theirs, key))
    ]
    if wanted.latent and found.latent[-1] != wanted.latent[-1]:
        differing.append(f"model.latent={show_value(found.latent)}, here {show_value(wanted.latent)}")
    if differing:
        raise WeightsError(f"{where}: is another model, with {'; '.join(differing[:3])}")
