"""What the model is conditioned on: the action that led to a frame and, optionally, the camera pose of the frame.

"action": the action vector of the data set. "action+pose": additionally the scaled position, and the heading as
cos(k h), sin(k h) for k = 1..harmonics, which resolves nearby headings and has no jump at 360 degrees. "action+odometry": the
same columns, but the pose is added up from the actions since the first frame (`rad_jax.odometry`), where it is 0; no pose
is read. A model that is given the pose has an easier task, so every table says which condition was used.
"""

import numpy as np
from jaxtyping import Float

from rad_jax.config import DataConfig
from rad_jax.data.spec import DataError, EpisodeSpec
from rad_jax.files.json_files import check_form
from rad_jax.odometry import Odometry, Track, follow, start

ODOMETRY = "action+odometry"

_HEADING = ("cos", "sin")


def condition_dim(spec: EpisodeSpec, config: DataConfig, odometry: Odometry | None = None) -> int:
    """Returns the size A of a frame's condition.

    Args:
      spec: schema of the data set. `info["actions"]` names the entries of "actions"; for "action+pose",
        `info["pose"]` names those of "pose" ("cos" and "sin" of the heading, every other one a position) and
        `info["pose_scale"]` has a factor for each (those of "cos" and "sin" are not used).
      config: its `condition` and, with the pose, `heading_harmonics`, the number of multiples of the heading.
      odometry: for "action+odometry", what was fitted. Without it the data set is one to fit it to, and must have the pose.

    Raises:
      DataError: the data set lacks the actions, the pose, or the names of their entries; or it has other actions than the
        odometry.
    """
    actions = len(_columns(spec, "actions", "actions", str, config.condition))
    if odometry and config.condition == ODOMETRY and len(odometry.now) != actions:
        raise DataError(
            f"data set {spec.name!r} has {actions} actions, the odometry of the model is of {len(odometry.now)}"
        )
    positions, harmonics = condition_pose(spec, config, odometry)
    return actions + positions + 2 * harmonics


def condition_pose(
    spec: EpisodeSpec, config: DataConfig, odometry: Odometry | None = None
) -> tuple[int, int]:
    """Returns how many position columns and multiples of the heading end a frame's condition; see `condition_dim`."""
    if config.condition == "action":
        return 0, 0
    if config.condition == ODOMETRY and odometry:
        return len(odometry.scale), config.heading_harmonics
    if config.condition == ODOMETRY and not has_pose(spec):
        raise DataError(
            f"data.condition={ODOMETRY}: the training set has no pose to fit what actions do ({spec.name!r}); "
            "use one that has, or data.condition=action"
        )
    return len(_position(spec)[0]), config.heading_harmonics


def condition_plane(spec: EpisodeSpec, config: DataConfig) -> tuple[int, int] | None:
    """Returns the positions among which the agent turns, as ``model.plane`` has them, by the names of the data set.

    With x and z heading 0 looks along z, has x to its left and headings grow to the right, as in Minecraft
    (`data_prep.recordings`); with x and y it looks along x and they grow to the left, as in mazes. None: the condition has no
    pose, or the pose not these names.
    """
    if config.condition == "action" or not has_pose(spec):
        return None
    names = [name for name in _columns(spec, "pose", "pose", str) if name not in _HEADING]
    for first, second, sense in (("z", "x", -1), ("x", "y", 1)):
        if first in names and second in names:
            return names.index(first) + 1, sense * (names.index(second) + 1)
    return None


def condition_arrays(config: DataConfig) -> tuple[str, ...]:
    """Returns the names of the per-frame arrays that `condition_features` needs."""
    return ("actions", "pose") if config.condition == "action+pose" else ("actions",)


def condition_features(
    spec: EpisodeSpec, arrays: dict[str, np.ndarray], config: DataConfig, odometry: Odometry | None = None
) -> Float[np.ndarray, "*b t a"]:
    """Returns the condition of every frame of a clip, float32.

    The action of the first frame is zero, because the action that led to it is not part of the clip. Its pose is kept. With
    odometry its pose is 0, and the agent is taken to be at rest, wherever in an episode the clip begins.

    Args:
      spec, config: see `condition_dim`, whose errors this function raises, too.
      arrays: of one clip, or of several of one length: "actions" (*b, t, actions) and, with the pose, "pose".
      odometry: needed for "action+odometry" alone.
    """
    condition_dim(spec, config, odometry)
    actions = np.array(arrays["actions"], np.float32)
    actions[..., 0, :] = 0
    if config.condition == "action":
        return actions
    if config.condition == ODOMETRY:
        if odometry is None:
            raise ValueError(f"data.condition={ODOMETRY}: needs the odometry of the run")
        return next_conditions(odometry, start(odometry, *actions.shape[:-2]), actions, config)[1]
    position, heading = pose_features(spec, arrays["pose"], config.heading_harmonics)
    return np.concatenate([actions, position, heading], axis=-1, dtype=np.float32)


