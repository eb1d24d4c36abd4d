"""Pictures and videos to look at: H.264 files that a browser plays, contact sheets, filmstrips, side-by-side columns.

Frames are uint8 RGB, (t, H, W, 3). Small frames are enlarged by whole factors without smoothing, so that a 32 px maze can
be seen and its pixels stay what they are.
"""

import base64
import io
import math
import tempfile
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from einops import rearrange, repeat
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from rad_jax.errors import UserError
from rad_jax.files import write_bytes

Frames = UInt8[np.ndarray, "t H W 3"]
Picture = UInt8[np.ndarray, "H W 3"]

PAPER, INK, FAINT = (255, 255, 255), (35, 38, 44), (110, 116, 126)
CONTEXT_COLOUR, PREDICTED_COLOUR = (205, 63, 55), (38, 140, 84)  # red: given; green: predicted
BT709 = 1  # the number of this matrix, of its primaries and of its transfer curve in H.264
VIDEO_HEIGHT = 256  # smaller videos are enlarged to at least this
SHEET_HEIGHT = 96  # and smaller frames of a contact sheet to this


class MediaError(UserError, ValueError):
    """Frames that cannot be shown."""


def to_uint8(frames: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] (clipped) as uint8; uint8 as it is."""
    if frames.dtype == np.uint8:
        return frames
    return np.round(np.clip(frames, 0, 1) * 255).astype(np.uint8)


def enlarge(frames: UInt8[np.ndarray, "*t H W 3"], height: int) -> UInt8[np.ndarray, "*t Y X 3"]:
    """Repeat pixels by the smallest whole factor that makes the frames at least ``height`` high."""
    factor = max(1, math.ceil(height / frames.shape[-3]))
    return repeat(frames, "... h w c -> ... (h y) (w x) c", y=factor, x=factor)


def write_video(path: Path | str, frames: np.ndarray, fps: int | float) -> None:
    """Write ``frames`` (t, H, W, 3) uint8 as an mp4 that browsers play, in one step.

    Raises:
        MediaError: frames of another shape or type, or none at all.
    """
    write_bytes(path, encode_video(frames, fps))


def encode_video(frames: np.ndarray, fps: int | float) -> bytes:
    """The bytes of an mp4: H.264, yuv420p, enlarged to at least 256 px and padded to even sides.

    Raises:
        MediaError: frames of another shape or type, or none at all.
    """
    check_frames(frames)
    frames = enlarge(frames, VIDEO_HEIGHT)
    odd_rows, odd_columns = (size % 2 for size in frames.shape[1:3])
    frames = np.pad(frames, ((0, 0), (0, odd_rows), (0, odd_columns), (0, 0)), mode="edge")
    # The index goes to the front, for which the muxer needs a real file.
    options, rate = {"movflags": "+faststart"}, Fraction(fps).limit_denominator(1000)
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        with av.open(file.name, "w", options=options) as container:
            stream = container.add_stream("libx264", rate=rate, options={"crf": "17"})
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            # Say which matrix the colours were converted with; players guess by size otherwise, and guess differently.
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = BT709
            for image in frames:
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame = frame.reformat(format="yuv420p", dst_colorspace=BT709)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return Path(file.name).read_bytes()


def check_frames(frames: np.ndarray) -> None:
    """Raise MediaError unless ``frames`` is (t, H, W, 3) uint8 with at least one frame."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        found = f"shape {frames.shape} and type {frames.dtype}"
        raise MediaError(f"frames of {found}: expected (t, H, W, 3) uint8, t > 0")


def encode_picture(picture: Picture, kind: str = "png") -> bytes:
    """The bytes of a picture file: "png" or "webp" (both lossless), or "jpeg" for large photographs."""
    file = io.BytesIO()
    options = {"webp": {"lossless": True}, "jpeg": {"quality": 88}}.get(kind, {})
    Image.fromarray(picture).save(file, kind, **options)
    return file.getvalue()


