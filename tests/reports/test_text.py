"""Sentences agree with the numbers, and undefined numbers are never written as numbers."""

import dataclasses
import math

import numpy as np
import pytest

from rad_jax.reports import text
from tests.reports.rooms import NASTY, rooms

DASH, MINUS = "\u2013", "\u2212"


@pytest.mark.parametrize("undefined", [None, math.nan, math.inf])
def test_undefined_numbers(undefined):
    assert text.number(undefined) == DASH
    assert text.error_text(undefined) == ""


def test_numbers():
    assert (text.number(-1.2345, 3), text.error_text(0.05, 3)) == (f"{MINUS}1.234", "± 0.050")
    assert text.number(2, sign=True) == "+2.00"
    assert text.number(-0.001) == "0.00"
    assert text.counted(1, "frame") == "1 frame" and text.counted([40, 120], "frame") == "40 to 120 frames"


@pytest.mark.parametrize(
    ("mean", "error", "expected"),
    [
        *((0.3, 0.1, "above"), (-0.3, 0.1, "below"), (0.2, 0.1, "equal"), (-0.2, 0.1, "equal")),
        *((0.3, None, "above"), (-0.3, math.nan, "below"), (0.0, None, "equal")),
    ],
)
def test_a_side_is_clear_beyond_two_standard_errors(mean, error, expected):
    assert text.side({"mean": mean, "standard_error": error}) == expected


@pytest.mark.parametrize(
    ("name", "mean", "error", "expected"),
    [
        (NASTY, -1.5, 0.1, "1.50 dB below the baseline"),
        (NASTY, 0.1, 0.2, "within two standard errors: no gain can be seen"),
        ("mean context", -2.0, 0.1, "mean context is 2.00 dB better: this is not yet a model of the world"),
        ("mean context", 3.0, 0.1, "mean context, is 3.00 dB below"),
    ],
)
def test_the_verdict_is_honest(name, mean, error, expected):
    """With values per video of which ``mean`` and ``error`` are the mean and the standard error."""
    scores, _ = rooms()
    spread = error * np.sqrt(3) * np.array([-1.0, 0.0, 1.0])
    model = np.array(scores.rows["lstm-f"]["per_video"]["psnr"])
    row = scores.rows[name] | {"per_video": {"psnr": (model - mean + spread).tolist()}}
    changed = dataclasses.replace(scores, rows=scores.rows | {name: row})
    assert expected in text.verdict(changed, "lstm-f")


def test_cards_show_the_model_its_baseline_the_best_floor_and_the_ceiling():
    scores, _ = rooms()
    assert scores.best_floor() == "mean context"
    cards = text.cards(scores, "lstm-f")
    kinds = [card.kind for card in cards]
    assert kinds == ["model", "above", "above", "bound"]  # the exact oracle has no card
    assert cards[0].value == f"{scores.psnr('lstm-f'):.2f}"
