"""The evaluation to look at: curves, side-by-side videos, and ``report.html``, one file that opens without a network."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rad_jax import media
from rad_jax.errors import UserError
from rad_jax.files import write_bytes
from rad_jax.metrics import psnr
from rad_jax.metrics.video import unit_range
from rad_jax.reports.page import Film, Line, page
from rad_jax.reports.plots import curves

PAGE_BYTES = (
    12_000_000  # the page is at most about this large; pictures and videos that do not fit are linked
)
LINE = 12  # frames per line of a filmstrip
CONTEXT_SHOWN = 24


class ReportError(UserError, ValueError):
    """Samples that cannot be shown."""


@dataclass(frozen=True)
class Sample:
    """One video to show. Frames are (t, H, W, 3), uint8 or floats in [0, 1].

    Attributes:
        title: what it is.
        context: the frames that were given.
        truth: the frames that were to be predicted.
        predictions: row name -> frames; the model first, then its no-memory twin or whatever else is to be seen.
    """

    title: str
    context: np.ndarray
    truth: np.ndarray
    predictions: Mapping[str, np.ndarray]

    def __post_init__(self):
        for name, frames in self.predictions.items():
            if frames.shape != self.truth.shape:
                raise ReportError(
                    f"sample {self.title!r}: {name!r} has shape {frames.shape}, the truth {self.truth.shape}"
                )
        if len(self.context) == 0 or self.context.shape[1:] != self.truth.shape[1:]:
            raise ReportError(
                f"sample {self.title!r}: a context of shape {self.context.shape} cannot precede {self.truth.shape}"
            )


def write_report(
    directory: Path | str,
    metrics: Mapping[str, Any],
    samples: Sequence[Sample],
    *,
    title: str,
    facts: Mapping[str, Any],
    provenance: Mapping[str, Any],
    config: str = "",
    fps: int | float = 4,
    page_bytes: int = PAGE_BYTES,
) -> Path:
    """Write ``curves.png``, ``videos/*.mp4`` and ``report.html`` into ``directory``; each file is whole or not there.

    Args:
        directory: made if it is missing; files of an earlier report are replaced.
        metrics: what ``scores.score_rows`` returned.
        samples: the videos to show, the most telling first.
        title: of the page.
        facts: what the model is: variant, memory, parameters, steps, condition, sampler; shown below the title.
        provenance: where the numbers come from: command, commit, data set, versions, hardware, time.
        config: the resolved configuration as text; folded away at the end.
        fps: frames per second of the videos.
        page_bytes: about how large the page may become.

    Returns:
        The path of the page.
    """
    directory = Path(directory)
    plot = curves(metrics)
    write_bytes(directory / "curves.png", plot)
    drawing = media.data_uri(plot, "image/png")
    films = write_films(
        directory,
        {f"{number:02d}": sample for number, sample in enumerate(samples)},
        lambda sample: side_by_side_video(sample, fps),
        page_bytes - len(drawing),
    )
    html = page(title, facts, metrics, drawing, films, provenance, config)
    write_bytes(directory / "report.html", html.encode())
    return directory / "report.html"


def write_films(
    directory: Path, samples: Mapping[str, Sample], encode: Callable[[Sample], bytes], page_bytes: int
) -> list[Film]:
    """Writes ``videos/NAME.mp4`` for every sample by name; returns what the page shows of them, in about ``page_bytes``.

    What would make the page too large is left out: first the video, which is linked instead, then the pictures.
    """
    films, left = [], page_bytes
    for name, sample in samples.items():
        path = directory / "videos" / f"{name}.mp4"
        video = encode(sample)
        write_bytes(path, video)
        whole = film_of(sample, media.data_uri(video, "video/mp4"))
        linked = whole.linked(f"videos/{path.name}")
        film = next((film for film in (whole, linked) if film.size <= left), linked.without_pictures())
        left -= film.size
        films.append(film)
    return films


def side_by_side_video(sample: Sample, fps: int | float) -> bytes:
    """An mp4 with the truth and every prediction in columns, the context first."""
    context = media.to_uint8(sample.context)
    columns = {"truth": sample.truth} | dict(sample.predictions)
    whole = {name: np.concatenate([context, media.to_uint8(frames)]) for name, frames in columns.items()}
    return media.encode_video(media.side_by_side(whole, len(context)), fps)


def film_of(sample: Sample, video: str) -> Film:
    """The pictures of a sample: its context, thinned if it is long, and every predicted frame below the true one."""
    truth, context = media.to_uint8(sample.truth), media.to_uint8(sample.context)
    shown = np.unique(np.linspace(0, len(context) - 1, min(len(context), CONTEXT_SHOWN)).round().astype(int))
    rows = {"truth": truth} | {name: media.to_uint8(frames) for name, frames in sample.predictions.items()}
    scores = {
        name: float(psnr(unit_range(frames), unit_range(sample.truth)).mean())
        for name, frames in sample.predictions.items()
    }
    per_line = math.ceil(len(truth) / math.ceil(len(truth) / LINE))
    lines = [
        Line(
            numbers=range(first + 1, min(first + per_line, len(truth)) + 1),
            strips=[_strip(frames[first : first + per_line]) for frames in rows.values()],
        )
        for first in range(0, len(truth), per_line)
    ]
    return Film(
        title=sample.title,
        video=video,
        height=_display_height(truth.shape[1]),
        context=_strip(context[shown]),
        context_frames=len(context),
        context_shown=len(shown),
        rows={name: scores.get(name) for name in rows},
        lines=lines,
    )


def _strip(frames: np.ndarray) -> str:
    height = frames.shape[1]
    kind = "webp" if height <= 128 else "jpeg"  # lossless where it is affordable
    picture = media.strip(frames, gap=max(1, height // 32))
    return media.data_uri(media.encode_picture(picture, kind), f"image/{kind}")


def _display_height(height: int) -> int:
    """About 64 px, by a whole factor where frames are small, so that all their pixels look alike."""
    return height * max(1, round(64 / height)) if height <= 96 else 96