def data_uri(data: bytes, kind: str) -> str:
    """Bytes as an address that a page can hold itself; ``kind`` is a media type such as "image/png"."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def filmstrip(frames: Frames, gap: int = 1) -> UInt8[np.ndarray, "H X 3"]:
    """The frames in a row, from left to right, with ``gap`` white columns after each."""
    check_frames(frames)
    spaced = np.pad(frames, ((0, 0), (0, 0), (0, gap), (0, 0)), constant_values=255)
    return rearrange(spaced, "t h w c -> h (t w) c")


def contact_sheet(frames: np.ndarray, labels: Sequence[str], columns: int) -> Picture:
    """The frames in a grid of ``columns``, enlarged to at least 96 px in height, each with its label below.

    Raises:
        MediaError: frames of another shape or type, or not one label for each.
    """
    check_frames(frames)
    if len(labels) != len(frames):
        raise MediaError(f"{len(labels)} labels for {len(frames)} frames")
    frames, columns = enlarge(frames, SHEET_HEIGHT), min(columns, len(frames))
    margin, line = 4, 16
    height, width = frames.shape[1:3]
    pitch_y, pitch_x = height + line + 2 * margin, width + 2 * margin
    sheet = Image.new("RGB", (columns * pitch_x, math.ceil(len(frames) / columns) * pitch_y), PAPER)
    for index, (frame, label) in enumerate(zip(frames, labels, strict=True)):
        left, top = index % columns * pitch_x + margin, index // columns * pitch_y + margin
        sheet.paste(Image.fromarray(frame), (left, top))
        _write(sheet, (left + width // 2, top + height + line // 2), label, 12, width, FAINT)
    return np.asarray(sheet)


def side_by_side(columns: Mapping[str, np.ndarray], context: int, height: int = VIDEO_HEIGHT) -> Frames:
    """Videos of one shape beside each other under their titles.

    A red border and the word "context" mark the first ``context`` frames, a green one and "predicted" the others.

    Args:
        columns: title -> (t, H, W, 3) uint8, context and prediction in one.
        context: how many frames were given.
        height: to which small frames are enlarged, at least.

    Raises:
        MediaError: no columns, or columns of different shapes.
    """
    shapes = {title: video.shape for title, video in columns.items()}
    if len(set(shapes.values())) != 1:
        raise MediaError(f"side by side needs one shape, got {shapes}")
    for video in columns.values():
        check_frames(video)
    videos = [enlarge(video, height) for video in columns.values()]
    length, height, width = videos[0].shape[:3]
    border, gap, head, foot = 6, 12, 34, 30
    framed = width + 2 * border, height + 2 * border
    lefts = [gap + (framed[0] + gap) * column for column in range(len(videos))]
    page = Image.new("RGB", (lefts[-1] + framed[0] + gap, head + framed[1] + foot), PAPER)
    for left, title in zip(lefts, columns, strict=True):
        _write(page, (left + framed[0] // 2, head // 2), title, 18, width, INK)
    result = []
    for t in range(length):
        colour, text = CONTEXT_COLOUR, f"context {t + 1} / {context}"
        if t >= context:
            colour, text = PREDICTED_COLOUR, f"predicted {t - context + 1} / {length - context}"
        frame = page.copy()
        for left, video in zip(lefts, videos, strict=True):
            frame.paste(colour, (left, head, left + framed[0], head + framed[1]))
            frame.paste(Image.fromarray(video[t]), (left + border, head + border))
        _write(frame, (page.width // 2, page.height - foot // 2), text, 16, page.width, colour)
        result.append(np.asarray(frame))
    return np.stack(result)


def _write(
    image: Image.Image, centre: tuple[int, int], text: str, size: int, width: int, colour: tuple[int, ...]
) -> None:
    """Write a line around a point, in smaller letters if it is wider than ``width``."""
    draw = ImageDraw.Draw(image)
    while size > 7 and draw.textlength(text, font=ImageFont.load_default(size)) > width:
        size -= 1
    draw.text(centre, text, fill=colour, font=ImageFont.load_default(size), anchor="mm")
