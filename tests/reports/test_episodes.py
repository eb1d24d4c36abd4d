"""Episodes on a page: their pictures hold their frames, and a page has a bounded size."""

import base64
import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from rad_jax import media
from rad_jax.reports.episodes import view_episode, write_episodes
from rad_jax.reports.page import TEMPLATES
from tests.reports.parsed_page import ParsedPage
from tests.reports.rooms import NASTY, rooms

VIDEO = b"video" * 2000


def test_pictures_hold_the_frames():
    episode = rooms()[1][0]
    view = view_episode(episode, "video.mp4")
    ((indices, pictures),) = view.ranges
    context, truth = np.split(episode.frames, [episode.context])
    expected = [context, truth, *episode.predictions.values()]
    for picture, shown in zip((view.context, *pictures), expected, strict=True):
        decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.split(",")[1]))))
        np.testing.assert_array_equal(decoded, media.filmstrip(shown))
    assert list(indices) == list(range(1, len(truth) + 1))
    assert list(view.psnr) == ["truth", "lstm-f", NASTY] and view.psnr["truth"] is None
    error = np.square((np.float64(episode.predictions["lstm-f"]) - truth) / 255).mean((1, 2, 3))
    assert view.psnr["lstm-f"] == pytest.approx((-10 * np.log10(error)).mean(), abs=1e-3)


def test_what_does_not_fit_is_linked(tmp_path):
    def write(page_bytes):
        (view,) = write_episodes(tmp_path, rooms()[1][:1], lambda episode: VIDEO, page_bytes)
        assert (tmp_path / "videos" / "00.mp4").read_bytes() == VIDEO
        return view

    embedded = write(10**9)
    assert embedded.video.startswith("data:video/mp4")
    linked = write(embedded.size - 1)
    assert linked == dataclasses.replace(embedded, video="videos/00.mp4")
    bare = write(linked.size - 1)
    assert bare == dataclasses.replace(linked, context="", ranges=())
    parsed = ParsedPage(TEMPLATES.get_template("macros.html").module.episodes([bare]))
    assert set(parsed.sources) == {"videos/00.mp4"}
