"""The page is parsed: everything is inside it, escaped, bounded in size, and says what the numbers say."""

import base64
import functools
import io
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
from PIL import Image

from rad_jax import media
from rad_jax.evaluation.scores import floors
from rad_jax.reports import text
from rad_jax.reports.plots import COLOURS, curves
from rad_jax.reports.report import ReportError, Sample, write_report
from tests.evaluation.toy_scores import Predicted, metrics_of

NASTY = "<script>alert('a & b')</script>"
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Text, addresses and nesting of a page."""

    def __init__(self, html):
        super().__init__()
        self.text, self.sources, self.open, self.tags = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@functools.cache
def rooms(videos=3, context=5, predicted=7):
    """True videos of coloured blocks, a good and a bad prediction, and their table."""
    rng = np.random.default_rng(0)
    blocks = rng.random((videos, context + predicted, 2, 2, 3), dtype=np.float32)
    whole = np.repeat(np.repeat(blocks, 8, axis=2), 8, axis=3)
    contexts, truth = [video[:context] for video in whole], [video[context:] for video in whole]
    good = [0.8 * t + 0.1 for t in truth]
    bad = [1 - t for t in truth]
    trivial = [floors(c, predicted) for c in contexts]
    rows = {
        "lstm-f": Predicted("model", good),
        NASTY: Predicted("baseline", bad, "no <b>memory</b>"),
        "repeat last": Predicted("floor", [t["repeat last"] for t in trivial]),
        "mean context": Predicted("floor", [t["mean context"] for t in trivial]),
        "tokenizer": Predicted("ceiling", [0.9 * t + 0.05 for t in truth]),
        "perfect map": Predicted("oracle", truth),
    }
    metrics = metrics_of(rows, truth, [context] * videos)
    samples = [
        Sample(f"room {i} {NASTY}", media.to_uint8(c), t, {"lstm-f": g, NASTY: b})
        for i, (c, t, g, b) in enumerate(zip(contexts, truth, good, bad, strict=True))
    ]
    return metrics, samples


def write(directory, samples=1, **options):
    metrics, shown = rooms()
    path = write_report(
        directory,
        metrics,
        shown[:samples],
        title=f"A title {NASTY}",
        facts={"variant": NASTY, "steps": 2616},
        provenance={"command": f"python -m rad_jax.main --config {NASTY}"},
        config=f'{{"name": "{NASTY}"}}',
        **options,
    )
    return path, Page(path.read_text())


def test_everything_is_written(tmp_path):
    path, _ = write(tmp_path / "evaluation", samples=2)
    names = sorted(str(p.relative_to(path.parent)) for p in path.parent.rglob("*.*"))
    assert names == ["curves.png", "report.html", "videos/00.mp4", "videos/01.mp4"]
    assert media.read_video(path.parent / "videos" / "00.mp4").shape[0] == 5 + 7
    Image.open(path.parent / "curves.png").verify()


def test_the_page_needs_nothing_else(tmp_path):
    _, page = write(tmp_path)
    assert page.open == []  # every element is closed
    assert "script" not in page.tags and "link" not in page.tags
    assert all(source.startswith("data:") for source in page.sources)
    # One drawing, one video, the context and three rows.
    assert len(page.sources) == 1 + 1 + 1 + 3


def test_the_strips_hold_the_frames(tmp_path):
    metrics, samples = rooms()
    path = write_report(tmp_path, metrics, samples[:1], title="t", facts={}, provenance={})
    pictures = [source for source in Page(path.read_text()).sources if source.startswith("data:image/webp")]
    decoded = [np.asarray(Image.open(io.BytesIO(base64.b64decode(p.split(",")[1])))) for p in pictures]
    expected = [samples[0].context, samples[0].truth, *samples[0].predictions.values()]
    for picture, frames in zip(decoded, expected, strict=True):
        np.testing.assert_array_equal(picture, media.strip(media.to_uint8(frames)))


def test_everything_is_escaped(tmp_path):
    path, page = write(tmp_path)
    assert "<script" not in path.read_text() and "<b>memory" not in path.read_text()
    text = "".join(page.text)
    # Title (twice), fact, command, configuration, sample titles and the row wherever it is named.
    assert text.count(NASTY) >= 8 and "no <b>memory</b>" in text


def test_the_page_says_what_the_numbers_say(tmp_path):
    metrics, _ = rooms()
    _, page = write(tmp_path)
    text = " ".join("".join(page.text).split())
    psnr = metrics["rows"]["lstm-f"]["mean"]["psnr"]
    gain = metrics["differences"][NASTY]["psnr"]["mean"]
    assert f"lstm-f predicts 7 frames of 3 videos, after 5 frames of context, at {psnr:.2f} dB." in text
    assert f"That is {gain:.2f} dB above the baseline" in text
    assert "SSIM: gaussian 11, sigma 1.5, K 0.01 / 0.03, valid region" in text
    assert "LPIPS: absent: no weights" in text
    for name in ("repeat last", "mean context", "perfect map", "colours in common", "motion", "2616"):
        assert name in text


def test_what_does_not_fit_is_linked(tmp_path):
    _, page = write(tmp_path / "whole")
    drawing, video, *strips = map(len, page.sources)
    _, page = write(tmp_path / "linked", page_bytes=drawing + video + sum(strips) - 1)
    assert page.sources[1] == "videos/00.mp4" and list(map(len, page.sources[2:])) == strips
    path, page = write(tmp_path / "bare", page_bytes=drawing + sum(strips) - 1)
    assert page.sources[1:] == ["videos/00.mp4"]
    assert (path.parent / "videos" / "00.mp4").is_file()


def test_long_videos_are_folded_and_their_context_thinned(tmp_path):
    metrics, samples = rooms(videos=1, context=30, predicted=40)
    path = write_report(tmp_path, metrics, samples, title="t", facts={}, provenance={})
    page = Page(path.read_text())
    text = "".join(page.text)
    assert "24 of 30 frames" in text and "details" in page.tags
    assert [str(index) for index in range(1, 41)] == [
        t for t in page.text if t.isdigit()
    ]  # every frame is numbered once


def test_the_verdict_is_honest():
    metrics, _ = rooms()
    shift = metrics["rows"]["lstm-f"]["mean"]["psnr"]
    for name, mean, error, expected in [
        (NASTY, -1.5, 0.1, "1.50 dB below the baseline"),
        (NASTY, 0.1, 0.2, "within two standard errors: no gain can be seen"),
        ("mean context", -2.0, 0.1, "mean context is 2.00 dB better: this is not yet a model of the world"),
        ("mean context", 3.0, 0.1, "mean context, is 3.00 dB below"),
    ]:
        row = {"mean": mean, "standard_error": error, "videos": 3}
        changed = metrics | {"differences": metrics["differences"] | {name: {"psnr": row}}}
        assert expected in text.verdict(changed)
    assert text.best_floor(metrics) == "mean context"
    kinds = [card.kind for card in text.cards(metrics)]
    assert kinds == ["model", "above", "above", "bound"]  # the exact oracle has no card
    assert text.cards(metrics)[0].value == f"{shift:.2f}"


def test_a_lone_model_and_a_single_frame_have_a_report(tmp_path):
    truth = [np.full((1, 16, 16, 3), 0.5, np.float32)]
    metrics = metrics_of({"df": Predicted("model", [truth[0] + 0.1])}, truth, [1])
    sample = Sample("only", truth[0], truth[0], {"df": truth[0] + 0.1})
    path = write_report(tmp_path, metrics, [sample], title="t", facts={}, provenance={})
    assert "df predicts 1 frame of 1 video, after 1 frame of context" in "".join(Page(path.read_text()).text)


def test_curves_leave_matplotlib_alone():
    metrics, _ = rooms()
    before = dict(matplotlib.rcParams)
    picture = np.asarray(Image.open(io.BytesIO(curves(metrics))).convert("RGB"))
    assert dict(matplotlib.rcParams) == before
    for kind in ("model", "baseline", "floor", "ceiling", "oracle"):
        colour = tuple(int(COLOURS[kind][i : i + 2], 16) for i in (1, 3, 5))
        assert np.any(np.all(picture == colour, axis=-1)), kind


def test_samples_must_fit():
    frames = np.zeros((4, 16, 16, 3), np.uint8)
    with pytest.raises(
        ReportError, match=r"sample 'x': 'lstm-f' has shape \(3, 16, 16, 3\), the truth \(4, "
    ):
        Sample("x", frames, frames, {"lstm-f": frames[:3]})
    with pytest.raises(ReportError, match=r"a context of shape \(4, 8, 16, 3\) cannot precede"):
        Sample("x", frames[:, :8], frames, {})
