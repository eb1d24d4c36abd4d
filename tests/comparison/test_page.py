"""Figure 6 has the lines of all rows."""

import dataclasses
import io

import numpy as np
from PIL import Image

from rad_jax.comparison.page import FLOOR, figure6
from rad_jax.comparison.runs import list_runs
from rad_jax.reports.figures import MEMORY_COLOURS
from tests.reports.rooms import NASTY, rooms


def test_figure_6_draws_every_memory_and_the_floors(root):
    comparison = list_runs(f"{root}/experiments/quickstart.py", "df,lstm-f", [], ablations=False)
    scores, _ = rooms()
    named = dataclasses.replace(scores, rows=scores.rows | {"df": scores.rows[NASTY]})
    picture = np.asarray(Image.open(io.BytesIO(figure6(comparison, [named, named]))).convert("RGB"))
    assert picture.shape[0] > picture.shape[1] / 2  # two rows of panels
    for colour in (MEMORY_COLOURS["lstm"], MEMORY_COLOURS["none"], FLOOR):
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        assert np.any(np.all(picture == wanted, axis=-1)), colour
