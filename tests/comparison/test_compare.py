"""The comparison as a command: what it writes, what it does not do again, and what happens when something goes wrong."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from rad_jax.comparison import compare
from rad_jax.comparison.runs import list_runs
from rad_jax.evaluation.stored import read_scores
from rad_jax.main import main
from rad_jax.runs.datasets import open_sets
from rad_jax.runs.training_run import open_training_run
from tests.full_disk import fail_each_write, refused, run
from tests.reports.parsed_page import ParsedPage
from tests.toy_run import EXPERIMENT, ROOT, wait_for

STEPS = 4
VARIANTS = ("df", "lstm-f")


def arguments(toy, workdir, *more, variants="df,lstm-f", **changes):
    settings = {
        "train__steps": STEPS,
        "train__log_every": 1,
        "evaluate__more": f"again={toy.mazes}",
        "evaluate__side_by_side": 1,
    } | changes
    command = toy.arguments(
        workdir, "--mode", "compare", "--variants", variants, "--no-ablations", *more, **settings
    )
    command[1] = str(EXPERIMENT)
    return command


@pytest.fixture(scope="module")
def compared(toy, tmp_path_factory):
    """A finished comparison of two variants on two sets."""
    workdir = tmp_path_factory.mktemp("compared") / "runs"
    assert main(arguments(toy, workdir)) == 0
    return workdir


@pytest.fixture(autouse=True)
def known_to_be_on_cpu(monkeypatch):
    """Only the fixture above starts a process to find it out."""
    monkeypatch.setattr(compare, "find_devices", lambda: (True, 1))


def times(workdir):
    """When every checkpoint and every file of scores was written."""
    files = [*workdir.glob("*/checkpoints/*/manifest/*"), *workdir.glob("*/scores/*")]
    return {str(path.relative_to(workdir)): path.stat().st_mtime_ns for path in files}


def read_csv(path):
    heads, *rows = csv.reader(path.read_text().splitlines())
    return [dict(zip(heads, row, strict=True)) for row in rows]


def test_what_is_written(compared):
    names = {path.name for path in (compared / "comparison").iterdir()}
    per_set = {
        f"{table}-{name}.csv" for table in ("table1", "memory", "pairs") for name in ("return", "again")
    }
    pages = {"index.html", "comparison.md", "figure3.png", "figure6.png"}
    assert names == {*per_set, *pages, "table3.csv", "episodes.csv", "videos", "scores"}
    videos = {path.name for path in (compared / "comparison" / "videos").iterdir()}
    assert videos == {"return-00.mp4", "again-00.mp4"}  # evaluate.side_by_side is 1
    assert {path.name for path in compared.iterdir()} == {"comparison", *VARIANTS, ".lock"}
    assert not list(compared.rglob("*.tmp"))


def test_a_model_and_its_twin_have_the_report_of_an_evaluation(compared, toy, capsys, tmp_path):
    """The same numbers as that of the command that evaluates one of them against the other, by the same scores."""
    directory = compared / "lstm-f" / "evaluation"
    names = {path.name for path in directory.iterdir()}
    assert names == {"curves.png", "metrics.json", "report.html", "videos"}
    run, twin = (shutil.copytree(compared / name, tmp_path / name) for name in ("lstm-f", "df"))
    shutil.rmtree(run / "evaluation")
    for scored, folder in (("df", "evaluation/baseline"), ("comparison", "evaluation")):
        shutil.copytree(compared / scored / "scores", run / folder / "scores")
    command = ["--mode", "evaluate", "--baseline", str(twin)]
    same = {"train__steps": STEPS, "train__log_every": 1, "evaluate__side_by_side": 1}
    assert main(toy.arguments(run, *command, **same)) == 0
    assert capsys.readouterr().out.count("return: scored before") == 3
    expected = json.loads((directory / "metrics.json").read_text())
    assert json.loads((run / "evaluation" / "metrics.json").read_text()) == expected
    assert list(expected["rows"])[:3] == ["lstm-f", "lstm-f, memory emptied", "df (no memory)"]


def test_the_page_is_one_file_that_says_how(compared):
    html = (compared / "comparison" / "index.html").read_text()
    page = ParsedPage(html)
    assert "script" not in page.tags and "link" not in page.tags
    assert all(source.startswith("data:") for source in page.sources)
    machine = "x86" if os.uname().machine == "x86_64" else "CPU"
    for words in (
        "python -m rad_jax.main",
        "gaussian 11, sigma 1.5",
        "DDIM, 2 steps",
        "one training seed",
        machine,
    ):
        assert words in page.words, words
    rows = ("repeat last", "mean context", "tokenizer round trip", "perfect map")
    for name in (*VARIANTS, *rows, "Table 3", "Figure 6"):
        assert name in page.words, name
    markdown = (compared / "comparison" / "comparison.md").read_text()
    assert markdown.count("\n## ") == 3 * 2 + 1 + 3  # tables, figures, how


def test_tables_are_the_means_of_the_episodes(compared):
    """Every episode's value is in one file; means, errors and paired differences follow from it."""
    values = {}
    for line in read_csv(compared / "comparison" / "episodes.csv"):
        if (line["set"], line["metric"]) == ("return", "psnr"):
            values.setdefault(line["row"], []).append(float(line["value"]))
    assert {len(found) for found in values.values()} == {3}
    for line in read_csv(compared / "comparison" / "table1-return.csv"):
        found = np.array(values[line["row"]])
        assert float(line["PSNR, dB"]) == pytest.approx(found.mean())
        assert float(line["PSNR, dB: standard error"]) == pytest.approx(found.std(ddof=1) / 3**0.5)
        if line["row"] != "df":
            gain = found - values["df"]
            assert float(line["PSNR \u2212 df, dB"]) == pytest.approx(gain.mean())
            error = line["PSNR \u2212 df, dB: standard error"]
            assert float(error) == pytest.approx(gain.std(ddof=1) / 3**0.5)


