"""The record of a training: metrics.jsonl, TensorBoard events, videos, progress lines.

`metrics.jsonl` has one JSON object per line, with "step" (optimiser steps done) first. Keys that begin with "time/" depend
on the machine and the moment. All others are a function of configuration and seed: without the "time/" keys, the file of a
run that was killed and resumed equals that of a run that was not. Values that are not finite are written as null.
"""

import contextlib
import errno
import io
import json
import logging
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from rad_jax import files, media
from rad_jax.errors import failure_of_the_system
from rad_jax.files.json_files import parse_json
from rad_jax.reports.hardware import STEP_SECONDS

log = logging.getLogger(__name__)


class Writer:
    """Writes scalars and videos of one run into its working directory.

    A failure to write costs the record, not the run: the first failure of each kind of file is logged as a warning, and the
    training continues. Writes are done when a method returns. Hold the `WorkdirLock` before the first one. In a run of
    several processes only process 0 writes; calls in the others do nothing.
    """

    def __init__(self, workdir: str | os.PathLike, resume_step: int = 0):
        """Continues after `resume_step`: lines of later steps, which a killed process was ahead, are dropped.

        For the files to agree, metrics up to a step must be written before the checkpoint of that step is saved.
        """
        self._directory = pathlib.Path(workdir)
        self._active = jax.process_index() == 0
        self._failed: set[str] = set()
        self._events = None
        if self._active:
            self._attempt("metrics.jsonl", self._drop_after, resume_step)
            self._attempt("tensorboard", self._open_events, resume_step)

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl and one point per key in TensorBoard; values are numbers or scalar arrays."""
        numbers = {name: float(value) for name, value in values.items()}
        self._attempt("metrics.jsonl", self._append, {"step": step, **numbers})
        self._summarise(step, [{"tag": name, "simple_value": number} for name, number in numbers.items()])

    def video(self, step: int, name: str, frames: UInt8[np.ndarray, "t H W 3"], fps: int) -> None:
        """``NAME/STEP.mp4``, and a GIF in TensorBoard."""
        path = self._directory / name / f"{step:08d}.mp4"
        self._attempt(name, media.write_video, path, frames, fps)
        first, *others = (Image.fromarray(frame) for frame in frames)
        gif = io.BytesIO()
        timing = {"duration": round(1000 / fps), "loop": 0}  # ms of a frame; for ever
        first.save(gif, "GIF", save_all=True, append_images=others, **timing)
        size = {"height": first.height, "width": first.width, "colorspace": 3}
        self._summarise(step, [{"tag": name, "image": {**size, "encoded_image_string": gif.getvalue()}}])

    @contextlib.contextmanager
    def profile(self) -> Iterator[None]:
        """Traces what happens meanwhile into ``profile/``, for TensorBoard or Perfetto."""
        directory = self._directory / "profile"
        jax.profiler.start_trace(directory)
        try:
            yield
        finally:
            before = set(directory.rglob("*"))
            try:
                jax.profiler.stop_trace()
            except RuntimeError as error:
                self.warn("profile", failure_of_the_system(error, directory) or error)
                for path in set(directory.rglob("*.pb")) - before:
                    path.unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the event file."""
        if self._events is not None:
            self._attempt("tensorboard", self._events.close)
            # Of a full disk, what could not be written would be tried once more, and fail, as Python ends.
            self._events._py_recordio_writer._writer.raw.close()
            self._events = None

    def _drop_after(self, step: int) -> None:
        path = self._directory / "metrics.jsonl"
        if path.exists():
            content = path.read_bytes()
            valid = b"".join(line for line in content.splitlines(keepends=True) if _is_at_most(line, step))
            if content.startswith(valid):
                os.truncate(path, len(valid))  # which a full disk allows
            else:
                files.write_bytes(path, valid)

    def _append(self, record: Mapping[str, Any]) -> None:
        finite = {k: v if math.isfinite(v) else None for k, v in record.items()}
        line = (json.dumps(finite, allow_nan=False) + "\n").encode("utf-8")
        with open(self._directory / "metrics.jsonl", "ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if file.write(line) != len(line):  # half a line would spoil the next one as well
                file.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _open_events(self, resume_step: int) -> None:
        # The synchronous part of tensorboardX. Its SummaryWriter passes events to a thread that dies when the disk is full,
        # and then every call blocks.
        from tensorboardX.event_file_writer import EventsWriter

        (self._directory / "tensorboard").mkdir(parents=True, exist_ok=True)
        # The names of tensorboardX have a resolution of one second, and opening an existing file would empty it.
        prefix = os.fspath(self._directory / "tensorboard" / "events")
        self._events = EventsWriter(prefix, f".{files.token()}")
        # TensorBoard hides what an earlier process of this run logged from this step on.
        self._write_event(resume_step + 1, session_log={"status": "START"})

    def _summarise(self, step: int, values: list[dict[str, Any]]) -> None:
        if self._events is not None:
            self._attempt("tensorboard", self._write_event, step, summary={"value": values})

    def _write_event(self, step: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._events.write_event(Event(wall_time=time.time(), step=step, **content))
        self._events.flush()

    def _attempt(self, what: str, action: Callable[..., None], *arguments: Any, **keywords: Any) -> None:
        if not self._active:
            return
        try:
            action(*arguments, **keywords)
        except OSError as error:
            self.warn(what, error)

    def warn(self, what: str, error: Exception) -> None:
        """Says, the first time, why a kind of file will not be complete."""
        if self._active and what not in self._failed:
            self._failed.add(what)
            log.warning("%s is not complete, training continues: %s", self._directory / what, error)


def _is_at_most(line: bytes, step: int) -> bool:
    """Whether a line is whole and of a step up to this one; others belong to steps that will be done again."""
    try:
        return line.endswith(b"\n") and parse_json(line, {"step": int})["step"] <= step
    except ValueError:
        return False


class Progress:
    """Speed and remaining time, from steps and the clock alone."""

    def __init__(self, steps: int, frames_per_step: int, first_step: int = 0):
        """`steps` in the whole run, `frames_per_step` of video in a batch, `first_step` after a resume."""
        self._steps, self._frames = steps, frames_per_step
        self._start = self._last = (first_step, time.monotonic())
        self._warm: tuple[int, float] | None = None

    def report(self, step: int) -> dict[str, float]:
        """The "time/" keys at `step`: seconds since the start, speed since the last report, and estimated seconds to the end.

        The estimate uses the mean speed of this process without its first report, which contains the compilation; for the
        same reason the first report has no `STEP_SECONDS`.
        """
        now = step, time.monotonic()
        speed = _rate(self._last, now)
        mean = _rate(self._warm, now) if self._warm else speed
        measured = {STEP_SECONDS: 1 / speed} if self._warm else {}
        self._last, self._warm = now, self._warm or now
        return {
            "time/seconds": now[1] - self._start[1],
            "time/steps_per_second": speed,
            "time/frames_per_second": speed * self._frames,
            "time/eta_seconds": (self._steps - step) / mean,
            **measured,
        }

    def line(self, step: int, values: Mapping[str, Any]) -> str:
        """One line for the terminal from the values that are logged: loss, gradient norm, speed, remaining time."""
        return (
            f"step {step:>{len(str(self._steps))}}/{self._steps}  loss {values['loss']:.4f}  "
            f"grad norm {values['grad_norm']:.3f}  {values['time/steps_per_second']:.2f} steps/s  "
            f"{values['time/frames_per_second']:.0f} frames/s  ETA {tqdm.format_interval(values['time/eta_seconds'])}"
        )


def _rate(begin: tuple[int, float], end: tuple[int, float]) -> float:
    return (end[0] - begin[0]) / max(end[1] - begin[1], 1e-9)
