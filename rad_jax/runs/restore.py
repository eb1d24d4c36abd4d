"""How a run is read: its parameters, with its own configuration; and what may not change when it goes on."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rad_jax.axes import PyTree
from rad_jax.config import Config, ConfigError, config_from_json, diff_configs
from rad_jax.config.messages import show_value
from rad_jax.model.names import init_params
from rad_jax.runs.checkpoints import Checkpoints
from rad_jax.runs.manifest import Manifest

# Keys that make a model what it is.
MODEL_KEYS = ("model.", "memory.", "diffusion.", "data.condition", "data.heading_harmonics")

# Keys that may change when a run goes on: no number depends on them, or only in its last bits (speed against memory).
FREE_KEYS = (
    "evaluate.",
    "sample.",
    "checkpoint.",
    "mesh.",
    "data.threads",
    "data.buffer",
    "data.make",
    "data.auto_make",
    "tokenizer.preview",
    "train.sample_every",
    "train.accumulate",
    "train.window_batch",
    "model.remat",
    "memory.prefetch_segment",
    "memory.mixer_segment",
)


class RestoredRun(NamedTuple):
    """Parameters of a run's checkpoint: ``part`` says which, "ema" or "params"."""

    config: Config
    params: PyTree
    part: str
    manifest: Manifest


def check_same_run(config: Config, workdir: Path) -> None:
    """Raises `ConfigError` if ``workdir`` holds a run whose numbers another configuration made."""
    path = workdir / "config.json"
    if path.exists():
        refuse_changes(config, config_from_json(path.read_text()), workdir)


def refuse_changes(config: Config, run: Config, workdir: Path, among: tuple[str, ...] = ("",)) -> None:
    """Raises `ConfigError` if a key that begins with one of ``among``, and is not free, is not what it was in the run."""
    differing = diff_configs(run, config).items()
    changed = {k: values for k, values in differing if k.startswith(among) and not k.startswith(FREE_KEYS)}
    if changed:
        key, (old, new) = next(iter(changed.items()))
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise ConfigError(
            f"{key}={show_value(new)}: {workdir} holds a run with {show_value(old)}{more}; choose another --workdir"
        )


def restore_run(workdir: Path, config: Config | None = None, part: str = "ema") -> RestoredRun:
    """Reads parameters from the newest checkpoint of a run, with the run's own configuration.

    Args:
      config: its ``evaluate`` and ``sample`` sections are used in place of the run's; what makes the model must be the run's.
      part: "ema" for the averaged parameters (those of the last step if the run keeps no average), or "params".

    Raises:
      ConfigError, CheckpointError: in one or two lines, what is missing or does not fit.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise ConfigError(f"{workdir} holds no run (no config.json): train first, or name another --workdir")
    run = config_from_json(path.read_text())
    if config is not None:
        model = dataclasses.replace(config.model, latent=run.model.latent, action_dim=run.model.action_dim)
        wanted = dataclasses.replace(config, model=model)
        refuse_changes(wanted, run, workdir, MODEL_KEYS)
        run = dataclasses.replace(run, evaluate=config.evaluate, sample=config.sample)
    part = part if run.train.ema else "params"
    target = jax.eval_shape(lambda: init_params(run.model))
    if part == "ema":  # the average is float32 whatever the parameters are
        target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float32), target)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        restored = checkpoints.restore_part(part, target)
    if restored is None:
        raise ConfigError(f"{workdir} holds no checkpoint yet: train first")
    return RestoredRun(run, restored[0], part, restored[1])
