"""Finds recordings that move in a pattern on which a memory can be tested, and where the context of the pattern ends.

    rotate        turns in place by at least a whole turn; the context is the first whole turn
    polygon       a lap around corners, then again along it; the context is the first lap
    out_and_back  a way out, half a turn, and back along it; the context ends with the turn

A pattern is found in the poses, or where these are unknown in the actions, as if every step forward moved at walking speed.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float

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
    reach = np.abs(place - place[0]).max()
    keys = recording.actions[:, [ACTIONS.index(name) for name in ("forward", "back", "left", "right")]]
    if not keys.any():
        covered = np.maximum.accumulate(yaw) - np.minimum.accumulate(yaw)
        contexts = {"rotate": _first(covered >= 360 - 1e-3) if reach <= _IN_PLACE else None}
    elif reach < _FEWEST_BLOCKS:
        return None
    else:
        contexts = {"polygon": _lap(place, yaw, reach), "out_and_back": _turning_point(place, yaw, reach)}
    found = (Pattern(kind, context) for kind, context in contexts.items() if context is not None)
    return next((pattern for pattern in found if pattern.n_context < len(yaw)), None)


def track(recording: Recording) -> tuple[Complex[np.ndarray, "t"], Float[np.ndarray, "t"]]:
    """The place x + iz in blocks and the unwrapped yaw in degrees of every frame."""
    pose = dict(zip(recording.source.pose, filled_pose(recording).T, strict=True))
    x, z, yaw = (pose[name] for name in ("x", "z", "yaw"))
    if np.isfinite([x, z, yaw]).all():
        return x + 1j * z, np.degrees(np.unwrap(np.radians(yaw)))
    yaw = np.cumsum(recording.camera_deg[:, 1].astype(np.float64))
    ahead = 1j * np.exp(1j * np.radians(yaw))
    pressed = dict(zip(ACTIONS, recording.actions.T, strict=True))
    keys = pressed["forward"] - pressed["back"] + 1j * (pressed["right"] - pressed["left"])
    return np.cumsum(keys * ahead * WALKING / recording.source.fps), yaw


def _lap(place: np.ndarray, yaw: np.ndarray, reach: float) -> int | None:
    """Frames of the first lap, if the recording goes on along it."""
    distance = np.abs(place - place[0])
    begun = np.maximum.accumulate(distance >= _LEFT_SHARE * reach)
    home = (distance <= _near(reach)) & (np.abs(wrapped(yaw - yaw[0])) <= _FACING)
    frames = _first(begun & home & (np.abs(yaw - yaw[0]) > 180))
    if frames is None or frames >= len(yaw):
        return None
    lap = place[:frames]
    return frames if _roundness(lap) >= _ROUND and _along(place[frames:], lap, reach) else None


def _turning_point(place: np.ndarray, yaw: np.ndarray, reach: float) -> int | None:
    """Frames of a way out, with the half turn at its end, that is then walked back."""
    far = int(np.argmax(np.abs(place - place[0]) >= reach - _NEAR * _NEAR_SHARE))
    turned = _first(np.abs(wrapped(yaw[far:] - yaw[far])) >= 180 - _FACING)
    if turned is None or np.abs(place[far + turned - 1] - place[far]) > _near(reach):
        return None  # it did not turn, or not in place
    frames = far + turned
    way, back = place[: far + 1], place[frames:]
    if len(back) < _FEWEST_BACK or np.abs(back[:, None] - way).argmin(1).min() > _LEFT_SHARE * far:
        return None  # too little of the way back to tell
    return frames if _along(back, way, reach) else None


def _along(places: np.ndarray, way: np.ndarray, reach: float) -> bool:
    """Whether places lie on a way."""
    return bool(np.mean(np.abs(places[:, None] - way).min(1) <= _near(reach)) >= _REPEATS)


def _near(reach: float) -> float:
    return _NEAR + _NEAR_SHARE * reach


def _roundness(lap: np.ndarray) -> float:
    """4 pi times the area that a closed way encloses, over the square of its length."""
    corners = lap - lap[0]  # small numbers, whose products lose less
    following = np.roll(corners, -1)
    area, length = abs((corners.conj() * following).imag.sum()) / 2, np.abs(following - corners).sum()
    return float(4 * np.pi * area / max(length, 1e-9) ** 2)


def _first(mask: np.ndarray) -> int | None:
    """The number of elements up to and including the first that is true."""
    return int(np.argmax(mask)) + 1 if mask.any() else None
