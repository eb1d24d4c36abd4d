"""Finds recordings that move in a pattern on which a memory can be tested, and where the context of the pattern ends.

    rotate        turns in place by at least a whole turn; the context is the first whole turn
    polygon       a lap around corners, then again along it; the context is the first lap
    out_and_back  a way out, half a turn, and back along it; the context ends with the turn

A pattern is found in the poses, or where these are unknown in the actions, as if every step forward moved at walking speed.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data_prep.recordings.actions import ACTIONS
from data_prep.recordings.checks import wrapped
from data_prep.recordings.episode import filled_pose
from data_prep.recordings.recording import Recording

KINDS = ("rotate", "polygon", "out_and_back")

WALKING = 4.317  # blocks per second
_IN_PLACE = 1.0  # blocks by which a player who only turns may be pushed
_FEWEST_BLOCKS = 0.5  # from the start, for a walk
_NEAR, _NEAR_SHARE = 0.2, 0.2  # blocks, and share of the reach, within which two places count as one
_FACING = 30.0  # degrees within which two views count as one
_LEFT_SHARE = 0.5  # of the reach: beyond it a lap has begun; of a way out: to here it must be walked back
_REPEATS = 0.9  # share of the frames after a lap, or on a way back, that must lie along it
_ROUND = 0.3  # 4 pi area / perimeter^2: a triangle has 0.6, a way out and back 0
_FEWEST_BACK = 3  # frames of a way back


@dataclass(frozen=True)
class Pattern:
    """A pattern, one of `KINDS`, and the number of frames of its context."""

    kind: str
    n_context: int


def find_pattern(recording: Recording) -> Pattern | None:
    """The pattern of a recording that leaves at least one frame after its context; None if there is none."""
    if not recording.source.is_minecraft:
        return None
    place, yaw = track(recording)
    reach = np.linalg.norm(place - place[0], axis=1).max()
    keys = recording.actions[:, [ACTIONS.index(name) for name in ("forward", "back", "left", "right")]]
    if not keys.any():
        contexts = {"rotate": _whole_turn(yaw) if reach <= _IN_PLACE else None}
    elif reach < _FEWEST_BLOCKS:
        return None
    else:
        contexts = {"polygon": _lap(place, yaw, reach), "out_and_back": _turning_point(place, yaw, reach)}
    found = (Pattern(kind, context) for kind, context in contexts.items() if context is not None)
    return next((pattern for pattern in found if pattern.n_context < len(yaw)), None)


def track(recording: Recording) -> tuple[Float[np.ndarray, "t 2"], Float[np.ndarray, "t"]]:
    """The place (x, z) in blocks and the unwrapped yaw in degrees of every frame."""
    pose = filled_pose(recording)
    columns = [recording.source.pose.index(name) for name in ("x", "z", "yaw")]
    if np.isfinite(pose[:, columns]).all():
        return pose[:, columns[:2]], np.degrees(np.unwrap(np.radians(pose[:, columns[2]])))
    yaw = np.cumsum(recording.camera_deg[:, 1].astype(np.float64))
    ahead = np.stack([-np.sin(np.radians(yaw)), np.cos(np.radians(yaw))], 1)
    right = np.stack([-ahead[:, 1], ahead[:, 0]], 1)
    forward, back, left, strafe = (
        recording.actions[:, ACTIONS.index(name), None] for name in ("forward", "back", "left", "right")
    )
    step = WALKING / recording.source.fps
    return np.cumsum(step * ((forward - back) * ahead + (strafe - left) * right), axis=0), yaw


def _whole_turn(yaw: np.ndarray) -> int | None:
    """Frames of the first whole turn."""
    covered = np.maximum.accumulate(yaw) - np.minimum.accumulate(yaw)
    return _first(covered >= 360 - 1e-3)


def _lap(place: np.ndarray, yaw: np.ndarray, reach: float) -> int | None:
    """Frames of the first lap, if the recording goes on along it."""
    distance = np.linalg.norm(place - place[0], axis=1)
    begun = np.maximum.accumulate(distance >= _LEFT_SHARE * reach)
    home = (distance <= _near(reach)) & (np.abs(wrapped(yaw - yaw[0])) <= _FACING)
    frames = _first(begun & home & (np.abs(yaw - yaw[0]) > 180))
    if frames is None or frames >= len(yaw):
        return None
    lap = place[:frames]
    if _roundness(lap) < _ROUND or not _along(place[frames:], lap, reach):
        return None
    return frames


def _turning_point(place: np.ndarray, yaw: np.ndarray, reach: float) -> int | None:
    """Frames of a way out, with the half turn at its end, that is then walked back."""
    distance = np.linalg.norm(place - place[0], axis=1)
    far = int(np.argmax(distance >= reach - _NEAR * _NEAR_SHARE))
    turned = _first(np.abs(wrapped(yaw[far:] - yaw[far])) >= 180 - _FACING)
    if turned is None:
        return None
    frames = far + turned
    back = place[frames:]
    if np.linalg.norm(place[frames - 1] - place[far]) > _near(reach):
        return None  # it did not turn in place
    way = place[: far + 1]
    if len(back) < _FEWEST_BACK or _distances(back, way).argmin(1).min() > _LEFT_SHARE * far:
        return None  # too little of the way back to tell
    return frames if _along(back, way, reach) else None


def _along(places: np.ndarray, way: np.ndarray, reach: float) -> bool:
    """Whether places lie on a way."""
    return bool(np.mean(_distances(places, way).min(1) <= _near(reach)) >= _REPEATS)


def _distances(places: np.ndarray, way: np.ndarray) -> Float[np.ndarray, "p w"]:
    """Distances of all places from all points of a way."""
    places, way = places - way[0], way - way[0]  # small numbers, whose squares lose less
    squares = (places**2).sum(1)[:, None] + (way**2).sum(1) - 2 * places @ way.T
    return np.sqrt(np.maximum(squares, 0))


def _near(reach: float) -> float:
    return _NEAR + _NEAR_SHARE * reach


def _roundness(lap: np.ndarray) -> float:
    """4 pi times the area that a closed way encloses, over the square of its length."""
    following = np.roll(lap, -1, axis=0)
    area = abs((lap[:, 0] * following[:, 1] - lap[:, 1] * following[:, 0]).sum()) / 2
    length = np.linalg.norm(following - lap, axis=1).sum()
    return float(4 * np.pi * area / max(length, 1e-9) ** 2)


def _first(mask: np.ndarray) -> int | None:
    """The number of elements up to and including the first that is true."""
    return int(np.argmax(mask)) + 1 if mask.any() else None