def test_costs_were_measured_in_training(compared):
    df, lstm = read_csv(compared / "comparison" / "table3.csv")
    assert (df["row"], df["parameters of the memory"]) == ("df", "0")
    assert int(lstm["parameters of the memory"]) == int(lstm["of the whole model"]) - int(
        df["of the whole model"]
    )
    for line in (df, lstm):
        assert 0 < float(line["s per training step"]) < 60
        assert int(line["peak memory, MiB"]) > 100 and line["of the"] == "process"
        assert "CPU core" in line["hardware"]
    lines = [json.loads(line) for line in (compared / "df" / "metrics.jsonl").read_text().splitlines()]
    assert ["time/seconds_per_step" in line for line in lines] == [False, *[True] * (STEPS - 1)]
    assert all(line["time/peak_bytes_process"] > 2**26 for line in lines)


def test_the_same_set_under_two_names_scores_alike(compared):
    for name in (*VARIANTS, "comparison"):
        first, second = (read_scores(compared / name, s) for s in ("return", "again"))
        assert first.rows == second.rows


def test_a_failing_run_is_named_and_what_is_finished_is_not_done_again(
    compared, toy, tmp_path, capsys, monkeypatch
):
    workdir = shutil.copytree(compared, tmp_path / "runs")
    (workdir / "lstm-f" / "scores").rename(tmp_path / "aside")
    with monkeypatch.context() as patch:
        patch.setattr(compare, "WORKER", "rad_jax.comparison.nowhere")
        assert main(arguments(toy, workdir)) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: lstm-f: scoring ended with status 1; its last lines:\n    ")
    assert "[1/1] lstm-f: scoring FAILED" in captured.out and "finished before: df" in captured.out

    (tmp_path / "aside").rename(workdir / "lstm-f" / "scores")
    before = times(workdir)
    (workdir / "comparison" / "table9-return.csv").write_text("of another comparison")
    assert main(arguments(toy, workdir)) == 0
    out = capsys.readouterr().out
    assert "finished before: df, lstm-f" in out and "to do" not in out
    assert "Table 1: return" in out and "index.html" in out
    assert times(workdir) == before
    assert not (workdir / "comparison" / "table9-return.csv").exists()


