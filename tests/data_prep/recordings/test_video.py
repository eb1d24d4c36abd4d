"""What a container says of its pictures is obeyed, whatever they are stored as."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from data_prep.recordings import BadRecording, video
from data_prep.recordings.video import count_frames, read_frames
from tests.data_prep.recordings import format_files as files

FRAMES = 6


def write(
    path: Path,
    codec="libx264",
    pixels="yuv420p",
    *,
    count=FRAMES,
    videos=1,
    width=64,
    prepare=None,
    times=None,
):
    """A video of numbered frames; several of them in one file show other numbers."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream(codec, rate=Fraction(20)) for _ in range(videos)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = width, files.HEIGHT, pixels
            stream.codec_context.thread_count = 1
            if prepare:
                prepare(stream)
        for number in range(count):
            for shift, stream in enumerate(streams):
                frame = av.VideoFrame.from_ndarray(
                    files.bars(number + 50 * shift)[:, :width].copy(), format="rgb24"
                )
                frame = frame.reformat(format=pixels)
                frame.pts = times(number) if times else None
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def read(path: Path, size=None) -> np.ndarray:
    return np.concatenate(list(read_frames(path, 0, count_frames(path), size)))


@pytest.mark.parametrize(
    ("ratio", "width"), [(Fraction(2), 128), (Fraction(1, 2), 32), (Fraction(401, 400), 64)]
)
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_pixels_that_are_not_square_become_so(ratio, width, ending, tmp_path):
    def prepare(stream):
        stream.codec_context.sample_aspect_ratio = ratio

    path = write(tmp_path / f"a.{ending}", prepare=prepare)
    frames = read(path)
    assert frames.shape == (FRAMES, files.HEIGHT, width, 3) and files.numbers(frames) == [*range(FRAMES)]
    assert files.numbers(read(path, (24, 32))) == [*range(FRAMES)]


def test_pixels_that_make_a_picture_too_large_are_refused(tmp_path, monkeypatch):
    def prepare(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(2)

    monkeypatch.setattr(video, "_LARGEST_SIDE", 100)

    with pytest.raises(BadRecording, match="times as wide as high"):
        read(write(tmp_path / "a.mp4", prepare=prepare))


def test_which_of_several_videos_is_meant_is_not_guessed(tmp_path):
    with pytest.raises(BadRecording, match="2 videos in one file, expected one"):
        read(write(tmp_path / "a.mp4", videos=2))


def test_a_cover_is_no_video(tmp_path):
    plain, path = write(tmp_path / "plain.mp4"), tmp_path / "a.mp4"
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        cover = target.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        copied = target.add_stream_from_template(source.streams.video[0])
        target.mux(cover.encode(av.VideoFrame(32, 32, "yuvj420p")))
        target.mux(cover.encode(None))
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = copied
                target.mux(packet)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2
    np.testing.assert_array_equal(read(path), read(plain))


def test_a_file_with_sound_alone_has_no_video(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(BadRecording, match="no video in it"):
        count_frames(path)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
def test_a_video_without_frames_is_refused(ending, tmp_path):
    with pytest.raises(BadRecording, match=f"a.{ending}: "):
        count_frames(write(tmp_path / f"a.{ending}", "mpeg4", count=0))


def test_every_frame_counts_however_long_it_is_shown(tmp_path):
    path = write(tmp_path / "a.mkv", times=lambda number: number * number + number)
    assert files.numbers(read(path)) == [*range(FRAMES)]


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "options"),
    [
        ("a.mp4", "libx264", "yuv420p10le", {}),
        ("a.mkv", "ffv1", "gray16le", {}),
        ("a.mov", "png", "rgba", {}),
        ("a.webm", "libvpx-vp9", "yuva420p", {}),
        ("a.mkv", "ffv1", "yuv420p", {"width": 63}),
        (
            "a.mp4",
            "libx264",
            "yuv420p",
            {"prepare": lambda s: s.options.update({"x264-params": "interlaced=1"})},
        ),
    ],
)
def test_pictures_of_every_kind_are_read(name, codec, pixels, options, tmp_path):
    """Ten bits, grey, with transparency, of an odd width, interlaced."""
    frames = read(write(tmp_path / name, codec, pixels, **options))
    assert frames.shape[1:] == (files.HEIGHT, options.get("width", 64), 3)
    assert files.numbers(frames) == [*range(FRAMES)]
