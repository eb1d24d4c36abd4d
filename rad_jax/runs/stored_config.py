"""The configuration that a work directory keeps: how it is read, and which keys may change when its run goes on."""

import contextlib
from pathlib import Path

from rad_jax.config import (
    NAMES,
    Config,
    ConfigError,
    config_from_dict,
    decay_begin,
    diff_configs,
    flatten,
    override,
)
from rad_jax.config.keys import keys
from rad_jax.config.memories import is_own
from rad_jax.config.messages import show_value
from rad_jax.config.own import check_trusted
from rad_jax.files.json_files import check_form, read_json
from rad_jax.runs import manifest
from rad_jax.runs.manifest import saved_steps
from rad_jax.runs.trained_on import FILE as TRAINED_ON
from rad_jax.runs.trained_on import TrainedOn

FILE = "config.json"

# Keys that may change when a run goes on: no number depends on them, or only in its last bits (speed against memory).
FREE_KEYS = (
    "evaluate.",
    "sample.",
    "checkpoint.",
    "mesh.",
    "data.threads",
    "data.buffer",
    "data.max_damaged",
    "data.make",
    "data.auto_make",
    "tokenizer.preview",
    "train.sample_every",
    "train.accumulate",
    "train.window_batch",
    "model.remat",
    "memory.prefetch_segment",
    "memory.mixer_segment",
    "model.pose",  # follows from the data, as does the next; runs of earlier versions do not keep them
    "model.plane",
)

# Keys that say where something lies, which may change as long as it is the same by its content.
PLACES = ("data.path", "tokenizer.path")

SIZES = ("model.latent", "model.action_dim", "model.pose", "model.plane")

COMMANDS = {
    "data.make": "",
    "data.auto_make": False,
    "evaluate.make": "",
    "evaluate.auto_make": False,
    "evaluate.more_make": "",
}

# Keys whose values are paths: relative or absolute, they are the same if they lead to the same place.
PATHS = (*PLACES, "train.init_from")


def read_config(workdir: Path) -> Config:
    """The configuration of the run in a work directory, without its shell commands.

    Raises:
      ConfigError: there is no run, its ``config.json`` is damaged, or its memory is code that is not trusted.
    """
    path = workdir / FILE
    if not path.exists():
        raise ConfigError(
            f"{workdir} holds no run (no {FILE}): train it first, or name the directory of a run"
        )
    try:
        config = without_commands(config_from_dict(read_json(path, dict)))
    except ValueError as error:
        raise ConfigError(
            f"{path} cannot be used ({error}); delete it and give the training command once more, which writes it again"
        ) from None
    check_trusted(config.memory.kind, f"{path}: ")
    return config


def find_config(workdir: Path) -> Config | None:
    """The configuration of the run in a work directory, or else of its newest checkpoint; None if neither has one."""
    if (workdir / FILE).exists():
        return read_config(workdir)
    for step in reversed(saved_steps(workdir / "checkpoints")):
        directory = workdir / "checkpoints" / str(step)
        with contextlib.suppress(
            manifest.DamagedCheckpoint, manifest.UnknownFormat
        ):  # which the run will name
            stored = manifest.read(directory).metadata.get("config")
            try:
                check_form(stored, dict | None, "metadata.config")
                config = None if stored is None else without_commands(config_from_dict(stored))
            except ValueError as error:
                raise ConfigError(f"{directory / manifest.FILE}: {error}") from None
            if config is not None:
                check_trusted(config.memory.kind, f"{directory / manifest.FILE}: ")
            return config
    return None


def without_commands(config: Config) -> Config:
    """A configuration that was read from a file, which may be a stranger's: none of its shell commands may ever run."""
    return override(config, COMMANDS)


def with_sizes(config: Config, run: Config) -> Config:
    """``config`` with the sizes of a stored run where it leaves them open."""
    given = flatten(config)
    return override(config, {key: flatten(run)[key] for key in SIZES if given[key] is None})


def check_same_run(config: Config, workdir: Path, trained_on: TrainedOn | None = None) -> None:
    """Raises `ConfigError` if ``workdir`` holds a run that ``config`` would not continue with the same numbers.

    Args:
      trained_on: the data and the tokenizer that ``config`` names, once they are open. They are compared by content, so both
        may have moved; a run of an earlier version, which does not keep them, is compared by their paths.
    """
    run, free = find_config(workdir), FREE_KEYS
    if run is None:
        return
    config = with_sizes(config, run)
    if (workdir / TRAINED_ON).exists():
        if trained_on is not None:
            _check_same_content(config, TrainedOn.read(workdir), trained_on, workdir)
        free += PLACES
    if config.train.steps > run.train.steps:
        newest = max(saved_steps(workdir / "checkpoints"), default=0)
        if has_decayed(run, newest):
            begin = decay_begin(run.optimizer, run.train)
            raise ConfigError(
                f"train.steps={config.train.steps}: {workdir} holds a run with {run.train.steps} at step {newest}, whose "
                f"learning rate decays since step {begin:g} (optimizer.decay={run.optimizer.decay}); "
                "choose another --workdir"
            )
        free += ("train.steps",)
    refuse_changes(config, run, workdir, free=free)


def has_decayed(config: Config, step: int) -> bool:
    """Whether a run with more ``train.steps`` would have had another learning rate before it reached ``step``."""
    # The last step taken has the index step - 1.
    return config.optimizer.decay != "constant" and step - 1 > decay_begin(config.optimizer, config.train)


def refuse_changes(
    config: Config,
    run: Config,
    workdir: Path,
    among: tuple[str, ...] = ("",),
    free: tuple[str, ...] = FREE_KEYS,
) -> None:
    """Raises `ConfigError` if ``config`` and ``run`` differ in a key that begins with one of ``among`` and none of ``free``."""
    free += tuple(idle_keys(config) & idle_keys(run))
    changed = {
        key: (old, new)
        for key, (old, new) in diff_configs(run, config).items()
        if key.startswith(among)
        and not key.startswith(free)
        and not (key in PATHS and old and new and Path(old).resolve() == Path(new).resolve())
    }
    if changed:
        key, (old, new) = next(iter(changed.items()))
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise ConfigError(
            f"{key}={show_value(new)}: {workdir} holds a run with {show_value(old)}{more}; choose another --workdir"
        )


def idle_keys(config: Config) -> set[str]:
    """Keys that count for other memories alone, or for another way to treat frames or draw windows: no number depends on them.

    A kind of the user's may read any.
    """
    memory, idle = config.memory, set()
    for declared in keys(type(memory)).values():
        kinds, ways = set(declared.of) & set(NAMES), set(declared.of) & {"noised", "resampled", "archive"}
        of_others = kinds and memory.kind not in kinds and not is_own(memory.kind)
        of_others = of_others and not ("revisit" in declared.of and config.train.revisit)
        if of_others or (ways and memory.frames not in ways):
            idle.add(declared.path)
    return idle


def _check_same_content(config: Config, recorded: TrainedOn, found: TrainedOn, workdir: Path) -> None:
    for key, what, old, new in (
        (f"data.path={config.data.path}", "other episodes", recorded.digest, found.digest),
        (f"tokenizer {found.file}", "latents of another tokenizer", recorded.fingerprint, found.fingerprint),
    ):
        if old != new:
            raise ConfigError(
                f"{key}: {workdir} was trained on {what}; restore them, or choose another --workdir"
            )
