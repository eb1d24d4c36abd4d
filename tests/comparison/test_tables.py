"""The numbers of the tables, worked out by hand from values per episode."""

import dataclasses
import math
import re

import numpy as np
import pytest

from rad_jax.comparison.costs import Costs
from rad_jax.comparison.page import markdown, verdict
from rad_jax.comparison.runs import list_runs
from rad_jax.comparison.tables import make_tables
from rad_jax.evaluation.scores import convention, metrics_spec
from rad_jax.metrics.video import REDUCTION, VideoScore
from rad_jax.reports.statistics import Scores, summarise
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
METRICS = REDUCTION.keys() - {"lpips"}
COST = Costs(1, 2, None, "", None, "x")


def row(name, episodes=3):
    videos = []
    for value in PSNR[name][:episodes]:
        slope = np.linspace(2, -2, FRAMES)  # better at first
        frames = dict.fromkeys(METRICS, value + slope) | {"ssim": (value + slope) / 100}
        videos.append(VideoScore(frames, dict.fromkeys(METRICS, value) | {"ssim": value / 100}))
    return summarise(KINDS.get(name, "model"), "", videos)


@pytest.fixture(scope="module")
def comparison(root):
    path = f"{root}/experiments/quickstart.py"
    settings = ["memory.gates=slots", "seed=5", "data.condition=action+pose", "train.steps=2600"]
    return list_runs(path, "df,lstm-c,lstm-f,lstm-s2", settings)


@pytest.fixture(scope="module")
def result():
    frames = (20, 20, 22)
    videos = [{"name": str(f), "context_frames": f, "predicted_frames": FRAMES} for f in frames]
    spec = metrics_spec(convention((32, 32), "raw", None), videos)
    return Scores("loop", spec, videos, {name: row(name) for name in PSNR}, {}, "loop")


@pytest.fixture(scope="module")
def tables(comparison, result):
    costs = {
        run.name: Costs(1000 * i, 10_000, 2**30 + i, "process", None if i else 0.25, "2 CPU cores (x86_64)")
        for i, run in enumerate(comparison.variants)
    }
    return {table.name: table for table in make_tables(comparison, [result], costs)}


def names(table):
    return [head.name for head in table.heads]


def cells(table, name):
    index = names(table).index(name)
    return {column.title: column.cells[index] for column in table.columns}


def by_hand(values):
    """Mean and standard error, in the plainest way."""
    mean = sum(values) / len(values)
    squares = sum((value - mean) ** 2 for value in values)
    return pytest.approx(Measured(mean, math.sqrt(squares / (len(values) - 1)) / math.sqrt(len(values))))


def paired(first, second):
    return by_hand([a - b for a, b in zip(PSNR[first], PSNR[second], strict=True)])


def test_which_tables_there_are(tables):
    assert " ".join(tables) == (
        "table1-loop memory-loop pairs-loop table3 table4-loop table5-loop strides-loop"
    )


def test_seeds_of_a_variant_have_a_table_of_their_own(root, result):
    comparison = list_runs(
        f"{root}/experiments/quickstart.py", "df,lstm-f,lstm-f+seed=1", [], ablations=False
    )
    values = {"lstm-f": (17.0, 18.0, 16.0), "lstm-f+seed=1": (18.0, 19.0, 20.0)}
    rows = {name: row(name) for name in ("df", "repeat last")}
    for name, of_episodes in values.items():
        PSNR[name] = of_episodes
        rows[name] = row(name)
    del PSNR["lstm-f+seed=1"]
    scores = dataclasses.replace(result, rows=rows)
    tables = {t.name: t for t in make_tables(comparison, [scores], dict.fromkeys(rows, COST))}
    table = tables["seeds-loop"]
    assert names(table) == ["lstm-f"] and cells(table, "lstm-f")["seeds"] == "0, 1"
    columns = {column.heading: column.cells[0] for column in table.columns}
    assert columns["PSNR, dB (mean of the seeds)"] == pytest.approx(18.0)
    assert columns["PSNR, dB (standard deviation)"] == pytest.approx(math.sqrt(2))
    assert "seeds 0, 1" in table.caption and "one training seed" not in table.caption


