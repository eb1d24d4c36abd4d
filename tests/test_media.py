"""Videos are read back, pictures are looked at pixel by pixel, and a failed write leaves the old file."""

import io

import av
import numpy as np
import pytest
from PIL import Image

from rad_jax import media
from tests.videos import read_video


def blocks(t, height, width, seed=0):
    """Frames of large plain blocks, which survive the compression of colours."""
    coarse = np.random.default_rng(seed).integers(30, 226, (t, 2, 2, 3), dtype=np.uint8)
    return np.repeat(np.repeat(coarse, height // 2, axis=1), width // 2, axis=2)


def test_video_comes_back(tmp_path):
    frames = blocks(7, 32, 40)
    media.write_video(tmp_path / "deep" / "v.mp4", frames, fps=6)
    back = read_video(tmp_path / "deep" / "v.mp4")
    assert back.shape == (7, 256, 320, 3)  # 8 times enlarged
    error = np.abs(back.astype(int) - np.repeat(np.repeat(frames, 8, axis=1), 8, axis=2))
    assert error.mean() < 3  # a wrong colour matrix costs 8, a lost frame 60


def test_video_is_what_browsers_play(tmp_path):
    media.write_video(tmp_path / "v.mp4", blocks(6, 290, 302)[:, :289, :301], fps=12.5)
    with av.open(str(tmp_path / "v.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.height, stream.width, stream.average_rate) == (290, 302, 12.5)  # even sides
        assert float(stream.duration * stream.time_base) == pytest.approx(6 / 12.5)
    data = (tmp_path / "v.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # plays before it is loaded


@pytest.mark.parametrize(
    ("shape", "dtype"), [((0, 9, 9, 3), "u1"), ((2, 9, 9, 3), "f4"), ((2, 3, 9, 9), "u1"), ((9, 9, 3), "u1")]
)
def test_bad_frames_leave_the_old_video(tmp_path, shape, dtype):
    path = tmp_path / "v.mp4"
    path.write_bytes(b"old")
    with pytest.raises(media.MediaError, match=r"expected \(t, H, W, 3\) uint8"):
        media.write_video(path, np.zeros(shape, dtype), fps=4)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]


def test_to_uint8_rounds_and_clips():
    found = media.to_uint8(np.array([-1, 0, 0.5, 0.999, 7], np.float32))
    np.testing.assert_array_equal(found, [0, 0, 128, 255, 255])


def test_enlarge_repeats_pixels():
    frames = blocks(2, 10, 6)
    large = media.enlarge(frames, 25)
    assert large.shape == (2, 30, 18, 3)
    np.testing.assert_array_equal(large[:, 1::3, 2::3], frames)
    assert media.enlarge(frames, 9).shape == frames.shape


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_pictures_are_lossless(kind):
    picture = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    np.testing.assert_array_equal(Image.open(io.BytesIO(media.encode_picture(picture, kind))), picture)


def test_filmstrip_puts_frames_in_order():
    frames = blocks(3, 4, 6)
    row = media.filmstrip(frames, gap=2)
    assert row.shape == (4, 24, 3)
    for t in range(3):
        np.testing.assert_array_equal(row[:, 8 * t : 8 * t + 6], frames[t])
        assert np.all(row[:, 8 * t + 6 : 8 * t + 8] == 255)


def test_contact_sheet_shows_every_frame_with_its_label():
    frames = blocks(5, 32, 32)
    sheet = media.contact_sheet(frames, labels=["a", "b", "c", "d", ""], columns=3)
    assert sheet.shape == (2 * (96 + 16 + 8), 3 * (96 + 8), 3)
    for index in range(5):
        top, left = index // 3 * 120 + 4, index % 3 * 104 + 4
        np.testing.assert_array_equal(sheet[top : top + 96 : 3, left : left + 96 : 3], frames[index])
        label = sheet[top + 96 : top + 112, left : left + 96]
        assert (label.min() < 200) == (index < 4)
    with pytest.raises(media.MediaError, match=r"2 .* 5"):
        media.contact_sheet(frames, labels=["a", "b"], columns=3)


def test_side_by_side_marks_context_and_prediction():
    truth, prediction = blocks(5, 32, 32, 0), blocks(5, 32, 32, 1)
    video = media.side_by_side({"truth": truth, "prediction": prediction}, context=2)
    assert len(video) == 5
    rows, columns = np.where((video[0] == media.CONTEXT_COLOUR).all(axis=-1))
    top, left = rows.min(), columns.min()
    for t in range(5):
        colour = media.CONTEXT_COLOUR if t < 2 else media.PREDICTED_COLOUR
        np.testing.assert_array_equal(video[t, top, left], colour)
        for column, source in enumerate((truth, prediction)):
            x = left + 6 + column * (256 + 2 * 6 + 12)
            np.testing.assert_array_equal(video[t, top + 6 : top + 262 : 8, x : x + 256 : 8], source[t])
    assert video[0, :top].min() < 100  # titles
    assert np.any(video[2, -30:] != video[3, -30:])  # the count below
    with pytest.raises(media.MediaError, match="one shape"):
        media.side_by_side({"a": blocks(5, 32, 32), "b": blocks(4, 32, 32)}, context=1)


def test_data_uri():
    assert media.data_uri(b"abc", "image/png") == "data:image/png;base64,YWJj"
