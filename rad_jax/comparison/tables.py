"""The tables of a comparison: the paper's Tables 1 (and 2) to 5, the thesis's strided one, memory metrics, paired differences.

There is one table of scores for every evaluation set. All of its rows cover the same episodes, so every difference is paired.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import mean, stdev

from rad_jax.comparison.costs import Costs
from rad_jax.comparison.runs import Comparison
from rad_jax.evaluation.scores import EMPTIED
from rad_jax.reports.figures import COLOURS, MEMORY_COLOURS, OWN_COLOUR, tinted
from rad_jax.reports.statistics import Scores
from rad_jax.reports.tables import Column, Head, Table, cost_columns, difference, measured, memory_columns
from rad_jax.reports.text import METRICS, convention

SCORES = ("psnr", "ssim", "lpips")
COMPARED = ("psnr", "ssim")
PAIRED = ("psnr", "ssim", "psnr_coarse", "histogram_intersection")
KINDS = {"model": "memory", "baseline": "no memory"}  # what such rows are called where all runs are models


def make_tables(comparison: Comparison, sets: Sequence[Scores], costs: Mapping[str, Costs]) -> list[Table]:
    """All tables that the runs of a comparison give, in the order of the page."""

    def of_every_set(*makers: Callable[[Comparison, Scores], Table]) -> list[Table]:
        return [table for scores in sets for make in makers if (table := make(comparison, scores)).heads]

    return [
        *of_every_set(score_table, memory_table),
        *of_every_set(seed_table, pair_table),
        cost_table(comparison, costs),
        *of_every_set(action_table),
        *of_every_set(frames_table),
        *of_every_set(stride_table),
    ]


def score_table(comparison: Comparison, scores: Scores) -> Table:
    """Table 1: every variant, floors, ceilings and the oracle, their differences to the model without memory, and costs."""
    heads, other = _heads(comparison, scores), comparison.baseline.name if comparison.baseline else ""
    names = [head.name for head in heads]
    emptied = [scores.rows.get(f"{name}, {EMPTIED}") for name in names]
    columns = [
        *_compared(scores, [(name, other) for name in names], other),
        Column("PSNR emptied, dB", [row and row["mean"]["psnr"] for row in emptied]),
        *cost_columns(scores, names),
    ]
    about = "Emptied: the same weights, their memory emptied before the first prediction."
    return _table(comparison, scores, "table1", "Table 1:", heads, columns, about)


def memory_table(comparison: Comparison, scores: Scores) -> Table:
    """The metrics that distinguish "forgot" from "drifted", which need no weights."""
    heads = _heads(comparison, scores)
    columns = memory_columns(scores, [head.name for head in heads])
    return _table(comparison, scores, "memory", "Forgotten, or drifted?", heads, columns)


def seed_table(comparison: Comparison, scores: Scores) -> Table:
    """Every variant that was trained with several seeds: mean and standard deviation over them."""
    groups = comparison.seeds()
    heads = [_head(comparison, runs[0].name) for runs in groups]
    columns = [Column("seeds", [", ".join(str(run.config.seed) for run in runs) for runs in groups])]
    for metric in COMPARED:
        shown = METRICS[metric]
        found = [[scores.rows[run.name]["mean"][metric] for run in runs] for runs in groups]
        known = [None not in values for values in found]
        means = [mean(values) if all_known else None for values, all_known in zip(found, known, strict=True)]
        spread = [
            stdev(values) if all_known else None for values, all_known in zip(found, known, strict=True)
        ]
        columns.append(Column(shown.heading, means, shown.digits, note="mean of the seeds"))
        columns.append(Column(shown.heading, spread, shown.digits, note="standard deviation"))
    about = "Mean and standard deviation, over the seeds of the training, of the means over episodes."
    return _table(comparison, scores, "seeds", "Seeds:", heads, columns, about)


def pair_table(comparison: Comparison, scores: Scores) -> Table:
    """Frame-wise against chunk-wise, and both against no memory, for every memory."""
    pairs = []
    for memory in comparison.memories:
        frame, chunk, none = comparison.find(memory, "f"), comparison.find(memory, "c"), comparison.baseline
        three = (frame, chunk), (frame, none), (chunk, none)
        pairs += [(first.name, second.name) for first, second in three if first and second]
    heads = [_head(comparison, first, f"{first} \u2212 {second}") for first, second in pairs]
    columns = [difference(scores, metric, pairs) for metric in PAIRED]
    title, about = "Frame-wise, chunk-wise, no memory:", "First minus second, episode by episode."
    return _table(comparison, scores, "pairs", title, heads, columns, about)


def cost_table(comparison: Comparison, costs: Mapping[str, Costs]) -> Table:
    """Table 3: size of the recurrent branch, peak memory and time of a training step, and on what hardware."""
    names = [run.name for run in comparison.variants]
    found = [costs[name] for name in names]
    columns = [
        Column("parameters of the memory", [cost.memory_parameters for cost in found]),
        Column("of the whole model", [cost.parameters for cost in found]),
        Column("peak memory, MiB", [cost.peak_bytes and round(cost.peak_bytes / 2**20) for cost in found]),
        Column("of the", [cost.peak_of for cost in found]),
        Column("s per training step", [cost.step_seconds for cost in found], 3),
        Column("hardware", [cost.hardware for cost in found]),
    ]
    config = comparison.runs[0].config
    text = (
        "Measured by the training runs themselves. Seconds: median over the intervals between two lines of metrics.jsonl, the "
        "first of every process left out, which has the compilation in it. Peak: of the fullest device; on a CPU the resident "
        "memory of the whole process, with its program, the compiler and the data readers. "
        f"Batch {config.train.batch} clips of {config.data.clip} frames, window {config.model.window}, {config.model.dtype}. "
        + training(comparison)
    )
    heads = [_head(comparison, name) for name in names]
    return Table("table3", "Table 3: what a memory costs", heads, columns, text)


def action_table(comparison: Comparison, scores: Scores) -> Table:
    """Table 4: chunk-wise memories without (N) and with (Y) the action in their input."""
    heads, pairs = [], []
    about = ["Whether a projection of the action is concatenated to the input of the memory (memory.action)."]
    for memory, (without, with_action) in comparison.action.items():
        pairs += [(without, without), (with_action, without)]
        heads += [_head(comparison, name, f"{memory}-c") for name in (without, with_action)]
        if comparison.run(without).ablation and comparison.run(with_action).ablation:
            about.append(f"{memory} has standard gates in both rows: slot gates are functions of the action.")
    columns = [Column("action", ["N", "Y"] * len(comparison.action)), *_compared(scores, pairs, "N")]
    title = "Table 4: the action in the memory,"
    return _table(comparison, scores, "table4", title, heads, columns, " ".join(about))


def frames_table(comparison: Comparison, scores: Scores) -> Table:
    """Table 5: what enters the memory of lstm-f in training, noised (or resampled) or clean frames."""
    # Clean frames, the paper's choice, come last and are compared with the others.
    runs = dict(sorted(comparison.frames.items(), key=lambda item: item[0] == "clean"))
    heads = [_head(comparison, name, f"{name}: {frames}") for frames, name in runs.items()]
    first = next(iter(runs), "")
    columns = _compared(scores, [(name, runs[first]) for name in runs.values()], first)
    about = "What the memory of lstm-f sees of earlier frames in training (memory.frames)."
    title = "Table 5: the frames that enter the memory,"
    return _table(comparison, scores, "table5", title, heads, columns, about)


def stride_table(comparison: Comparison, scores: Scores) -> Table:
    """The thesis's strided table: a memory whose window slides by all of its frames, by some, and by one."""
    strides, pairs = [], []
    for memory in dict.fromkeys(run.memory for run in comparison.plain if run.mode == "s"):
        runs = [run for run in comparison.plain if run.memory == memory]
        one = comparison.find(memory, "f")
        for run in sorted(runs, key=lambda run: -run.config.memory.stride):
            strides.append(run.config.memory.stride)
            pairs.append((run.name, one.name if one else None))
    heads = [_head(comparison, name) for name, _ in pairs]
    columns = [Column("stride", strides), *_compared(scores, pairs, "stride 1")]
    about = f"By how many of the {comparison.runs[0].config.model.window} frames of a window it slides."
    return _table(comparison, scores, "strides", "Strides:", heads, columns, about)


