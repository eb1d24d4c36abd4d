"""From a recording to an episode of a data set: which arrays it has, under which names, and how poses are stored.

A stored pose is what a model is conditioned on: x, y, z in blocks from the first frame, pitch in degrees, cosine and sine of
the yaw; as many of these as all recordings of the data set know. Where only the pose of the first frame is unknown, its view
is that of the second frame less the action between them, and its position the same. A data set in which a recording does not
know x, z or yaw has no pose.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from data_prep.recordings import Source, frames
from data_prep.recordings.recording import Recording
from data_prep.recordings.video import scale
from rad_jax.data import Episode, EpisodeSpec

_SCALE = {"x": 1 / 32, "y": 1 / 32, "z": 1 / 32, "pitch": 1 / 90}
_NEEDED = {"x", "z", "yaw"}
_IMAGE = 4  # axes of a per-frame array of images


@dataclass(frozen=True)
class Traits:
    """What decides which recordings fit into one data set; the same after a journey through JSON.

    Attributes:
      arrays, statics: [shape, dtype] by name of what its episodes have beside the pose, for each frame and once.
      pose: columns of the pose that are known in every frame but the first, which need not be known.
    """

    arrays: Mapping[str, Sequence[Any]]
    statics: Mapping[str, Sequence[Any]]
    pose: Sequence[str]


def traits(recording: Recording, size: Sequence[int] | None = None) -> Traits:
    """The traits of a recording whose frames will have a size; None: their own. Raises `BadRecording`."""
    image = [*(next(frames(recording)).shape[1:3] if size is None else size), 3]
    arrays = {"frames": [image, "uint8"], "actions": [[len(recording.source.actions)], "float32"]}
    for name, array in recording.arrays.items():
        arrays[name] = [image if array.ndim == _IMAGE else list(array.shape[1:]), array.dtype.name]
    if recording.camera_deg is not None:
        arrays["camera_deg"] = [[2], "float32"]
    statics = {name: [list(array.shape), array.dtype.name] for name, array in recording.statics.items()}
    known = np.isfinite(recording.pose[1:]).all(0)
    pose = [name for name, is_known in zip(recording.source.pose, known, strict=True) if is_known]
    return Traits(arrays, statics, pose)


def common(all_traits: Sequence[Traits]) -> Traits:
    """The traits of a data set of recordings: those that most of them have, and the pose columns that all of these know."""
    keys = [json.dumps([each.arrays, each.statics], sort_keys=True) for each in all_traits]
    key = Counter(keys).most_common(1)[0][0]
    chosen = [each for each, other in zip(all_traits, keys, strict=True) if other == key]
    pose = [name for name in chosen[0].pose if all(name in each.pose for each in chosen)]
    return Traits(chosen[0].arrays, chosen[0].statics, pose)


def misfit(own: Traits, of_all: Traits) -> str:
    """Why a recording does not fit into a data set; empty if it does."""
    (height, width, _), (rows, columns, _) = (each.arrays["frames"][0] for each in (own, of_all))
    if (height, width) != (rows, columns):
        return f"frames of {width}x{height} px, most others have {columns}x{rows} (give --size to scale them)"
    mine, theirs = ({**each.arrays, **each.statics} for each in (own, of_all))
    for name in sorted({*mine, *theirs}):
        if mine.get(name) != theirs.get(name):
            found, expected = (f"{s[name][1]}{s[name][0]}" if name in s else "absent" for s in (mine, theirs))
            return f"array {name!r} is {found}, most others have {expected}"
    return ""


def episode_spec(
    source: Source, common_traits: Traits, *, context: bool, info: Mapping[str, Any]
) -> EpisodeSpec:
    """The schema of a data set of recordings.

    Args:
      source: facts of their format.
      common_traits: of `common`.
      context: whether its episodes are for evaluation and have ``n_context``.
      info: added to what is known of the format.
    """
    arrays, statics = (
        {name: (tuple(shape), dtype) for name, (shape, dtype) in group.items()}
        for group in (common_traits.arrays, common_traits.statics)
    )
    facts = {"source": source.title, "format": source.format, "actions": source.actions, "fps": source.fps}
    columns = _pose_columns(source, common_traits)
    if columns:
        arrays["pose"] = ((len(columns),), "float32")
        arrays["pose_known"] = ((), "bool")
        facts |= {"pose": list(columns), "pose_scale": list(columns.values())}
        if source.is_minecraft:
            statics["pose_origin"] = ((3,), "float64")
    if context:
        statics["n_context"] = ((), "int32")
    name = f"minecraft_{source.format}" if source.is_minecraft else source.format
    return EpisodeSpec(name, arrays, statics, {**facts, **info})


def _pose_columns(source: Source, common_traits: Traits) -> dict[str, float]:
    """Columns of the stored pose and their scales; none if no pose is stored."""
    if not source.is_minecraft:
        layout = common_traits.statics.get("maze_layout")
        cell = 1 / layout[0][0] if layout else 1.0
        known = tuple(common_traits.pose) == source.pose
        return dict(zip(source.pose, (cell, cell, 1.0, 1.0), strict=True)) if known else {}
    if not set(common_traits.pose) >= _NEEDED:
        return {}
    known = {name: scale for name, scale in _SCALE.items() if name in common_traits.pose}
    return {**known, "cos": 1.0, "sin": 1.0}


def episode_without_frames(recording: Recording, spec: EpisodeSpec, n_context: int | None = None) -> Episode:
    """An episode without its frames.

    Args:
      recording: of `data_prep.recordings.read`.
      spec: of `episode_spec`; says what of the recording is stored.
      n_context: for an evaluation, how many frames are given.
    """
    size = spec.arrays["frames"][0][:2]
    out: Episode = {"episode_id": recording.candidate.id, "actions": recording.actions, **recording.statics}
    for name, array in recording.arrays.items():
        out[name] = scale(array, size) if array.ndim == _IMAGE else array
    if "camera_deg" in spec.arrays:
        out["camera_deg"] = recording.camera_deg
    if "pose" in spec.arrays:
        out |= _stored_pose(recording, spec.info["pose"])
    if "n_context" in spec.statics:
        out["n_context"] = np.int32(n_context)
    return out


def _stored_pose(recording: Recording, names: Sequence[str]) -> dict[str, np.ndarray]:
    columns = recording.source.pose
    pose, stored = filled_pose(recording), [k for k, name in enumerate(columns) if name in names]
    known = {"pose_known": np.isfinite(recording.pose[:, stored]).all(1)}
    if not recording.source.is_minecraft:
        return {"pose": pose.astype(np.float32), **known}
    origin = np.nan_to_num(pose[0, :3])  # an unknown height is not among the stored columns
    pose[:, :3] -= origin
    values = dict(zip(columns, pose.T, strict=True))
    yaw = np.radians(values["yaw"])
    values |= {"cos": np.cos(yaw), "sin": np.sin(yaw)}
    stacked = np.stack([values[name] for name in names], 1).astype(np.float32)
    return {"pose": stacked, "pose_origin": origin, **known}


def filled_pose(recording: Recording) -> Float[np.ndarray, "t p"]:
    """The pose; where frame 0 is unknown, it is taken from frame 1 and the action between them."""
    pose, before = recording.pose.copy(), recording.pose[1].copy()
    if recording.camera_deg is not None:
        before[[recording.source.pose.index(name) for name in ("pitch", "yaw")]] -= recording.camera_deg[1]
    pose[0] = np.where(np.isnan(pose[0]), before, pose[0])
    return pose
