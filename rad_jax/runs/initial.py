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

import jax
import jax.numpy as jnp

from rad_jax.axes import PyTree
from rad_jax.config import ConfigError, ModelConfig
from rad_jax.config.messages import show_value
from rad_jax.model.names import is_memory, map_named, named_leaves
from rad_jax.runs.checkpoints import Checkpoints
from rad_jax.runs.pretrained import TENSORS, description_of
from rad_jax.runs.stored_config import FILE as CONFIG
from rad_jax.runs.stored_config import read_config
from rad_jax.weights import oasis_dit
from rad_jax.weights.tensors import WeightsError, match, read_tensors

log = logging.getLogger(__name__)

# Settings that the parameters depend on. Shapes alone are not enough: the number of heads appears in none of them.
BASE_KEYS = ("patch", "width", "depth", "heads", "mlp_ratio", "action_dim")
MEMORY_KEYS = ("kind", "features")


def initial_params(
    source: str | Path, params: PyTree, config: ModelConfig, tokenizer: str | None = None
) -> PyTree:
    """Returns ``params`` with the values of ``source``, keeping their dtypes and shardings.

    Args:
      source: one of the three that the module's docstring lists.
      config: the model that ``params`` belong to.
      tokenizer: fingerprint of the tokenizer whose latents the model will see; a warning is logged if ``source`` is known to
        have been trained on another one's.

    Raises:
      ConfigError, CheckpointError, CheckpointMismatch, WeightsError: in one or two lines, what is missing or does not fit.
    """
    path = Path(source)
    if (path / TENSORS).is_file():
        path = path / TENSORS
    if path.is_dir():
        return _from_run(path, params, config, tokenizer)
    if not path.exists():
        raise ConfigError(
            f"train.init_from={path}: does not exist; expected the work directory of a run or a .safetensors file"
        )
    return _from_file(path, params, config, tokenizer)


def _from_run(workdir: Path, params: PyTree, config: ModelConfig, tokenizer: str | None) -> PyTree:
    if not (workdir / CONFIG).exists():
        raise ConfigError(f"train.init_from={workdir}: there is no run (no {CONFIG})")
    run = read_config(workdir)
    _check_model(workdir, run.model, config)
    part, target = "params", params
    if run.train.ema:
        part, target = "ema", jax.tree.map(lambda param: param.astype(jnp.float32), params)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        found = checkpoints.restore_part(part, target, optional=is_memory)
    if found is None:
        raise ConfigError(f"train.init_from={workdir}: there is no checkpoint")
    values, manifest = found
    _compare_tokenizers(workdir, manifest.metadata.get("tokenizer", {}).get("fingerprint"), tokenizer)
    return jax.tree.map(lambda value, param: value.astype(param.dtype), values, params)


def _from_file(path: Path, params: PyTree, config: ModelConfig, tokenizer: str | None) -> PyTree:
    tensors = read_tensors(path)
    if oasis_dit.is_oasis_dit(tensors):
        found, tensors = oasis_dit.convert_oasis_dit(tensors, str(path))
    else:
        description = description_of(path)
        found = description.checked_config(str(path)).model
        _compare_tokenizers(path, description.tokenizer["fingerprint"], tokenizer)
    _check_model(path, found, config)
    leaves = named_leaves(params)
    fresh = set() if any(map(is_memory, tensors)) else set(filter(is_memory, leaves))
    shapes = {name: leaf.shape for name, leaf in leaves.items() if name not in fresh}
    values = match(tensors, shapes, f"train.init_from={path}")

    def place(name: str, param: jax.Array) -> jax.Array:
        if name in fresh:
            return param
        value = values.pop(name).astype(param.dtype)
        return jax.make_array_from_callback(param.shape, param.sharding, lambda index: value[index])

    return map_named(place, params)


def _check_model(source: Path, found: ModelConfig, wanted: ModelConfig) -> None:
    """Raises `WeightsError` unless parameters of a model ``found`` compute the same in a model ``wanted``."""
    differing = {
        f"model.{key}": (getattr(found, key), getattr(wanted, key))
        for key in BASE_KEYS
        if getattr(found, key) != getattr(wanted, key)
    }
    if found.latent[-1] != wanted.latent[-1]:
        differing["model.latent"] = found.latent, wanted.latent
    if found.memory.kind != "none":
        differing |= {
            f"memory.{key}": (getattr(found.memory, key), getattr(wanted.memory, key))
            for key in MEMORY_KEYS
            if getattr(found.memory, key) != getattr(wanted.memory, key)
        }
    if differing:
        words = [
            f"{key}={show_value(theirs)}, here {show_value(ours)}"
            for key, (theirs, ours) in differing.items()
        ]
        raise WeightsError(f"train.init_from={source}: is another model, with {'; '.join(words[:3])}")


def _compare_tokenizers(source: Path, found: str | None, wanted: str | None) -> None:
    if found and wanted and found != wanted:
        log.warning(
            "train.init_from=%s was trained on latents of tokenizer %s, the data have %s: they mean something else to it",
            *(source, found[:12], wanted[:12]),
        )
