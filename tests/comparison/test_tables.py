"""The numbers of the tables, worked out by hand from values per episode."""

import csv
import io
import math
import re

import numpy as np
import pytest

from rad_jax.comparison.costs import Costs
from rad_jax.comparison.page import markdown
from rad_jax.comparison.plan import plan_comparison
from rad_jax.comparison.tables import SetResult, make_tables
from rad_jax.comparison.text import verdict
from rad_jax.evaluation.scores import convention, metrics_spec, summarise
from rad_jax.metrics.video import REDUCTION, VideoScore
from rad_jax.reports.tables import Measured, to_csv, to_markdown, to_text

# PSNR of three episodes; SSIM is a hundredth of it.
PSNR = {
    "df": (14.0, 15.0, 16.0),
    "lstm-c": (15.0, 15.0, 18.0),
    "lstm-f": (17.0, 18.0, 16.0),
    "lstm-s2": (16.0, 16.0, 16.0),
    "lstm-c-noaction": (14.0, 14.0, 14.0),
    "lstm-c-action": (14.0, 15.0, 17.0),
    "lstm-f-noised": (15.0, 16.0, 17.0),
    "repeat last": (12.0, 12.0, 12.0),
    "mean context": (16.0, 16.5, 17.0),
    "tokenizer round trip": (30.0, 30.0, 31.0),
}
KINDS = {"repeat last": "floor", "mean context": "floor", "tokenizer round trip": "ceiling", "df": "baseline"}
FRAMES = 6


def row(name, episodes=3):
    videos = []
    for value in PSNR[name][:episodes]:
        slope = np.linspace(2, -2, FRAMES)  # better at first
        frames = dict.fromkeys(REDUCTION, value + slope) | {"ssim": (value + slope) / 100}
        videos.append(VideoScore(frames, dict.fromkeys(REDUCTION, value) | {"ssim": value / 100}))
    return summarise(KINDS.get(name, "model"), "", videos)


@pytest.fixture(scope="module")
def comparison(root):
    path = f"{root}/experiments/quickstart.py"
    return plan_comparison(path, "df,lstm-c,lstm-f,lstm-s2", ["memory.gates=slots", "seed=5"])


@pytest.fixture(scope="module")
def result():
    spec = metrics_spec(convention((32, 32), "raw", None), [20, 20, 22], [FRAMES] * 3)
    videos = [{"name": str(i), "context_frames": 20, "predicted_frames": FRAMES} for i in range(3)]
    return SetResult("loop", "loop", spec, videos, {name: row(name) for name in PSNR})


@pytest.fixture(scope="module")
def tables(comparison, result):
    costs = {
        run.name: Costs(1000 * i, 10_000, 2**30 + i, "process", None if i else 0.25, "2 CPU cores (x86_64)")
        for i, run in enumerate(comparison.variants)
    }
    return {table.name: table for table in make_tables(comparison, [result], costs)}


def cells(table, name):
    (line,) = [line for line in table.rows if line.name == name]
    return dict(zip([column.title for column in table.columns], line.cells, strict=True))


def by_hand(values):
    """Mean and standard error, in the plainest way."""
    mean = sum(values) / len(values)
    squares = sum((value - mean) ** 2 for value in values)
    return pytest.approx(Measured(mean, math.sqrt(squares / (len(values) - 1)) / math.sqrt(len(values))))


def paired(first, second):
    return by_hand([a - b for a, b in zip(PSNR[first], PSNR[second], strict=True)])


def test_which_tables_there_are(tables):
    assert list(tables) == [
        "table1-loop",
        "memory-loop",
        "pairs-loop",
        "table3",
        "table4-loop",
        "table5-loop",
        "strides-loop",
    ]


def test_table_1_has_means_errors_and_paired_differences(tables):
    table = tables["table1-loop"]
    assert [line.name for line in table.rows] == [
        "df",
        "lstm-c",
        "lstm-f",
        "lstm-s2",
        "repeat last",
        "mean context",
        "tokenizer round trip",
    ]
    for name in ("df", "lstm-f", "mean context"):
        assert cells(table, name)["PSNR, dB"] == by_hand(PSNR[name])
        assert cells(table, name)["SSIM"] == by_hand([value / 100 for value in PSNR[name]])
        assert cells(table, name)["LPIPS"] == "n/a"
    found = cells(table, "lstm-f")["PSNR \u2212 df, dB"]
    assert found == paired("lstm-f", "df") and found.mean == pytest.approx(2.0)
    assert found.error == pytest.approx(1.0)  # of 3, 3, 0; unpaired errors would add up to 0.82
    assert cells(table, "df")["PSNR \u2212 df, dB"] is None


def test_pairs_are_frame_chunk_and_none(tables):
    table = tables["pairs-loop"]
    names = ["lstm-f \u2212 lstm-c", "lstm-f \u2212 df", "lstm-c \u2212 df"]
    assert [line.name for line in table.rows] == names
    for name in names:
        first, second = name.split(" \u2212 ")
        assert cells(table, name)["PSNR, dB"] == paired(first, second)