def test_only_what_has_changed_is_done_again(compared, toy, tmp_path):
    workdir = shutil.copytree(compared, tmp_path / "runs")

    def jobs(**changes):
        words = [word.partition("--config.")[2] for word in arguments(toy, workdir, **changes)]
        comparison = list_runs(str(EXPERIMENT), "df", [*filter(None, words)], ablations=False)
        run = open_training_run(comparison.runs[0].config)
        sets, tokenizer = open_sets(run.config.evaluate), run.tokenizer.fingerprint
        left = compare.unfinished_jobs(comparison, workdir, sets, tokenizer)
        return {name: list(commands) for name, commands in left.items()}

    assert jobs() == jobs(evaluate__more="", evaluate__batch=1) == {}
    rooms, mazes = (shutil.copytree(data, tmp_path / data.name) for data in (toy.rooms, toy.mazes))
    assert jobs(data__path=rooms, evaluate__path=mazes, evaluate__more=f"again={mazes}") == {}
    assert jobs(sample__steps=1) == {"df": ["scoring"]}
    assert jobs(evaluate__videos=1) == {"df": ["scoring"], "bounds": ["scoring"]}
    assert jobs(train__steps=STEPS + 1) == {"df": ["training", "scoring"]}
    files = (workdir / "df" / "checkpoints" / str(STEPS) / "state").rglob("*")
    file = max(files, key=lambda path: path.stat().st_size)
    file.write_bytes(file.read_bytes()[::-1])
    assert jobs(sample__steps=1) == {"df": ["training", "scoring"]}
    (workdir / "df" / "scores" / "return.figure3.json").unlink()
    assert jobs() == {"df": ["training", "scoring"]}


def test_killed_at_any_moment_the_same_command_goes_on(compared, toy, tmp_path):
    """Killed (SIGKILL) while a run trains: the same numbers come out, to the bit, and no step is done twice."""
    workdir = tmp_path / "runs"
    shutil.copytree(compared / "comparison" / "scores", workdir / "comparison" / "scores")
    options = arguments(toy, workdir, variants="df", checkpoint__every=1, evaluate__more="")
    process = subprocess.Popen(
        [sys.executable, "-m", "rad_jax.main", *options],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(process, lambda: workdir.exists() and any(workdir.glob("df/checkpoints/[1-9]")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert main(options) == 0
    assert read_scores(workdir / "df", "return").rows == read_scores(compared / "df", "return").rows
    lines = (workdir / "df" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, STEPS + 1))
    assert not list(workdir.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--variants", "df,lstm-x"], "lstm-f?"),
        (["--distributed"], "--distributed"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_before_anything_is_written(more, words, tmp_path, capsys):
    command = ["--config", str(EXPERIMENT), "--mode", "compare", "--workdir", str(tmp_path / "runs")]
    assert main([*command, *more]) == 2
    captured = capsys.readouterr()
    assert words in captured.err and len(captured.err.splitlines()) == 1 and captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_missing_set_is_named_with_its_command(toy, tmp_path, capsys):
    missing = tmp_path / "none"
    make = {"evaluate__more": f"loop={missing}", "evaluate__more_make": "make {name} in {path}"}
    assert main(arguments(toy, tmp_path / "runs", **make)) == 1
    problem, make = capsys.readouterr().err.splitlines()
    assert problem.startswith("error: ") and str(missing) in problem
    assert make == f"make it with: make loop in {missing}"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_another_run_is_refused(compared, toy, capsys):
    before = times(compared)
    assert main(arguments(toy, compared, seed=3)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "seed=3" in line and "holds a run with 0" in line
    assert times(compared) == before


def test_a_disk_that_is_full_at_each_kind_of_file_of_the_page(compared, toy, tmp_path):
    """The numbers are there already: the same command writes what is missing, and the same bytes."""
    workdir = shutil.copytree(compared, tmp_path / "runs")
    command = partial(main, arguments(toy, workdir, variants="df"))
    assert run(command).status == 0
    page = workdir / "comparison"
    names = {str(path.relative_to(page)) for path in page.rglob("*.*") if path.parent.name != "scores"}
    pages = {name: (page / name).read_bytes() for name in names if not name.endswith(".mp4")}
    endings = fail_each_write(command, workdir, lambda path: path.suffix)
    assert {ending.kind for ending in endings} == {".csv", ".md", ".html", ".png", ".mp4"}
    for ending in endings:
        refused(ending, workdir)
    assert {name: (page / name).read_bytes() for name in pages} == pages
