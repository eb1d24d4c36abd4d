"""Drawings hold the colours of what they show, and leave matplotlib's settings alone."""

import io

import matplotlib
import numpy as np
from PIL import Image

from rad_jax.reports.figures import COLOURS, MEMORY_COLOURS, curves, figure3
from tests.reports.rooms import lone_model, rooms


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def has_colour(picture, colour):
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return np.any(np.all(picture == wanted, axis=-1))


def test_curves_have_every_kind_of_row():
    before = dict(matplotlib.rcParams)
    picture = pixels(curves(rooms()[0]))
    assert dict(matplotlib.rcParams) == before
    for kind, colour in COLOURS.items():
        assert has_colour(picture, colour), kind


def test_curves_of_a_single_frame_without_errors():
    assert has_colour(pixels(curves(lone_model()[0])), COLOURS["model"])


def test_figure_3_marks_the_start_of_the_window():
    influence = np.tril(np.ones((3, 8)), 4)
    seen = np.array([5, 6, 7]), np.array([2, 3, 4]), influence
    for models in (1, 2, 4):  # a part of a row, and more than a row of panels
        picture = pixels(figure3({f"model {i}": seen for i in range(models)}, context=5))
        assert has_colour(picture, "#d2335c")
        assert picture.shape[0] > (300 if models <= 3 else 600)


def test_memories_differ_in_colour():
    assert len(set(MEMORY_COLOURS.values())) == len(MEMORY_COLOURS)