def training(comparison: Comparison) -> str:
    """The conditions of training, stated under every table."""
    condition = comparison.runs[0].config.data.condition
    return (
        f"Condition of every frame: {condition}. {steps_of(comparison).capitalize()}; {seeds_of(comparison)}; differences "
        "between seeds are not in the errors."
    )


def steps_of(comparison: Comparison) -> str:
    """How long the variants were trained, in words."""
    steps = sorted({run.config.train.steps for run in comparison.variants})
    return " or ".join(f"{number:,}" for number in steps) + " training steps"


def seeds_of(comparison: Comparison) -> str:
    """With which seeds they were trained, in words."""
    seeds = sorted({run.config.seed for run in comparison.variants})
    if len(seeds) == 1:
        return f"one training seed ({seeds[0]})"
    return f"training seeds {', '.join(map(str, seeds))}"


def colours_of(comparison: Comparison) -> dict[str, str]:
    """By name of a variant: the colour of its memory, lighter if it has settings of its own."""
    colours, further = {}, Counter()
    for run in comparison.variants:
        colour = MEMORY_COLOURS.get(run.memory, OWN_COLOUR)
        colours[run.name] = colour if run.plain else tinted(colour, further[run.memory])
        further[run.memory] += not run.plain
    return colours


def _table(
    comparison: Comparison,
    scores: Scores,
    name: str,
    title: str,
    heads: Sequence[Head],
    columns: Sequence[Column],
    about: str = "",
) -> Table:
    """A table of one evaluation set, whose caption ends with the conditions of its numbers."""
    where = f"Evaluation set {scores.name} (protocol {scores.protocol}, {len(scores.videos)} episodes)"
    caption = f"{about} {where}: {convention(scores.metrics_spec)} {training(comparison)}"
    return Table(f"{name}-{scores.name}", f"{title} {scores.name}", heads, columns, caption.strip())


