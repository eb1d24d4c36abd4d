"""Decoding videos with FFmpeg through PyAV: counting their frames, and reading them lazily, scaled.

Only local files in the containers that recordings come in are opened, so a playlist in disguise reads no other file. A frame
that the decoder had to make up is an error, and so is everything else that changes a frame. A file that asks its player to turn
or mirror the picture, or to show pixels that are not square, is obeyed. When frames are shown is not asked: a row of actions
belongs to each frame that there is.
"""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Interpolation, VideoReformatter
from einops import rearrange
from jaxtyping import Float, UInt8

from data_prep.recordings.cursor import with_pointer
from data_prep.recordings.recording import BadRecording, refusing

FrameChunks = Iterator[UInt8[np.ndarray, "n H W 3"]]

_CHUNK_BYTES = 2**24
_LARGEST_SIDE = 8192
# The decoder says what is wrong instead of inventing pixels.
_DECODER = {"err_detect": "crccheck+bitstream+buffer+explode"}
_DEMUXER = {"protocol_whitelist": "file", "format_whitelist": "mov,mp4,avi,matroska,webm"}


def count_frames(path: Path) -> int:
    """The number of frames of a video, counted by decoding it.

    Raises:
      BadRecording: it is missing, cut off, damaged, no video, or has no frames.
    """
    count = sum(1 for _ in _decode(path))
    if not count:
        raise BadRecording(path, "a video without frames", "at least 2")
    return count


def read_frames(
    path: Path,
    first: int,
    count: int,
    size: tuple[int, int] | None = None,
    cursor: Float[np.ndarray, "t 2"] | None = None,
) -> FrameChunks:
    """Frames ``first`` to ``first + count - 1`` of a video, in order, in chunks.

    Args:
      path: the video.
      first, count: which frames.
      size: (height, width) to scale to; None for that of the video.
      cursor: of each of these frames, where to draw a mouse pointer before it is scaled; see `with_pointer`.

    Yields:
      uint8 RGB (n, H, W, 3), ``count`` frames in all.

    Raises:
      BadRecording: the video is damaged or shorter.
    """
    scaled, chunk, done = _Scaler(), [], 0
    for frame in islice(_decode(path), first, first + count):
        if cursor is not None:
            frame = _to_frame(with_pointer(_to_array(frame), cursor[done]))
        chunk.append(_to_array(scaled(frame, size)))
        done += 1
        if done == count or (len(chunk) + 1) * chunk[0].nbytes > _CHUNK_BYTES:
            yield np.stack(chunk)
            chunk = []
    if done < count:
        raise BadRecording(path, f"at most {first + done} frames", f"{first + count}")


def scale(frames: UInt8[np.ndarray, "n H W 3"], size: tuple[int, int] | None) -> UInt8[np.ndarray, "n h w 3"]:
    """Frames of an array, scaled as those of a video are."""
    if size is None or frames.shape[1:3] == tuple(size):
        return frames
    scaled = _Scaler()
    return np.stack([_to_array(scaled(_to_frame(frame), size)) for frame in frames])


def _to_frame(image: UInt8[np.ndarray, "H W 3"]) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")


def _to_array(frame: av.VideoFrame) -> UInt8[np.ndarray, "H W 3"]:
    return frame.to_ndarray(format="rgb24")


class _Scaler:
    """Converts frames to RGB of a size, by area averaging: every pixel counts when a frame is made smaller."""

    def __init__(self) -> None:
        self._planes, self._colours = VideoReformatter(), VideoReformatter()

    def __call__(self, frame: av.VideoFrame, size: tuple[int, int] | None) -> av.VideoFrame:
        height, width = size or (frame.height, frame.width)
        options = {"interpolation": Interpolation.AREA, "threads": 1}
        if not frame.format.is_rgb and (height, width) != (frame.height, frame.width):
            # In a single step FFmpeg halves the horizontal resolution of colour once more: 17 dB on sharp edges.
            frame = self._planes.reformat(frame, width=width, height=height, format="yuv444p", **options)
        return self._colours.reformat(frame, width=width, height=height, format="rgb24", **options)


def _decode(path: Path) -> Iterator[av.VideoFrame]:
    """All frames of a video, one by one, the right way up; every one must have the size of the first."""
    with (
        refusing(path, "the video cannot be decoded"),
        # "file:" keeps a name with a colon from being read as an address.
        av.open(f"file:{os.fspath(path)}", "r", options=_DEMUXER) as container,
    ):
        streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            raise BadRecording(path, "no video in it: cut off while it was written, or something else")
        if len(streams) > 1:
            raise BadRecording(path, f"{len(streams)} videos in one file", "one")
        stream, shape, square = streams[0], None, _Scaler()
        context = stream.codec_context
        if context is None:
            raise BadRecording(path, "a video in a codec that is unknown, or a damaged head")
        context.thread_count = 1  # the work is shared by processes, each with a video of its own
        context.options = _DECODER
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise BadRecording(path, "the video is cut off or damaged (a packet is not whole)")
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise BadRecording(path, "the video is damaged (a frame could not be decoded in full)")
                shape = shape or (frame.height, frame.width)
                if (frame.height, frame.width) != shape or max(shape) > _LARGEST_SIDE:
                    found = f"a frame of {frame.width}x{frame.height} px"
                    expected = f"{shape[1]}x{shape[0]} px as the first, at most {_LARGEST_SIDE} px a side"
                    raise BadRecording(path, found, expected)
                side_data = frame.side_data.get("DISPLAYMATRIX")
                width = round(frame.width * (stream.sample_aspect_ratio or 1))
                if not 1 <= width <= _LARGEST_SIDE:
                    found = f"pixels {stream.sample_aspect_ratio} times as wide as high"
                    raise BadRecording(path, found, f"frames 1 to {_LARGEST_SIDE} px wide")
                if width != frame.width:
                    frame = square(frame, (frame.height, width))
                yield frame if side_data is None else _upright(path, frame, bytes(side_data))


def _upright(path: Path, frame: av.VideoFrame, side_data: bytes) -> av.VideoFrame:
    """The frame as players show it: turned and mirrored as the display matrix of the file says."""
    # Of x' = a x + c y and y' = b x + d y, in units of 1/65536; the other entries are translation and perspective.
    matrix = np.frombuffer(side_data, np.int32).reshape(3, 3)[:2, :2] / 65536
    (a, b), (c, d) = matrix
    if not (np.isin(matrix, (-1, 0, 1)).all() and abs(a) == abs(d) != abs(b) == abs(c)):
        raise BadRecording(path, f"a video to be shown under the matrix {matrix.tolist()}", "quarter turns")
    if (a, d) == (1, 1):
        return frame
    image, across, down = _to_array(frame), a, d
    if a == 0:
        image, across, down = rearrange(image, "H W c -> W H c"), c, b
    return _to_frame(image[:: int(down), :: int(across)])
