"""Episodes on a page: a video of each, and every predicted frame as a picture below the true one."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from rad_jax import media
from rad_jax.files import write_bytes
from rad_jax.metrics import psnr
from rad_jax.metrics.video import unit_range

FRAMES_ABREAST = 12  # at most
CONTEXT_SHOWN = 24  # frames of a longer context, evenly spaced


class EpisodeFrames(NamedTuple):
    """An episode to show.

    Attributes:
        file: name of its video, without ".mp4".
        title: what it is called on the page.
        frames: the true ones.
        context: how many of them were given, at least one.
        predictions: name of a row -> its frames after the context; in the order in which they are shown.
    """

    file: str
    title: str
    frames: UInt8[np.ndarray, "t H W 3"]
    context: int
    predictions: Mapping[str, UInt8[np.ndarray, "k H W 3"]]

    def videos(self) -> dict[str, UInt8[np.ndarray, "t H W 3"]]:
        """The truth and every prediction by name, each behind the context."""
        given = self.frames[: self.context]
        predicted = {name: np.concatenate([given, frames]) for name, frames in self.predictions.items()}
        return {"truth": self.frames} | predicted


@dataclasses.dataclass(frozen=True)
class EpisodeView:
    """An episode as the page shows it. Videos and pictures are data URIs, or paths relative to the page.

    Attributes:
        title: name of the episode.
        video: the rows side by side.
        height: of a frame on the page, px.
        context: picture of the context; empty if left out.
        context_frames: how many there were, of which ``context_shown`` are in the picture.
        psnr: name of a row -> its mean PSNR in dB; None for the truth.
        ranges: all predicted frames; empty if left out. Of each range of them their indices, from 1, and one picture of all
            of them for every row.
    """

    title: str
    video: str
    height: int
    context: str
    context_frames: int
    context_shown: int
    psnr: Mapping[str, float | None]
    ranges: Sequence[tuple[range, Sequence[str]]]

    @property
    def size(self) -> int:
        """Bytes that it takes on the page."""
        pictures = itertools.chain(*(pictures for _, pictures in self.ranges))
        return sum(map(len, [self.video, self.context, *pictures]))


def write_episodes(
    directory: Path,
    episodes: Sequence[EpisodeFrames],
    encode: Callable[[EpisodeFrames], bytes],
    page_bytes: int,
) -> list[EpisodeView]:
    """Writes ``videos/FILE.mp4`` for every episode, and returns views that take about ``page_bytes`` together.

    Of an episode that would make the page too large, the video is linked instead of embedded; if that is not enough, its
    pictures are left out too.
    """
    views, bytes_left = [], page_bytes
    for episode in episodes:
        path = f"videos/{episode.file}.mp4"
        video = encode(episode)
        write_bytes(directory / path, video)
        embedded = view_episode(episode, media.data_uri(video, "video/mp4"))
        linked = dataclasses.replace(embedded, video=path)
        bare = dataclasses.replace(linked, context="", ranges=())
        view = next((view for view in (embedded, linked) if view.size <= bytes_left), bare)
        bytes_left -= view.size
        views.append(view)
    return views


def view_episode(episode: EpisodeFrames, video: str) -> EpisodeView:
    """The pictures of an episode: its context, thinned if it is long, and all predicted frames."""
    context, truth = np.split(episode.frames, [episode.context])
    shown = np.unique(np.linspace(0, len(context) - 1, min(len(context), CONTEXT_SHOWN)).round().astype(int))
    rows = {"truth": truth, **episode.predictions}
    scores = {
        name: float(psnr(unit_range(frames), unit_range(truth)).mean())
        for name, frames in episode.predictions.items()
    }
    length = math.ceil(len(truth) / math.ceil(len(truth) / FRAMES_ABREAST))
    ranges = [
        (
            range(first + 1, min(first + length, len(truth)) + 1),
            [_picture(frames[first : first + length]) for frames in rows.values()],
        )
        for first in range(0, len(truth), length)
    ]
    # About 64 px; frames up to 96 px are enlarged by a whole factor, so that all their pixels look alike.
    height = truth.shape[1]
    height = height * max(1, round(64 / height)) if height <= 96 else 96
    return EpisodeView(
        title=episode.title,
        video=video,
        height=height,
        context=_picture(context[shown]),
        context_frames=len(context),
        context_shown=len(shown),
        psnr={"truth": None} | scores,
        ranges=ranges,
    )


def _picture(frames: UInt8[np.ndarray, "k H W 3"]) -> str:
    height = frames.shape[1]
    kind = "webp" if height <= 128 else "jpeg"  # lossless where it is affordable
    picture = media.filmstrip(frames, gap=max(1, height // 32))
    return media.data_uri(media.encode_picture(picture, kind), f"image/{kind}")
