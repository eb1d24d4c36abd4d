"""Figure 6 has the lines of all rows."""

import dataclasses

from rad_jax.comparison.page import FLOOR, figure6
from rad_jax.comparison.runs import list_runs
from rad_jax.reports.figures import MEMORY_COLOURS
from tests.reports.rooms import NASTY, rooms
from tests.videos import has_colour, read_picture


def test_figure_6_draws_every_memory_and_the_floors(root):
    comparison = list_runs(f"{root}/experiments/quickstart.py", "df,lstm-f", [], ablations=False)
    scores, _ = rooms()
    named = dataclasses.replace(scores, rows=scores.rows | {"df": scores.rows[NASTY]})
    picture = read_picture(figure6(comparison, [named, named]))
    assert picture.shape[0] > picture.shape[1] / 2  # two rows of panels
    for colour in (MEMORY_COLOURS["lstm"], MEMORY_COLOURS["none"], FLOOR):
        assert has_colour(picture, colour), colour