def _heads(comparison: Comparison, scores: Scores) -> list[Head]:
    """Heads of the variants, then of the rows that are no runs, which say what kind of row each is."""
    heads, colours = [], colours_of(comparison)
    others = [
        name for name, row in scores.rows.items() if row["kind"] not in ("model", "baseline", "emptied")
    ]
    for name in [*colours, *others]:
        kind, note = scores.rows[name]["kind"], scores.rows[name]["note"]
        colour = colours.get(name, COLOURS[kind])
        heads.append(Head(name, KINDS.get(kind, kind), note if kind in ("oracle", "floor") else "", colour))
    return heads


def _head(comparison: Comparison, name: str, label: str = "") -> Head:
    """The head of a row about a run, in the colour of its memory."""
    run = comparison.run(name)
    colour = colours_of(comparison).get(name) or MEMORY_COLOURS.get(
        run.memory, OWN_COLOUR
    )  # an ablation has none
    return Head(label or name, colour=colour)


def _compared(scores: Scores, pairs: Sequence[tuple[str, str | None]], other: str) -> list[Column]:
    """What the first row of every pair scored and, unless ``other`` is empty, how far it is from the second."""
    columns = [measured(scores, metric, [first for first, _ in pairs]) for metric in SCORES]
    return columns + [difference(scores, metric, pairs, other) for metric in COMPARED if other]
