"""The page is parsed: everything is inside it, escaped, and says what the numbers say."""

import re
import shutil
import subprocess

import pytest
from jinja2 import UndefinedError
from PIL import Image

from rad_jax import media
from rad_jax.evaluation.evaluate import report_tables
from rad_jax.reports import page, text
from tests.reports.parsed_page import ParsedPage
from tests.reports.rooms import NASTY, lone_model, rooms
from tests.videos import read_video

DRAWING = page.Drawing(
    "curves.png", "Curves", NASTY, "caption", media.encode_picture(rooms()[1][0].frames[0])
)


def write(path, scores, episodes, **options):
    model = next(iter(scores.rows))
    values = {
        "title": f"A title {NASTY}",
        "facts": {"variant": NASTY, "steps": 2616, "twin's steps": None},
        "verdicts": [text.verdict(scores, model)],
        "cards": text.cards(scores, model),
        "tables": report_tables(scores, model),
        "drawings": [DRAWING],
        "episodes": {"What it looks like": episodes},
        "encode": lambda episode: media.encode_video(episode.frames, 4),
        "provenance": {"command": f"python -m rad_jax.main --config {NASTY}"},
        "config": f'{{"name": "{NASTY}"}}',
    }
    page.write_page(path, **values | options)
    return path, ParsedPage(path.read_text())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    scores, episodes = rooms()
    return write(tmp_path_factory.mktemp("page") / "evaluation" / "report.html", scores, episodes[:2])


def test_everything_is_written(written):
    path, _ = written
    names = sorted(str(p.relative_to(path.parent)) for p in path.parent.rglob("*.*"))
    assert names == ["curves.png", "report.html", "videos/00.mp4", "videos/01.mp4"]
    assert read_video(path.parent / "videos" / "00.mp4").shape[0] == 5 + 7
    Image.open(path.parent / "curves.png").verify()


def test_the_page_needs_nothing_else(written):
    _, parsed = written
    assert "script" not in parsed.tags and "link" not in parsed.tags
    assert all(source.startswith("data:") for source in parsed.sources)
    # One drawing, and for each of two episodes a video, the context and three rows.
    assert len(parsed.sources) == 1 + 2 * (1 + 1 + 3)


def test_hostile_names_are_shown_as_text(written):
    path, parsed = written
    assert "<script" not in path.read_text() and "<b>memory" not in path.read_text()
    # Title (twice), fact, command, configuration, titles of episodes and the row wherever it is named.
    assert "".join(parsed.text).count(NASTY.strip()) >= 8 and "no <b>memory</b>" in parsed.words


def test_the_page_says_what_the_numbers_say(written):
    scores, _ = rooms()
    _, parsed = written
    gain = scores.difference("lstm-f", NASTY)
    first = "lstm-f predicts 7 frames of 3 videos, after 5 frames of context"
    assert f"{first}, at {scores.psnr('lstm-f'):.2f} dB." in parsed.words
    assert f"That is {gain['mean']:.2f} dB above the baseline" in parsed.words
    assert f"\u2212{gain['mean']:.2f} ± {gain['standard_error']:.2f}" in parsed.cells
    assert "SSIM: gaussian 11, sigma 1.5, K 0.01 / 0.03, valid region" in parsed.words
    assert "LPIPS: absent: no weights" in parsed.words
    for name in ("repeat last", "mean context", "perfect map", "colours in common", "motion", "2616"):
        assert name in parsed.words


def test_bars_are_relative_to_the_best_row_that_is_no_copy(written):
    scores, _ = rooms()
    path, _ = written
    psnr = {name: scores.psnr(name) for name in scores.rows}
    shares = [int(share) for share in re.findall(r"--share:(\d+)%", path.read_text())]
    assert shares == [min(100, round(100 * value / psnr["tokenizer"])) for value in psnr.values()]


def test_what_is_undefined_is_a_dash_or_absent(tmp_path):
    """One frame of one video has neither standard errors nor motion, and a fact may be None."""
    _, parsed = write(tmp_path / "report.html", *lone_model())
    assert "df predicts 1 frame of 1 video, after 1 frame of context" in parsed.words
    assert "\u2013" in parsed.cells
    assert "twin's steps" not in parsed.words
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", parsed.words)


def test_long_videos_are_folded_and_their_context_thinned(tmp_path):
    _, parsed = write(tmp_path / "t.html", *rooms(videos=1, context=30, predicted=40), facts={}, title="t")
    assert "24 of 30 frames" in parsed.words and "details" in parsed.tags
    # Every predicted frame is numbered once.
    assert [text for text in parsed.text if text.isdigit()] == [str(index) for index in range(1, 41)]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="a browser measures the tables")
def test_tables_fit_a_page_of_1100_px(written, tmp_path):
    """Six columns of means with their errors beside long names; a part that is too wide would scroll sideways."""
    script = (
        "<script>onload = () => document.title = 'over ' + [...document.querySelectorAll('.scroll')]"
        ".filter(box => box.querySelector('table')).map(box => box.scrollWidth - box.clientWidth)</script>"
    )
    path = tmp_path / "page.html"
    path.write_text(written[0].read_text().replace("</body>", f"{script}</body>"))
    command = (
        "chromium --headless --no-sandbox --disable-gpu --window-size=1100,900 --virtual-time-budget=2000"
    )
    done = subprocess.run(
        [*command.split(), f"--user-data-dir={tmp_path}", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
    )
    assert re.search("<title>over ([^<]*)", done.stdout)[1] == "0,0"


def test_a_value_that_a_template_lacks_is_an_error():
    with pytest.raises(UndefinedError, match="title"):
        page.TEMPLATES.get_template("page.html").render()
