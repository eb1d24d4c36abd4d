"""Episodes on a page: a video of each, and every predicted frame as a picture below the true one."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rad_jax import media
from rad_jax.errors import UserError
from rad_jax.files import write_bytes
from rad_jax.metrics import psnr
from rad_jax.metrics.video import unit_range

FRAMES_ABREAST = 12  # at most
CONTEXT_SHOWN = 24  # frames of a longer context, evenly spaced


class ReportError(UserError, ValueError):
    """Frames that cannot be shown beside each other."""


@dataclass(frozen=True)
class EpisodeFrames:
    """An episode to show. All frames are (t, H, W, 3), uint8 or floats in [0, 1].

    Attributes:
        title: its name.
        context: the frames that were given, at least one.
        truth: the frames that were to be predicted.
        predictions: name of a row -> its frames, as many as ``truth`` has; in the order in which they are shown.

    Raises:
        ReportError: the shapes do not fit.
    """

    title: str
    context: np.ndarray
    truth: np.ndarray
    predictions: Mapping[str, np.ndarray]

    def __post_init__(self):
        for name, frames in self.predictions.items():
            if frames.shape != self.truth.shape:
                raise ReportError(
                    f"episode {self.title!r}: {name!r} has shape {frames.shape}, the truth {self.truth.shape}"
                )
        if len(self.context) == 0 or self.context.shape[1:] != self.truth.shape[1:]:
            raise ReportError(
                f"episode {self.title!r}: a context of shape {self.context.shape} cannot precede {self.truth.shape}"
            )

    def videos(self) -> dict[str, np.ndarray]:
        """The truth and every prediction by name, each behind the context, as uint8 (t, H, W, 3)."""
        context = media.to_uint8(self.context)
        rows = {"truth": self.truth} | dict(self.predictions)
        return {name: np.concatenate([context, media.to_uint8(frames)]) for name, frames in rows.items()}


@dataclass(frozen=True)
class FrameRange:
    """Consecutive predicted frames: their indices from 1, and one picture of all of them for every row."""

    indices: Sequence[int]
    pictures: Sequence[str]


@dataclass(frozen=True)
class EpisodeView:
    """An episode as the page shows it. Videos and pictures are data URIs, or paths relative to the page.

    Attributes:
        title: name of the episode.
        video: the rows side by side.
        height: of a frame on the page, px.
        context: picture of the context; empty if left out.
        context_frames: how many there were, of which ``context_shown`` are in the picture.
        psnr: name of a row -> its mean PSNR in dB; None for the truth.
        ranges: all predicted frames; empty if left out.
    """

    title: str
    video: str
    height: int
    context: str
    context_frames: int
    context_shown: int
    psnr: Mapping[str, float | None]
    ranges: Sequence[FrameRange]

    @property
    def size(self) -> int:
        """Bytes that it takes on the page."""
        pictures = [picture for frames in self.ranges for picture in frames.pictures]
        return sum(map(len, [self.video, self.context, *pictures]))


def write_episodes(
    directory: Path,
    episodes: Mapping[str, EpisodeFrames],
    encode: Callable[[EpisodeFrames], bytes],
    page_bytes: int,
) -> list[EpisodeView]:
    """Writes ``videos/NAME.mp4`` for every episode by name, and returns views that take about ``page_bytes`` together.

    Of an episode that would make the page too large, the video is linked instead of embedded; if that is not enough, its
    pictures are left out too.
    """
    views, bytes_left = [], page_bytes
    for name, episode in episodes.items():
        path = directory / "videos" / f"{name}.mp4"
        video = encode(episode)
        write_bytes(path, video)
        embedded = view_episode(episode, media.data_uri(video, "video/mp4"))
        linked = dataclasses.replace(embedded, video=f"videos/{path.name}")
        bare = dataclasses.replace(linked, context="", ranges=())
        view = next((view for view in (embedded, linked) if view.size <= bytes_left), bare)
        bytes_left -= view.size
        views.append(view)
    return views


def view_episode(episode: EpisodeFrames, video: str) -> EpisodeView:
    """The pictures of an episode: its context, thinned if it is long, and all predicted frames."""
    truth, context = media.to_uint8(episode.truth), media.to_uint8(episode.context)
    shown = np.unique(np.linspace(0, len(context) - 1, min(len(context), CONTEXT_SHOWN)).round().astype(int))
    rows = {"truth": truth} | {name: media.to_uint8(frames) for name, frames in episode.predictions.items()}
    scores = {
        name: float(psnr(unit_range(frames), unit_range(episode.truth)).mean())
        for name, frames in episode.predictions.items()
    }
    length = math.ceil(len(truth) / math.ceil(len(truth) / FRAMES_ABREAST))
    ranges = [
        FrameRange(
            indices=range(first + 1, min(first + length, len(truth)) + 1),
            pictures=[_picture(frames[first : first + length]) for frames in rows.values()],
        )
        for first in range(0, len(truth), length)
    ]
    return EpisodeView(
        title=episode.title,
        video=video,
        height=_display_height(truth.shape[1]),
        context=_picture(context[shown]),
        context_frames=len(context),
        context_shown=len(shown),
        psnr={name: scores.get(name) for name in rows},
        ranges=ranges,
    )


def _picture(frames: np.ndarray) -> str:
    height = frames.shape[1]
    kind = "webp" if height <= 128 else "jpeg"  # lossless where it is affordable
    picture = media.filmstrip(frames, gap=max(1, height // 32))
    return media.data_uri(media.encode_picture(picture, kind), f"image/{kind}")


def _display_height(height: int) -> int:
    """About 64 px; frames up to 96 px are enlarged by a whole factor, so that all their pixels look alike."""
    return height * max(1, round(64 / height)) if height <= 96 else 96
