"""What every recording must satisfy, whatever its format."""

import dataclasses

import numpy as np

from data_prep.recordings.actions import ACTIONS, MOVES
from data_prep.recordings.recording import BadRecording, Recording

TOLERANCE = 1.0  # degrees between a turn and the change of yaw
SHARE = 0.95  # of the steps that must agree
_TURNS = 5  # fewer turns do not show a misalignment
_MISALIGNED = 0.9  # if a smaller share of the turns agrees, shifts by a frame are tried
_STILL_AFTER = 10  # frames without a key, after which the player stands still
_DRIFT = 0.05  # blocks by which a player who stands still may move
_FASTEST = 40.0  # blocks per second; a sprinting jump makes 7, a fall from a tower 30


def check(recording: Recording) -> Recording:
    """The recording, with a note where something is odd but no defect.

    Raises:
      BadRecording: it has one frame, the first action is not zero, its context is all of it, or views and positions contradict
        the actions.
    """
    frames, context = recording.num_frames, recording.n_context
    if frames < 2:
        raise BadRecording(recording.video, f"{frames} frames", "at least 2")
    if recording.actions[0].any():
        found = f"the action of frame 0 is {recording.actions[0].tolist()}"
        raise BadRecording(recording.video, found, "zeros: nothing led to the first frame")
    if context is not None and not 0 < context < frames:
        found = f"a context of {context} among {frames} frames"
        raise BadRecording(recording.video, found, f"1 to {frames - 1}")
    problem = (_turns(recording) or _steps(recording)) if recording.source.is_minecraft else None
    if not problem:
        return recording
    if recording.source.strict:
        raise BadRecording(recording.video, *problem)
    return dataclasses.replace(recording, notes=(*recording.notes, f"{problem[0]} ({problem[1]} elsewhere)"))


def wrapped(degrees: np.ndarray) -> np.ndarray:
    """The same angles in [-180, 180)."""
    return (np.asarray(degrees) + 180) % 360 - 180


def _turns(recording: Recording) -> tuple[str, str] | None:
    """A contradiction between the changes of yaw and the camera, as found and expected; None if there is none."""
    turned = wrapped(np.diff(recording.pose[:, recording.source.pose.index("yaw")]))
    asked = recording.camera_deg[1:, 1].astype(np.float64)
    known = np.isfinite(turned)
    if not known.any():
        return None
    share, of_turns, turns = _agreement(turned, asked)
    if turns >= _TURNS and of_turns < _MISALIGNED:
        for word, was, led in (("late", turned[:-1], asked[1:]), ("early", turned[1:], asked[:-1])):
            _, shifted, turns = _agreement(was, led)
            if shifted >= SHARE and turns >= _TURNS:
                fit = f"they fit {of_turns:.0%} of the turns, shifted {shifted:.0%}"
                return f"the actions are one frame {word}: {fit}", "the action that led to a frame in its row"
    if share < SHARE:
        return f"yaw changes as the camera says in {share:.0%} of {known.sum()} steps", f"{SHARE:.0%}"
    return None


def _agreement(turned: np.ndarray, asked: np.ndarray) -> tuple[float, float, int]:
    """Shares of the steps, and of the steps with a turn, in which the yaw turned as asked; number of turns."""
    known = np.isfinite(turned)
    agrees = np.abs(wrapped(turned - asked)) <= TOLERANCE
    turning = known & ((np.abs(turned) > TOLERANCE) | (np.abs(asked) > TOLERANCE))
    of_turns = agrees[turning].mean() if turning.any() else 1.0
    return float(agrees[known].mean()), float(of_turns), int(turning.sum())


def _steps(recording: Recording) -> tuple[str, str] | None:
    """A contradiction between the changes of position and the keys, as found and expected; None if there is none."""
    columns = [recording.source.pose.index(name) for name in "xz"]
    moved = np.linalg.norm(np.diff(recording.pose[:, columns], axis=0), axis=1)
    known = np.isfinite(moved)
    if not known.any():
        return None
    pressed = recording.actions[1:, [ACTIONS.index(name) for name in MOVES]].any(1)
    recent = np.convolve(pressed, np.ones(_STILL_AFTER), "full")[: len(pressed)] > 0
    recent[:_STILL_AFTER] = True  # the keys before the first frame are not known
    possible = (moved <= _FASTEST / recording.source.fps) & (recent | (moved <= _DRIFT))
    share = possible[known].mean()
    if share >= SHARE:
        return None
    return f"positions change as the keys allow in {share:.0%} of {known.sum()} steps", f"{SHARE:.0%}"
