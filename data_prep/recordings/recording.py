"""What every reader returns: a `Recording`, or an error of one line, `BadRecording`, that says what is wrong.

Conventions, the same for every format:

    actions[t]      the action that led to frame t; row 0 is zero
    pose[t]         the state in which frame t was rendered; NaN where the source does not say
    yaw             degrees, clockwise seen from above; 0 looks to +z, so that ahead is (-sin yaw, cos yaw) in (x, z)
    pitch           degrees, down positive
    camera_deg[t]   degrees by which the view turned towards frame t, (pitch, yaw)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rad_jax.errors import UserError

POSE = ("x", "y", "z", "yaw", "pitch")


def unknown_pose(frames: int) -> Float[np.ndarray, "t 5"]:
    """The pose of a recording that says nothing of it."""
    return np.full((frames, len(POSE)), np.nan)


class BadRecording(UserError, ValueError):
    """A recording that cannot be used. One line: the file, what was found, what was expected."""

    def __init__(self, path: Path | str, found: str, expected: str = ""):
        super().__init__(path, found, expected)  # by which it is made again from a pickle

    def __str__(self) -> str:
        path, found, expected = self.args
        return f"{path}: {found}" + (f", expected {expected}" if expected else "")


@dataclass(frozen=True)
class Candidate:
    """Files that should be one recording.

    Attributes:
      id: name of the recording, unique under its directory: the path of its files without suffix, "/" written "-".
      stem: that path, or the directory that holds the files.
      files: those that exist, by suffix or name.
    """

    id: str
    stem: Path
    files: Mapping[str, Path]

    def file(self, key: str) -> Path:
        """The file of a suffix or name. Raises `BadRecording` if it is missing."""
        if key not in self.files:
            there = ", ".join(path.name for path in self.files.values())
            raise BadRecording(self.stem, f"{key} is missing beside {there}")
        return self.files[key]


@dataclass(frozen=True)
class Source:
    """Facts of a format.

    Attributes:
      format: name of the reader.
      title: whose files these are.
      fps: frames per second of play.
      actions: names of the entries of an action.
      pose: names of the columns of a pose.
      skip: useless frames at the start, which are left out.
      strict: whether a view or position that contradicts the actions is a defect. False where the files are known to hold
        motion that no action explains; there it becomes a note.
    """

    format: str
    title: str
    fps: int
    actions: tuple[str, ...]
    pose: tuple[str, ...] = POSE
    skip: int = 0
    strict: bool = True


@dataclass(frozen=True)
class Recording:
    """One episode as its source has it, but for the frames, which `data_prep.recordings.frames` reads.

    Attributes:
      id: that of its candidate.
      source: facts of the format.
      video: the file that holds the frames.
      video_frames: frames of that file, counted by decoding it.
      actions: float32, row 0 zero.
      pose: float64, columns `source.pose`, NaN where unknown.
      camera_deg: float32, row 0 zero; None where the view has no pitch and yaw.
      first_frame: the frame of the video that is frame 0 here; those before it are left out.
      n_context: frames that an evaluation gives, where the source says so.
      arrays, statics: what else the source knows of each frame, and of the episode, as the data set stores it.
      cursor: x and y in pixels of a mouse pointer to draw into the frame, float32, NaN for none; or None.
      repeat_last: the last frame cannot be trusted; the one before it is shown twice.
      notes: what a user should know of the recording, though it is no defect.
    """

    id: str
    source: Source
    video: Path
    video_frames: int
    actions: Float[np.ndarray, "t a"]
    pose: Float[np.ndarray, "t p"]
    camera_deg: Float[np.ndarray, "t 2"] | None = None
    first_frame: int = 0
    n_context: int | None = None
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    statics: Mapping[str, np.ndarray] = field(default_factory=dict)
    cursor: Float[np.ndarray, "t 2"] | None = None
    repeat_last: bool = False
    notes: tuple[str, ...] = ()

    @property
    def num_frames(self) -> int:
        return len(self.actions)

    def cut(self, start: int, stop: int | None = None) -> "Recording":
        """Frames ``start`` to ``stop`` - 1 as a recording of their own; the action before its first frame is zero.

        Raises:
          BadRecording: fewer than two frames would be left.
        """
        stop = self.num_frames if stop is None else min(stop, self.num_frames)
        if stop - start < 2:
            raise BadRecording(
                self.video, f"{self.num_frames} frames", f"at least 2 after the first {start} are left out"
            )

        def rows(array: np.ndarray | None) -> np.ndarray | None:
            return None if array is None else array[start:stop].copy()

        actions, camera = rows(self.actions), rows(self.camera_deg)
        for array in (actions, camera):
            if array is not None:
                array[0] = 0
        context = None if self.n_context is None else self.n_context - start
        return replace(
            self,
            first_frame=self.first_frame + start,
            actions=actions,
            camera_deg=camera,
            pose=rows(self.pose),
            n_context=context if context is not None and 0 < context < stop - start else None,
            arrays={name: rows(array) for name, array in self.arrays.items()},
            cursor=rows(self.cursor),
            repeat_last=self.repeat_last and stop == self.num_frames,
        )
