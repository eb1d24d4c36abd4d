"""A video generated from a context and an action script: a walk through the generated world.

A script is the word ``episode`` (the episode's own actions), a text of action names with repetitions such as
``left*6,noop,forward*10``, or an ``.npz`` file with an array ``actions`` (t, names) and, for a model that is given the
pose, ``pose`` (t, columns).
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rad_jax import media
from rad_jax.axes import Float
from rad_jax.config import Config
from rad_jax.config.messages import shorten
from rad_jax.data import DataError, Episodes, EpisodeSpec
from rad_jax.data.condition import condition_arrays, condition_features
from rad_jax.files import check_writable
from rad_jax.files.npz import Npz, NpzError
from rad_jax.odometry import Odometry
from rad_jax.rollout.predict import Clip, predict, read_clip
from rad_jax.runs.datasets import open_episodes
from rad_jax.runs.restore import TrainedModel, load_trained
from rad_jax.runs.trained_on import check_evaluation_set, digest_of
from rad_jax.tokenizer.taesd import open_preview

MOST_FRAMES = 10**6  # of a script
_LARGEST = np.float64(1e9)


def rollout_video(config: Config, workdir: Path, episode: int = 0, script: str = "episode") -> Path:
    """Writes ``rollout/EPISODE-SCRIPT-stepN-HASH.mp4`` into ``workdir`` and returns its path.

    It shows the context, then the prediction (beside the truth if known). Results that differ have different names; the same
    inputs write the same file.

    Latents are decoded by what ``config`` names as a preview of the run's tokenizer, if it names one.

    Raises:
      DataError: no such episode, or a script that the data set's actions do not allow.
      ConfigError: the preview decodes the latents of another tokenizer.
    """
    check_writable(workdir)
    trained = load_trained(workdir, config)
    preview = dataclasses.replace(trained.config.tokenizer, preview=config.tokenizer.preview)
    trained = trained._replace(tokenizer=open_preview(preview, trained.tokenizer))
    config = trained.config
    # Both before an evaluation set is made.
    arrays = read_script(script, trained.trained_on.info, config) if script != "episode" else None
    if episode < 0:
        raise DataError(f"--episode {episode}: expected a number of an episode, from 0 on")
    episodes = open_episodes(config.evaluate)
    check_evaluation_set(episodes, trained.trained_on, config.data.condition)
    if episode >= len(episodes):
        raise DataError(f"--episode {episode}: {episodes} has episodes 0..{len(episodes) - 1}")
    clip = read_clip(episodes, episode, config, trained.tokenizer, odometry=trained.odometry)
    if arrays is not None:
        given = clip.actions[: clip.context]
        future = condition_of(arrays, episodes.spec, config, given, trained.odometry)
        clip = clip._replace(actions=np.concatenate([given, future]))
    (prediction,) = predict(trained, trained.params, [clip], 1)
    context = clip.frames[: clip.context]
    columns = {"prediction": np.concatenate([context, media.to_uint8(prediction)])}
    if script == "episode":
        columns = {"truth": clip.frames} | columns
    path = workdir / "rollout" / _name(trained, episodes, clip, script)
    media.write_video(path, media.side_by_side(columns, clip.context), config.evaluate.fps)
    return path


def _name(trained: TrainedModel, episodes: Episodes, clip: Clip, script: str) -> str:
    """The name of the video; the hash in it is of all that the frames depend on beside the run."""
    config = trained.config
    inputs = [digest_of(episodes), clip.name, clip.context, config.sample.steps, config.tokenizer.preview]
    digest = hashlib.sha256(json.dumps(inputs).encode() + clip.actions.tobytes()).hexdigest()
    words = Path(script).stem if script.lower().endswith(".npz") else script.replace("*", "x")
    words = re.sub(r"[^\w.]+", "_", words, flags=re.ASCII)[:30].strip("_.") or "script"
    episode = clip.name.encode()[:150].decode(errors="ignore")
    return f"{episode}-{words}-step{trained.step}-{digest[:8]}.mp4"


def read_script(script: str, info: Mapping[str, Any], config: Config) -> dict[str, Float[np.ndarray, "t _"]]:
    """Reads a script; returns its arrays by name, of at least one frame.

    Args:
      info: what the training data say about themselves, of which "actions" and "pose" name the columns.

    Raises:
      DataError: the script does not have these columns.
    """
    needed = condition_arrays(config.data)
    for name in needed:
        if not isinstance(info.get(name), list):
            raise DataError(f"--actions {script}: the data of the run do not name the columns of {name!r}")
    if script.lower().endswith(".npz"):
        arrays = _read_arrays(script, needed)
    else:
        if len(needed) > 1:
            raise DataError(
                f"--actions {script}: the model is given {config.data.condition}, and names tell no pose; "
                "give an .npz file with actions and pose, or a model with data.condition=action or action+odometry"
            )
        arrays = {"actions": _parse(script, info["actions"])}
    length = arrays[needed[0]].shape[:1]
    for name in needed:
        columns, found = len(info[name]), arrays[name].shape
        if found != (*length, columns) or length == (0,):
            raise DataError(
                f"--actions {script}: {name} has shape {found}, expected (frames, {columns}), of one frame or more"
            )
    return arrays


def condition_of(
    arrays: Mapping[str, np.ndarray],
    spec: EpisodeSpec,
    config: Config,
    given: Float[np.ndarray, "_ a"],
    odometry: Odometry | None = None,
) -> Float[np.ndarray, "t a"]:
    """The condition of every frame of a script that goes on where frames of a condition ``given`` end."""
    if odometry is not None:
        before = given[:, : len(odometry.now)]  # a condition begins with the action
        arrays = {"actions": np.concatenate([before, arrays["actions"]])}
        return condition_features(spec, arrays, config.data, odometry)[len(given) :]
    # The first row of a clip has no action; a script's first row has one, so it follows a row that is dropped.
    arrays = {name: np.concatenate([array[:1], array]) for name, array in arrays.items()}
    return condition_features(spec, arrays, config.data)[1:]


def _read_arrays(script: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    try:
        with Npz(script) as stored:
            arrays = {name: stored.read(name) for name in names}
    except (OSError, NpzError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"--actions {script}: expected arrays {', '.join(names)}: {reason}") from None
    for name, array in arrays.items():
        finite = array.dtype.kind in "biuf" and np.isfinite(array).all()
        if not finite or not ((array >= -_LARGEST) & (array <= _LARGEST)).all():
            raise DataError(
                f"--actions {script}: {name} holds {array.dtype}, expected numbers from -{_LARGEST:g} to {_LARGEST:g}"
            )
    return {name: array.astype(np.float64) for name, array in arrays.items()}


def _parse(script: str, names: Sequence[str]) -> Float[np.ndarray, "t a"]:
    rows: list[int] = []
    for part in script.split(","):
        name, star, times = part.strip().partition("*")
        if name not in names or (star and not times.isdecimal()):
            raise DataError(
                f"--actions {shorten(part.strip())!r}: expected NAME or NAME*COUNT with a name among {', '.join(names)}"
            )
        count = int(times or 1) if len(times) < 9 else MOST_FRAMES + 1
        if len(rows) + count > MOST_FRAMES:
            raise DataError(f"--actions {shorten(script)}: expected at most {MOST_FRAMES} frames")
        rows += [names.index(name)] * count
    return np.eye(len(names), dtype=np.float32)[rows]