def test_table_1_has_means_errors_and_paired_differences(tables):
    table = tables["table1-loop"]
    runs = ["df", "lstm-c", "lstm-f", "lstm-s2"]
    assert names(table) == [*runs, "repeat last", "mean context", "tokenizer round trip"]
    kinds = [head.kind for head in table.heads]
    assert kinds == ["no memory", *["memory"] * 3, "floor", "floor", "ceiling"]
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
    expected = ["lstm-f \u2212 lstm-c", "lstm-f \u2212 df", "lstm-c \u2212 df"]
    assert names(table) == expected
    for name in expected:
        assert cells(table, name)["PSNR, dB"] == paired(*name.split(" \u2212 "))


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
    table = tables["table4-loop"]
    assert names(table) == ["lstm-c", "lstm-c"] and "lstm has standard gates in both rows" in table.caption
    choice, psnr, _, _, gain, _ = (column.cells for column in table.columns)
    assert choice == ["N", "Y"] and psnr[0] == by_hand(PSNR["lstm-c-noaction"])
    assert psnr[1] == by_hand(PSNR["lstm-c-action"])
    assert gain == [None, paired("lstm-c-action", "lstm-c-noaction")]
    table = tables["table5-loop"]
    assert names(table) == ["lstm-f-noised: noised", "lstm-f: clean"]
    found = cells(table, "lstm-f: clean")
    assert found["PSNR \u2212 noised, dB"] == paired("lstm-f", "lstm-f-noised")
    table = tables["strides-loop"]
    assert names(table) == ["lstm-c", "lstm-s2", "lstm-f"] and table.columns[0].cells == [4, 2, 1]
    assert cells(table, "lstm-s2")["PSNR \u2212 stride 1, dB"] == paired("lstm-s2", "lstm-f")


def test_every_table_states_its_conditions(tables):
    for name, table in tables.items():
        assert "action+pose" in table.caption and "one training seed (5)" in table.caption, name
        assert "2,600 training steps" in table.caption, name
        if name != "table3":
            conditions = ("Predicted frames only", "clipped", "3 episodes", "data range 1", "sigma 1.5")
            for words in (*conditions, "protocol loop"):
                assert words in table.caption, (name, words)


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
    one = dataclasses.replace(result, videos=result.videos[:1], rows=rows)
    tables = make_tables(comparison, [one], dict.fromkeys(PSNR, COST))
    written = [verdict(comparison, one), markdown(comparison, [one], tables, [], {})]
    for table in tables:
        written += [to_text(table), to_csv(table), to_markdown(table)]
    for text in written:
        assert not {"nan", "None"} & set(re.findall(r"\w+", text)), text
    assert "+3.00 dB against no memory (df)" in written[0] and "standard errors" not in written[0]
    (line,) = [line for line in written[3].splitlines() if line.startswith("df,")]
    assert line.split(",")[2:4] == ["14.0", ""]  # Table 1 as CSV: the mean, and no error


def test_without_a_baseline_there_are_no_differences_to_it(root, result):
    alone = list_runs(f"{root}/experiments/quickstart.py", "lstm-c,lstm-f", [], ablations=False)
    rows = {name: result.rows[name] for name in ("lstm-c", "lstm-f", "mean context")}
    one = dataclasses.replace(result, rows=rows)
    tables = {table.name: table for table in make_tables(alone, [one], dict.fromkeys(rows, COST))}
    costs = ["memory of a video, KiB", "parameters, M", "GFLOP per frame"]
    expected = ["PSNR, dB", "SSIM", "LPIPS", "PSNR emptied, dB", *costs]
    assert [c.title for c in tables["table1-loop"].columns] == expected
    assert len(tables["pairs-loop"].heads) == 1
    assert "against no memory" not in verdict(alone, one)
