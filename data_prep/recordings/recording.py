"""What every reader returns: a `Recording`, or an error of one line, `BadRecording`, that says what is wrong.

Conventions, the same for every format:

    actions[t]      the action that led to frame t; row 0 is zero
    pose[t]         the state in which frame t was rendered; NaN where the source does not say
    yaw             degrees, clockwise seen from above; 0 looks to +z, so that ahead is (-sin yaw, cos yaw) in (x, z)
    pitch           degrees, down positive
    camera_deg[t]   degrees by which the view turned towards frame t, (pitch, yaw)
"""

import contextlib
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data_prep.recordings.actions import ACTIONS
from rad_jax.errors import UserError, shown
from rad_jax.files import lfs

POSE = ("x", "y", "z", "yaw", "pitch")


def unknown_pose(frames: int) -> Float[np.ndarray, "t 5"]:
    """The pose of a recording that says nothing of it."""
    return np.full((frames, len(POSE)), np.nan)


_LONGEST = 400  # characters of what was found


class BadRecording(UserError, ValueError):
    """A recording that cannot be used. One line: the file, what was found, what was expected."""

    def __init__(self, path: Path | str, found: str, expected: str = ""):
        super().__init__(path, found, expected)  # by which it is made again from a pickle

    def __str__(self) -> str:
        path, found, expected = self.args
        # Names and values come from the file: a new line in one is still one line here, and one as long as the file is cut.
        return shown(f"{path}: {shown(found, _LONGEST)}" + (f", expected {expected}" if expected else ""))


@contextlib.contextmanager
def refusing(path: Path, problem: str, expected: str = "") -> Iterator[None]:
    """Raises whatever a library raises that reads a file (each has errors of its own) as `BadRecording`."""
    try:
        yield
    except BadRecording:
        raise
    except Exception as error:
        if lfs.is_pointer(path):
            raise BadRecording(path, lfs.ADVICE) from None
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise BadRecording(path, f"{problem} ({text.splitlines()[0][:120]})", expected) from error


@dataclass(frozen=True)
class Source:
    """Facts of a format.

    Attributes:
      format: name of the reader.
      title: whose files these are.
      fps: frames per second of play.
      endings: how the paths of its files end, the one with the frames first. The rest of the path is the same for all files of
        a recording; it is their directory where endings begin with "/".
      actions: names of the entries of an action.
      pose: names of the columns of a pose.
      skip: useless frames at the start, which are left out.
      strict: whether a view or position that contradicts the actions is a defect. False where the files are known to hold
        motion that no action explains; there it becomes a note.
      spare_row: whether the last action may lead nowhere, to a frame that the video does not have.
    """

    format: str
    title: str
    fps: int
    endings: tuple[str, ...]
    actions: tuple[str, ...] = ACTIONS
    pose: tuple[str, ...] = POSE
    skip: int = 0
    strict: bool = True
    spare_row: bool = False

    @property
    def is_minecraft(self) -> bool:
        """Whether actions are the vector of Oasis, views have pitch and yaw, and poses are Minecraft's."""
        return self.actions == ACTIONS


@dataclass(frozen=True)
class Candidate:
    """Files that should be one recording.

    Attributes:
      id: name of the recording, unique under its directory: the path of its files without ending, "/" written "-".
      files: those that exist, by the ending of their path.
      problem: why they cannot be one; empty unless the search for files has found a reason. Of a directory that cannot be
        searched, it is all that is known.
    """

    id: str
    files: Mapping[str, Path]
    problem: str = ""

    def file(self, ending: str) -> Path:
        """The file whose path ends so. Raises `BadRecording` if it is missing, or no file (a named pipe is read for ever)."""
        other = next(iter(self.files.values()))
        if self.problem:
            raise BadRecording(other, self.problem)
        if ending not in self.files:
            raise BadRecording(other, f"{ending.removeprefix('/')} is missing beside it")
        path = self.files[ending]
        with refusing(path, "cannot be opened"):
            if not stat.S_ISREG(path.stat().st_mode):
                raise BadRecording(path, "a named pipe or a device", "a file")
        return path


@dataclass(frozen=True)
class Recording:
    """One episode as its source has it, but for the frames, which `data_prep.recordings.frames` reads.

    Attributes:
      candidate: its files.
      source: facts of the format.
      actions: float32, row 0 zero.
      pose: float64, columns `source.pose`, NaN where unknown.
      camera_deg: float32, row 0 zero; None where the view has no pitch and yaw.
      video_frames: frames of the video; 0 until they have been counted, by decoding it.
      first_frame: the frame of the video that is frame 0 here; those before it are left out.
      n_context: frames that an evaluation gives, where the source says so.
      arrays, statics: what else the source knows of each frame, and of the episode, as the data set stores it.
      cursor: x and y in pixels of a mouse pointer to draw into the frame, float32, NaN for none; or None.
      repeat_last: the last frame cannot be trusted; the one before it is shown twice.
      notes: what a user should know of the recording, though it is no defect.
    """

    candidate: Candidate
    source: Source
    actions: Float[np.ndarray, "t a"]
    pose: Float[np.ndarray, "t p"]
    camera_deg: Float[np.ndarray, "t 2"] | None = None
    video_frames: int = 0
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

    @property
    def video(self) -> Path:
        """The file that holds the frames."""
        return self.candidate.file(self.source.endings[0])

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
        actions[0] = 0
        if camera is not None:
            camera[0] = 0
        context = (self.n_context or 0) - start
        return replace(
            self,
            first_frame=self.first_frame + start,
            actions=actions,
            camera_deg=camera,
            pose=rows(self.pose),
            n_context=context if 0 < context < stop - start else None,
            arrays={name: rows(array) for name, array in self.arrays.items()},
            cursor=rows(self.cursor),
            repeat_last=self.repeat_last and stop == self.num_frames,
        )