def test_table_3_says_what_was_measured_where(tables):
    table = tables["table3"]
    assert cells(table, "df") == {
        "parameters of the memory": 0,
        "of the whole model": 10_000,
        "peak memory, MiB": 1024,
        "of the": "process",
        "s per training step": 0.25,
        "hardware": "2 CPU cores (x86_64)",
    }
    assert cells(table, "lstm-c")["s per training step"] is None


def test_tables_4_and_5_and_strides_compare_the_right_runs(tables):
    without, with_action = tables["table4-loop"].rows
    assert [without.cells[0], with_action.cells[0]] == ["N", "Y"]
    assert without.cells[1] == by_hand(PSNR["lstm-c-noaction"]) and without.cells[4] is None
    assert with_action.cells[1] == by_hand(PSNR["lstm-c-action"])
    assert with_action.cells[4] == paired("lstm-c-action", "lstm-c-noaction")
    assert "lstm has standard gates in both rows" in tables["table4-loop"].caption
    noised, clean = tables["table5-loop"].rows
    assert (noised.name, clean.name) == ("lstm-f-noised: noised", "lstm-f: clean")
    assert clean.cells[3] == paired("lstm-f", "lstm-f-noised")
    strides = tables["strides-loop"]
    assert [(line.name, line.cells[0]) for line in strides.rows] == [
        ("lstm-c", 4),
        ("lstm-s2", 2),
        ("lstm-f", 1),
    ]
    assert cells(strides, "lstm-s2")["PSNR \u2212 stride 1, dB"] == paired("lstm-s2", "lstm-f")


def test_every_table_states_its_conditions(tables):
    for name, table in tables.items():
        assert "action+pose" in table.caption and "one training seed (5)" in table.caption, name
        assert "2,600 training steps" in table.caption, name
        if name != "table3":
            for words in (
                "Predicted frames only",
                "clipped",
                "3 episodes",
                "data range 1",
                "sigma 1.5",
                "protocol loop",
            ):
                assert words in table.caption, (name, words)


def test_csv_has_the_errors_beside_the_means(tables):
    heads, *rows = csv.reader(io.StringIO(to_csv(tables["table1-loop"])))
    (line,) = [dict(zip(heads, row, strict=True)) for row in rows if row[0] == "lstm-f"]
    assert float(line["PSNR, dB"]) == pytest.approx(17.0)
    assert float(line["PSNR, dB: standard error"]) == pytest.approx(1 / math.sqrt(3))
    assert line["kind"] == "memory"


def test_the_verdict_is_what_the_numbers_say(comparison, result):
    text = verdict(comparison, result)
    assert "of 4 variants lstm-f has the highest PSNR, 17.00 dB" in text
    assert "+2.00 ± 1.00 dB against no memory (df)" in text
    # 17, 18, 16 against 16, 16.5, 17: +0.5 ± 0.76 is not clear; no other variant is above it either.
    assert "mean context, has 16.50 dB; 0 of 4 variants are above it" in text
    assert "PSNR is the same within two standard errors for lstm" in text


def test_a_single_episode_has_no_errors_in_any_writer(comparison, result):
    """Neither "nan" nor "None": what is undefined is left out or a dash."""
    rows = {name: row(name, episodes=1) for name in PSNR}
    rows["df"]["mean"]["motion"] = rows["df"]["per_video"]["motion"][0] = None  # as where nothing moves
    one = SetResult("loop", "loop", result.metrics_spec, result.videos[:1], rows)
    costs = {run.name: Costs(1, 2, None, "", None, "x") for run in comparison.variants}
    tables = make_tables(comparison, [one], costs)
    written = [verdict(comparison, one), markdown(comparison, [one], tables, {})]
    for table in tables:
        written += [to_text(table), to_csv(table), to_markdown(table)]
    for text in written:
        assert not {"nan", "None"} & set(re.findall(r"\w+", text)), text
    assert "+3.00 dB against no memory (df)" in written[0]
    (line,) = [line for line in written[3].splitlines() if line.startswith("df,")]
    assert line.split(",")[2:4] == ["14.0", ""]  # Table 1 as CSV: the mean, and no error


def test_without_a_baseline_there_are_no_differences_to_it(root, result):
    alone = plan_comparison(f"{root}/experiments/quickstart.py", "lstm-c,lstm-f", [], ablations=False)
    costs = {run.name: Costs(1, 2, None, "", None, "x") for run in alone.runs}
    rows = {name: result.rows[name] for name in ("lstm-c", "lstm-f", "mean context")}
    one = SetResult("loop", "loop", result.metrics_spec, result.videos, rows)
    tables = {table.name: table for table in make_tables(alone, [one], costs)}
    assert [c.title for c in tables["table1-loop"].columns] == ["PSNR, dB", "SSIM", "LPIPS"]
    assert len(tables["pairs-loop"].rows) == 1
    assert "against no memory" not in verdict(alone, one)
