"""The tables of a comparison: the paper's Tables 1 (and 2) to 5, the thesis's strided one, memory metrics, paired differences.

There is one table of scores for every evaluation set. All of its rows cover the same episodes, so every difference is paired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rad_jax.comparison.costs import Costs
from rad_jax.comparison.plan import Comparison, Run
from rad_jax.evaluation.scores import difference
from rad_jax.reports.figures import COLOURS, MEMORY_COLOURS
from rad_jax.reports.tables import Cell, Column, Measured, Table, TableRow
from rad_jax.reports.text import MEMORY_METRICS, convention

DIGITS = {"psnr": 2, "ssim": 3, "lpips": 3, "histogram_intersection": 3, "psnr_coarse": 2}
SCORES = {"psnr": "PSNR, dB", "ssim": "SSIM", "lpips": "LPIPS"}
PAIRED = {
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "psnr_coarse": "PSNR at 1/8, dB",
    "histogram_intersection": "colours in common",
}


@dataclass(frozen=True)
class SetResult:
    """All rows on one evaluation set. ``rows``: by name of the run, floor, ceiling or oracle, see `scores.summarise`."""

    name: str
    protocol: str
    metrics_spec: Mapping[str, Any]
    videos: Sequence[Mapping[str, Any]]
    rows: Mapping[str, Mapping[str, Any]]


def make_tables(comparison: Comparison, sets: Sequence[SetResult], costs: Mapping[str, Costs]) -> list[Table]:
    """All tables that the runs of a comparison give, in the order of the page."""
    return [
        *(
            table
            for result in sets
            for table in (score_table(comparison, result), memory_table(comparison, result))
        ),
        *(table for result in sets if (table := pair_table(comparison, result)).rows),
        cost_table(comparison, costs),
        *(table for result in sets if (table := action_table(comparison, result)).rows),
        *(table for result in sets if (table := frames_table(comparison, result)).rows),
        *(table for result in sets if (table := stride_table(comparison, result)).rows),
    ]


def score_table(comparison: Comparison, result: SetResult) -> Table:
    """Table 1: every variant, floors, ceilings and the oracle, and the difference of each to the model without memory."""
    baseline = comparison.baseline
    against = [_against(m, baseline.name) for m in ("psnr", "ssim")] if baseline else []
    lines = [
        _line(comparison, result, name, [*_scores(result, name), *_differences(result, name, baseline)])
        for name in _table_rows(comparison, result)
    ]
    columns = [*(Column(title, DIGITS[m], errors=True) for m, title in SCORES.items()), *against]
    return Table(
        f"table1-{result.name}", f"Table 1: {result.name}", columns, lines, caption(comparison, result)
    )


def memory_table(comparison: Comparison, result: SetResult) -> Table:
    """The metrics that distinguish "forgot" from "drifted", which need no weights."""
    columns = [
        Column(f"{title} ({better})", DIGITS.get(metric, 2), errors=True)
        for metric, (title, better, _) in MEMORY_METRICS.items()
    ]
    lines = [
        _line(comparison, result, name, [_measured(result.rows[name], metric) for metric in MEMORY_METRICS])
        for name in _table_rows(comparison, result)
    ]
    return Table(
        f"memory-{result.name}",
        f"Forgotten, or drifted? {result.name}",
        columns,
        lines,
        caption(comparison, result),
    )


def pair_table(comparison: Comparison, result: SetResult) -> Table:
    """Frame-wise against chunk-wise, and both against no memory, for every memory."""
    lines = []
    for memory in dict.fromkeys(run.memory for run in comparison.variants if run.memory != "none"):
        frame, chunk = comparison.find(memory, "f"), comparison.find(memory, "c")
        for first, second in ((frame, chunk), (frame, comparison.baseline), (chunk, comparison.baseline)):
            if first and second:
                cells = [_paired(result, first.name, second.name, metric) for metric in PAIRED]
                lines.append(
                    TableRow(
                        f"{first.name} \u2212 {second.name}", cells, colour=_colour(comparison, first.name)
                    )
                )
    columns = [Column(title, DIGITS[metric], True, True) for metric, title in PAIRED.items()]
    return Table(
        f"pairs-{result.name}", f"Frame-wise, chunk-wise, no memory: {result.name}", columns, lines,
        "First minus second, episode by episode. " + caption(comparison, result),
    )  # fmt: skip


def cost_table(comparison: Comparison, costs: Mapping[str, Costs]) -> Table:
    """Table 3: size of the recurrent branch, peak memory and time of a training step, and on what hardware."""
    lines = []
    for run in comparison.variants:
        cost = costs[run.name]
        peak = None if cost.peak_bytes is None else round(cost.peak_bytes / 2**20)
        cells = [
            cost.memory_parameters,
            cost.parameters,
            peak,
            cost.peak_of,
            cost.step_seconds,
            cost.hardware,
        ]
        lines.append(TableRow(run.name, cells, colour=_colour(comparison, run.name)))
    columns = [
        Column("parameters of the memory", 0), Column("of the whole model", 0), Column("peak memory, MiB", 0),
        Column("of the"), Column("s per training step", 3), Column("hardware"),
    ]  # fmt: skip
    config = comparison.runs[0].config
    text = (
        "Measured by the training runs themselves. Seconds: median over the intervals between two lines of metrics.jsonl, the "
        "first of every process left out, which has the compilation in it. Peak: of the fullest device; on a CPU the resident "
        "memory of the whole process, with its program, the compiler and the data readers. "
        f"Batch {config.train.batch} clips of {config.data.clip} frames, window {config.model.window}, {config.model.dtype}. "
        + training(comparison)
    )
    return Table("table3", "Table 3: what a memory costs", columns, lines, text)


def action_table(comparison: Comparison, result: SetResult) -> Table:
    """Table 4: chunk-wise memories without (N) and with (Y) the action in their input."""
    lines, notes = [], []
    for memory, (without, with_action) in comparison.action.items():
        for choice, name in (("N", without), ("Y", with_action)):
            cells = [choice, *_scores(result, name), *_differences(result, name, comparison.run(without))]
            lines.append(TableRow(f"{memory}-c", cells, colour=_colour(comparison, name)))
        if comparison.run(without).ablation and comparison.run(with_action).ablation:
            notes.append(f"{memory} has standard gates in both rows: slot gates are functions of the action.")
    columns = [
        Column("action"),
        *(Column(title, DIGITS[metric], errors=True) for metric, title in SCORES.items()),
        *(_against(metric, "N") for metric in ("psnr", "ssim")),
    ]
    text = " ".join([
        "Whether a projection of the action is concatenated to the input of the memory (memory.action).",
        *notes, caption(comparison, result),
    ])  # fmt: skip
    return Table(
        f"table4-{result.name}", f"Table 4: the action in the memory, {result.name}", columns, lines, text
    )


def frames_table(comparison: Comparison, result: SetResult) -> Table:
    """Table 5: what enters the memory of lstm-f in training, noised or clean frames."""
    lines = []
    for frames in ("noised", "clean") if comparison.frames else ():
        name = comparison.frames[frames]
        cells = [
            *_scores(result, name),
            *_differences(result, name, comparison.run(comparison.frames["noised"])),
        ]
        lines.append(TableRow(f"{name}: {frames}", cells, colour=_colour(comparison, name)))
    columns = [
        *(Column(title, DIGITS[metric], errors=True) for metric, title in SCORES.items()),
        *(_against(metric, "noised") for metric in ("psnr", "ssim")),
    ]
    text = "What the memory of lstm-f sees of earlier frames in training (memory.frames). " + caption(
        comparison, result
    )
    return Table(
        f"table5-{result.name}",
        f"Table 5: the frames that enter the memory, {result.name}",
        columns,
        lines,
        text,
    )


def stride_table(comparison: Comparison, result: SetResult) -> Table:
    """The thesis's strided table: a memory whose window slides by all of its frames, by some, and by one."""
    lines = []
    for memory in dict.fromkeys(run.memory for run in comparison.variants if run.mode == "s"):
        runs = [run for run in comparison.variants if run.memory == memory]
        one = comparison.find(memory, "f")
        for run in sorted(runs, key=lambda run: -run.config.memory.stride):
            cells = [
                run.config.memory.stride,
                *_scores(result, run.name),
                *_differences(result, run.name, one),
            ]
            lines.append(
                TableRow(
                    run.name, cells if one else [*cells, None, None], colour=_colour(comparison, run.name)
                )
            )
    columns = [
        Column("stride", 0),
        *(Column(title, DIGITS[metric], errors=True) for metric, title in SCORES.items()),
        *(_against(metric, "stride 1") for metric in ("psnr", "ssim")),
    ]
    window = comparison.runs[0].config.model.window
    text = f"By how many of the {window} frames of a window it slides. " + caption(comparison, result)
    return Table(f"strides-{result.name}", f"Strides: {result.name}", columns, lines, text)


