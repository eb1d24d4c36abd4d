"""The odometry of a run (`data.condition=action+odometry`): fitted once, to its training data, and then kept with it.

It is in WORKDIR/trained_on.json and in the metadata of every checkpoint. A run that goes on uses what it began with, because a
second fit could have other last bits.
"""

from collections.abc import Iterator
from pathlib import Path

from rad_jax.config import Config, ConfigError, DataConfig
from rad_jax.data import DamagedRecord, DataError, Episodes
from rad_jax.data.condition import ODOMETRY, position_scale, true_pose
from rad_jax.odometry import Odometry, Walk, fit
from rad_jax.runs import manifest
from rad_jax.runs.manifest import Manifest, saved_steps
from rad_jax.runs.stored_config import find_config
from rad_jax.runs.trained_on import FILE, TrainedOn
from rad_jax.runs.training_run import TrainingRun

FRAMES = 2**15  # that are fitted, about: all of every so many-th episode

_KNOWN = "pose_known"  # array of recordings whose first frames have no pose of their own


def with_odometry(run: TrainingRun, workdir: Path) -> TrainingRun:
    """A run with the odometry that it keeps in its work directory, or with a fit to its training data if it has not begun.

    Without `data.condition=action+odometry` it needs none.

    Raises:
      ConfigError: what the run keeps is damaged, or of another run. DataError: its training data cannot be fitted.
    """
    if run.config.data.condition != ODOMETRY:
        return run
    odometry = kept_odometry(workdir) or fit_odometry(run.episodes, run.config.data)
    check_odometry(run.config, odometry, str(workdir))
    return run._replace(odometry=odometry)


def fit_odometry(episodes: Episodes, config: DataConfig) -> Odometry:
    """What actions do in a data set, from about `FRAMES` of its frames. Raises `DataError` if they do not tell."""
    try:
        return fit(_walks(episodes, config), position_scale(episodes.spec))
    except DataError:
        raise
    except ValueError as error:
        raise DataError(
            f"data.condition={ODOMETRY}: the poses of {episodes} cannot be fitted ({error}); use data.condition=action"
        ) from None


def kept_odometry(workdir: Path) -> Odometry | None:
    """The odometry of the run in a work directory; None if no run has begun there. Raises `ConfigError` as `with_odometry`."""
    if find_config(workdir) is None:
        return None
    kept = TrainedOn.read(workdir).odometry if (workdir / FILE).exists() else None
    for step in reversed(saved_steps(workdir / "checkpoints")):
        try:
            content = manifest.read(workdir / "checkpoints" / str(step))
        except (manifest.DamagedCheckpoint, manifest.UnknownFormat):  # which the run will name
            continue
        recorded = recorded_odometry(content, workdir)
        if recorded is None or kept not in (None, recorded):
            raise ConfigError(
                f"{workdir}: checkpoint {step} has {'another' if recorded else 'no'} odometry, it is not of the run of {FILE}; "
                "restore them, or choose another --workdir"
            )
        return recorded
    return kept


def recorded_odometry(content: Manifest, workdir: Path) -> Odometry | None:
    """What a checkpoint was trained with; None if it does not say so. Raises `ConfigError` if that is damaged."""
    recorded = content.metadata.get("odometry")
    try:
        return None if recorded is None else Odometry.parse(recorded)
    except ValueError as error:
        raise ConfigError(
            f"{workdir}: the manifest of checkpoint {content.step} cannot be used ({error}); "
            "move the checkpoint away to use the one before"
        ) from None


def check_odometry(config: Config, odometry: Odometry | None, where: str) -> None:
    """Raises `ConfigError`, which begins with ``where``, unless a model has the odometry that its condition needs."""
    if config.data.condition != ODOMETRY:
        return
    if odometry is None:
        raise ConfigError(f"{where}: has no odometry, which data.condition={ODOMETRY} needs")
    columns = len(odometry.now) + len(odometry.scale) + 2 * config.data.heading_harmonics
    if config.model.action_dim != columns:
        raise ConfigError(
            f"{where}: its odometry makes conditions of {columns} columns, the model has {config.model.action_dim}"
        )


def _walks(episodes: Episodes, config: DataConfig) -> Iterator[Walk]:
    known = [_KNOWN] if _KNOWN in episodes.spec.arrays else []
    for index in range(0, len(episodes), max(1, int(episodes.lengths.sum()) // FRAMES)):
        try:
            arrays = episodes.read(index, arrays=["actions", "pose", *known])
        except DamagedRecord:
            if not config.max_damaged:
                raise
            continue
        first = int(arrays[_KNOWN].argmax()) if known else 0
        position, heading = true_pose(episodes.spec, arrays["pose"][first:])
        yield arrays["actions"][first:], position, heading