def next_conditions(
    odometry: Odometry, track: Track, actions: Float[np.ndarray, "*b t _"], config: DataConfig
) -> tuple[Track, Float[np.ndarray, "*b t a"]]:
    """Returns the conditions of frames that come after others, for "action+odometry", and the track after them.

    One frame at a time gives the same numbers as all at once.

    Args:
      track: after the frames before; `rad_jax.odometry.start` for the first one of a clip, whose action is zero.
      actions: those that led to the frames.
    """
    actions = np.asarray(actions, np.float32)
    track, position, heading = follow(odometry, track, actions.astype(np.float64))
    columns = [actions, position * np.array(odometry.scale), _harmonics(heading, config.heading_harmonics)]
    return track, np.concatenate(columns, axis=-1, dtype=np.float32)


def has_pose(spec: EpisodeSpec) -> bool:
    """Whether a data set says where its frames were seen from."""
    return "pose" in spec.arrays and {"pose", "pose_scale"} <= spec.info.keys()


def pose_features(
    spec: EpisodeSpec, pose: Float[np.ndarray, "*b t _"], harmonics: int = 1
) -> tuple[Float[np.ndarray, "*b t _"], Float[np.ndarray, "*b t _"]]:
    """The scaled position, and the heading as cos(k h), sin(k h) for k = 1..harmonics, both float64.

    Raises:
      DataError: see `condition_dim`.
    """
    position, heading = true_pose(spec, pose)
    return position * _position(spec)[1], _harmonics(heading, harmonics)


def true_pose(
    spec: EpisodeSpec, pose: Float[np.ndarray, "*b t _"]
) -> tuple[Float[np.ndarray, "*b t _"], Float[np.ndarray, "*b t"]]:
    """The position in the units of the data, and the heading in radians, both float64; raises as `condition_dim`."""
    pose, columns = np.asarray(pose, np.float64), _position(spec)[0]
    cos, sin = (pose[..., spec.info["pose"].index(name)] for name in _HEADING)
    return pose[..., columns], np.arctan2(sin, cos)


def position_scale(spec: EpisodeSpec) -> list[float]:
    """The factor of every column of the position; raises as `condition_dim`."""
    return _position(spec)[1].tolist()


def _harmonics(heading: Float[np.ndarray, "*b t"], count: int) -> Float[np.ndarray, "*b t _"]:
    angles = heading[..., None] * np.arange(1, count + 1)
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1).reshape(*heading.shape, -1)


def _columns(spec: EpisodeSpec, array: str, key: str, kind: type, condition: str = "action+pose") -> list:
    """Returns info[key]. Raises DataError unless it is a list with one entry of a kind per column of a per-frame vector."""
    if array not in spec.arrays:
        raise DataError(
            f"data set {spec.name!r} has no array {array!r}, which data.condition={condition} needs"
        )
    shape, names = spec.arrays[array][0], spec.info.get(key)
    if not isinstance(names, list) or (len(names),) != shape:
        found = f"info[{key!r}] is {'missing' if names is None else repr(names)}"
        raise DataError(f"data set {spec.name!r}: {found}, expected a list for {array!r} of shape {shape}")
    try:
        check_form(names, [kind], f"info[{key!r}]")
    except ValueError as error:
        raise DataError(f"data set {spec.name!r}: {error}") from None
    return names


def _position(spec: EpisodeSpec) -> tuple[list[int], np.ndarray]:
    """Returns the columns of "pose" that are positions, and the scale of each."""
    names = _columns(spec, "pose", "pose", str)
    factors = np.asarray(_columns(spec, "pose", "pose_scale", float), np.float64)
    if not set(_HEADING) <= set(names):
        found = f"info['pose'] is {names!r}"
        raise DataError(f"data set {spec.name!r}: {found}, expected 'cos' and 'sin' among them")
    columns = [column for column, name in enumerate(names) if name not in _HEADING]
    return columns, factors[columns]