def caption(comparison: Comparison, result: SetResult) -> str:
    """The conditions of a table of scores."""
    where = f"Evaluation set {result.name} (protocol {result.protocol}, {len(result.videos)} episodes)"
    return f"{where}: {convention(result.metrics_spec)} {training(comparison)}"


def training(comparison: Comparison) -> str:
    """The conditions of training, stated under every table."""
    config = comparison.runs[0].config
    return (
        f"Condition of every frame: {config.data.condition}. {config.train.steps:,} training steps; one training seed "
        f"({config.seed}), so that differences between seeds are not in the errors."
    )


def _table_rows(comparison: Comparison, result: SetResult) -> list[str]:
    runs = {run.name for run in comparison.runs}
    return [*(run.name for run in comparison.variants), *(name for name in result.rows if name not in runs)]


def _line(comparison: Comparison, result: SetResult, name: str, cells: Sequence[Cell]) -> TableRow:
    row = result.rows[name]
    kind = {"model": "memory", "baseline": "no memory"}.get(row["kind"], row["kind"])
    return TableRow(
        name,
        cells,
        kind,
        row["note"] if row["kind"] == "oracle" else "",
        _colour(comparison, name, row["kind"]),
    )


def _colour(comparison: Comparison, name: str, kind: str = "") -> str:
    run = comparison.run(name)
    return MEMORY_COLOURS[run.memory] if run else COLOURS[kind]


def _against(metric: str, other: str) -> Column:
    """A column of differences, paired by episode."""
    name, comma, unit = SCORES[metric].partition(",")
    return Column(f"{name} \u2212 {other}{comma}{unit}", DIGITS[metric], sign=True, errors=True)


def _scores(result: SetResult, name: str) -> list[Cell]:
    return [_measured(result.rows[name], metric) for metric in SCORES]


def _measured(row: Mapping[str, Any], metric: str) -> Cell:
    if metric not in row["mean"]:
        return "n/a"
    return Measured(row["mean"][metric], row["standard_error"][metric])


def _differences(result: SetResult, name: str, other: Run | None) -> list[Cell]:
    """Differences of PSNR and SSIM to another run: no cells if there is none, undefined ones for that run itself."""
    if other is None:
        return []
    return [None if name == other.name else _paired(result, name, other.name, m) for m in ("psnr", "ssim")]


def _paired(result: SetResult, first: str, second: str, metric: str) -> Measured:
    found = difference(result.rows[first], result.rows[second], metric)
    return Measured(found["mean"], found["standard_error"])
