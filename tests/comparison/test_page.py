"""The page of a comparison is parsed: names are shown as text, figures have their lines, nothing undefined is written."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from rad_jax.comparison.page import FLOOR, Figures, figure6, markdown, page
from rad_jax.comparison.plan import plan_comparison
from rad_jax.comparison.tables import SetResult, memory_table, pair_table, score_table
from rad_jax.comparison.text import verdict
from rad_jax.reports.episodes import view_episode
from rad_jax.reports.figures import MEMORY_COLOURS
from tests.reports.parsed_page import ParsedPage
from tests.reports.rooms import NASTY, lone_model, rooms


@pytest.fixture(scope="module")
def comparison(root):
    return plan_comparison(f"{root}/experiments/quickstart.py", "df,lstm-f", [], ablations=False)


@pytest.fixture(scope="module")
def result():
    metrics, _ = rooms()
    rows = metrics["rows"]
    named = {"df": rows[NASTY] | {"kind": "baseline"}, "lstm-f": rows["lstm-f"]}
    others = {f"{name} {NASTY}": row for name, row in rows.items() if name not in ("lstm-f", NASTY)}
    return SetResult(NASTY, "loop", metrics["metrics_spec"], metrics["videos"], named | others)


def tables(comparison, result):
    return [make(comparison, result) for make in (score_table, memory_table, pair_table)]


def parsed(comparison, result, episodes=()):
    figures = Figures("data:image/png;base64,three", "data:image/png;base64,six")
    provenance = {"command": NASTY, "episodes": None}
    html = page(
        comparison, [result], tables(comparison, result), figures, {result.name: episodes}, {}, provenance
    )
    return html, ParsedPage(html)


def test_hostile_names_are_shown_as_text(comparison, result):
    views = [view_episode(episode, "videos/00.mp4") for episode in rooms()[1]]
    html, found = parsed(comparison, result, views)
    assert "<script" not in html and "script" not in found.tags
    for words in (
        f"Table 1: {NASTY}",
        f"room 2 {NASTY}",
        f"What it looks like: {NASTY}",
        "Figure 6",
        "Figure 3",
    ):
        assert words.strip() in found.words, words


def test_a_single_video_has_no_errors(comparison):
    metrics, _ = lone_model()
    rows = {"df": metrics["rows"]["df"], "lstm-f": metrics["rows"]["df"]} | metrics["rows"]
    lone = SetResult("loop", "loop", metrics["metrics_spec"], metrics["videos"], rows)
    _, found = parsed(comparison, lone)
    text = markdown(comparison, [lone], tables(comparison, lone), {"command": "x", "episodes": None})
    for written in (found.words, text):
        assert not re.search(r"\bnan\b|\bNone\b|\binf\b", written.partition("{")[0])
        assert "\u2013" in written
    assert "by more than two standard errors" not in verdict(comparison, lone)
    assert not [cell for cell in found.cells if "±" in cell]


def test_figure_6_draws_every_memory_and_the_floors(comparison, result):
    picture = np.asarray(Image.open(io.BytesIO(figure6(comparison, [result, result]))).convert("RGB"))
    assert picture.shape[0] > picture.shape[1] / 2  # two rows of panels
    for colour in (MEMORY_COLOURS["lstm"], MEMORY_COLOURS["none"], FLOOR):
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        assert np.any(np.all(picture == wanted, axis=-1)), colour
