"""Drawings hold the colours of what they show, write names as they are, and leave matplotlib's settings alone."""

import matplotlib
import matplotlib.figure
import matplotlib.text
import numpy as np
import pytest

from rad_jax.reports.figures import COLOURS, MEMORY_COLOURS, Line, Panel, curves, draw_panels, figure3
from tests.reports.rooms import lone_model, rooms
from tests.videos import has_colour, read_picture


def figure3_of(*names):
    seen = np.array([5, 6, 7]), np.array([2, 3, 4]), np.tril(np.ones((3, 8)), 4)
    return figure3(dict.fromkeys(names, seen), context=5)


def test_curves_have_every_kind_of_row():
    before = dict(matplotlib.rcParams)
    picture = read_picture(curves(rooms()[0]))
    assert dict(matplotlib.rcParams) == before
    for kind, colour in COLOURS.items():
        assert has_colour(picture, colour), kind


def test_curves_of_a_single_frame_without_errors():
    assert has_colour(read_picture(curves(lone_model()[0])), COLOURS["model"])


def test_figure_3_marks_the_start_of_the_window():
    for models in (2, 4):  # a part of a row, and more than a row of panels
        picture = read_picture(figure3_of(*map(str, range(models))))
        assert has_colour(picture, "#d2335c")
        assert picture.shape[0] > (300 if models <= 3 else 600)


@pytest.mark.parametrize("draw", ["curves", "figure 3"])
def test_dollars_in_a_name_make_no_formula(draw, monkeypatch):
    """The row ``a$b$`` is written with its dollars: nothing in the drawing is a formula but ticks of the scale."""
    name, figures = "a$b$", []
    save = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure, "savefig", lambda self, *a, **k: figures.append(self) or save(self, *a, **k)
    )
    if draw == "curves":
        line = Line({"color": "#000000"}, label=name)
        draw_panels([[Panel(name, rooms()[0], "psnr", {"lstm-f": line})]], (4.0, 3.0))
    else:
        figure3_of(name)
    texts = figures[0].findobj(lambda artist: isinstance(artist, matplotlib.text.Text))
    shown = [text._preprocess_math(text.get_text()) for text in texts if text.get_text().startswith("a")]
    assert shown and set(shown) == {(name, False)}


def test_memories_differ_in_colour():
    assert len(set(MEMORY_COLOURS.values())) == len(MEMORY_COLOURS)
