"""From a recording to an episode of a data set: which arrays it has, under which names, and how poses are stored.

A stored pose is what a model is conditioned on: x, y, z in blocks from the first frame, pitch in degrees, cosine and sine of
the yaw; as many of these as all recordings of the data set know. Where only the pose of the first frame is unknown, its view
is that of the second frame less the action between them, and its position the same. A data set in which a recording does not
know x, z or yaw has no pose.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from data_prep.recordings import Source, frames
from data_prep.recordings.actions import ACTIONS
from data_prep.recordings.recording import BadRecording, Recording
from data_prep.recordings.video import scale
from rad_jax.data import Episode, EpisodeSpec

Shapes = Mapping[str, tuple[tuple[int, ...], str]]

_SCALE = {"x": 1 / 32, "y": 1 / 32, "z": 1 / 32, "pitch": 1 / 90}
_NEEDED = {"x", "z", "yaw"}
_IMAGE = 4  # axes of a per-frame array of images


@dataclass(frozen=True)
class Traits:
    """What decides which recordings fit into one data set.

    Attributes:
      size: (height, width) of its frames.
      arrays, statics: shapes and dtypes of what else it has, beside frames, actions and pose; images without their size.
      pose: columns of the pose that are known in every frame but the first, which need not be known.
    """

    size: tuple[int, int]
    arrays: Shapes
    statics: Shapes
    pose: tuple[str, ...]

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Traits":
        """The traits that `dataclasses.asdict` and JSON have made of them."""
        groups = (content[key] for key in ("arrays", "statics"))
        arrays, statics = ({n: (tuple(s), d) for n, (s, d) in group.items()} for group in groups)
        return cls(tuple(content["size"]), arrays, statics, tuple(content["pose"]))


def traits(recording: Recording, size: tuple[int, int] | None = None) -> Traits:
    """The traits of a recording whose frames will have a size; None: their own. Raises `BadRecording`."""
    if size is None:
        size = next(frames(recording)).shape[1:3]
    known = np.isfinite(recording.pose[1:]).all(0)
    return Traits(
        size=tuple(size),
        arrays={
            n: (() if a.ndim == _IMAGE else a.shape[1:], a.dtype.name) for n, a in recording.arrays.items()
        },
        statics={name: (np.shape(a), np.asarray(a).dtype.name) for name, a in recording.statics.items()},
        pose=tuple(name for name, is_known in zip(recording.source.pose, known, strict=True) if is_known),
    )


def common(all_traits: Sequence[Traits]) -> Traits:
    """The traits of a data set of recordings: those that most of them have, and the pose columns that all of these know."""
    keys = [_fits_key(each) for each in all_traits]
    key = Counter(keys).most_common(1)[0][0]
    chosen = [each for each, other in zip(all_traits, keys, strict=True) if other == key]
    pose = [name for name in chosen[0].pose if all(name in each.pose for each in chosen)]
    return Traits(chosen[0].size, chosen[0].arrays, chosen[0].statics, tuple(pose))


def misfit(own: Traits, of_all: Traits) -> str:
    """Why a recording does not fit into a data set; empty if it does."""
    if own.size != of_all.size:
        (height, width), (rows, columns) = own.size, of_all.size
        return f"frames of {width}x{height} px, most others have {columns}x{rows} (give --size to scale them)"
    for word, mine, theirs in (("array", own.arrays, of_all.arrays), ("array", own.statics, of_all.statics)):
        for name in sorted({*mine, *theirs}):
            if mine.get(name) != theirs.get(name):
                return f"{word} {name!r} is {_shape(mine, name)}, most others have {_shape(theirs, name)}"
    return ""


def _fits_key(own: Traits) -> tuple:
    return own.size, tuple(sorted(own.arrays.items())), tuple(sorted(own.statics.items()))


def _shape(shapes: Shapes, name: str) -> str:
    return f"{shapes[name][1]}{list(shapes[name][0])}" if name in shapes else "absent"


def episode_spec(
    source: Source, common_traits: Traits, *, context: bool, info: Mapping[str, Any] | None = None
) -> EpisodeSpec:
    """The schema of a data set of recordings.

    Args:
      source: facts of their format.
      common_traits: of `common`.
      context: whether its episodes are for evaluation and have ``n_context``.
      info: added to what is known of the format.
    """
    minecraft = source.actions == ACTIONS
    arrays = {
        "frames": ((*common_traits.size, 3), "uint8"),
        "actions": ((len(source.actions),), "float32"),
        **{
            n: ((*common_traits.size, 3), d) if d == "uint8" else (s, d)
            for n, (s, d) in common_traits.arrays.items()
        },
    }
    statics = dict(common_traits.statics)
    facts: dict[str, Any] = {
        "source": source.title,
        "format": source.format,
        "actions": list(source.actions),
        "fps": source.fps,
    }
    if minecraft:
        arrays["camera_deg"] = ((2,), "float32")
    names, factors = _pose_columns(source, common_traits)
    if names:
        arrays["pose"] = ((len(names),), "float32")
        arrays["pose_known"] = ((), "bool")
        facts |= {"pose": names, "pose_scale": factors}
        if minecraft:
            statics["pose_origin"] = ((3,), "float64")
    if context:
        statics["n_context"] = ((), "int32")
    name = f"minecraft_{source.format}" if minecraft else source.format
    return EpisodeSpec(name, arrays, statics, {**facts, **(info or {})})


def _pose_columns(source: Source, common_traits: Traits) -> tuple[list[str], list[float]]:
    """Names of the columns of the stored pose and their scales; none if no pose is stored."""
    if source.actions != ACTIONS:
        layout = common_traits.statics.get("maze_layout")
        cell = 1 / layout[0][0] if layout else 1.0
        known = common_traits.pose == source.pose
        return (list(source.pose), [cell, cell, 1.0, 1.0]) if known else ([], [])
    if not set(common_traits.pose) >= _NEEDED:
        return [], []
    columns = [name for name in ("x", "y", "z", "pitch") if name in common_traits.pose]
    return [*columns, "cos", "sin"], [*(_SCALE[name] for name in columns), 1.0, 1.0]


def episode(recording: Recording, spec: EpisodeSpec, n_context: int | None = None) -> Episode:
    """An episode as `write_split` takes it. Raises `BadRecording` if the file has changed."""
    size = spec.arrays["frames"][0][:2]
    return {
        **episode_without_frames(recording, spec, n_context),
        "frames": np.concatenate(list(frames(recording, size))),
    }


def episode_without_frames(recording: Recording, spec: EpisodeSpec, n_context: int | None = None) -> Episode:
    """An episode without its frames.

    Args:
      recording: of `data_prep.recordings.read`.
      spec: of `episode_spec`; says what of the recording is stored.
      n_context: for an evaluation, how many frames are given.

    Raises:
      BadRecording: it does not have what the schema needs.
    """
    size = spec.arrays["frames"][0][:2]
    out: Episode = {"episode_id": recording.id, "actions": recording.actions, **recording.statics}
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
    pose, columns = filled_pose(recording), list(recording.source.pose)
    known = {
        "pose_known": np.isfinite(recording.pose[:, [columns.index(n) for n in columns if n in names]]).all(1)
    }
    if recording.source.actions != ACTIONS:
        return {"pose": pose.astype(np.float32), **known}
    origin = np.nan_to_num(pose[0, :3])  # an unknown height is not among the stored columns
    yaw = np.radians(pose[:, columns.index("yaw")])
    values = {"cos": np.cos(yaw), "sin": np.sin(yaw)}
    values |= {name: pose[:, k] - (origin[k] if k < len(origin) else 0) for k, name in enumerate(columns)}
    stored = np.stack([values[name] for name in names], 1).astype(np.float32)
    if not np.isfinite(stored).all():
        raise BadRecording(recording.video, "a pose that is unknown in some frames", f"{', '.join(names)}")
    return {"pose": stored, "pose_origin": origin, **known}


def filled_pose(recording: Recording) -> Float[np.ndarray, "t p"]:
    """The pose; where frame 0 is unknown, it is taken from frame 1 and the action between them."""
    pose = recording.pose.copy()
    columns, before = list(recording.source.pose), recording.pose[1].copy()
    if recording.camera_deg is not None:
        before[[columns.index("pitch"), columns.index("yaw")]] -= recording.camera_deg[1]
    return np.concatenate([np.where(np.isnan(pose[:1]), before, pose[:1]), pose[1:]])
