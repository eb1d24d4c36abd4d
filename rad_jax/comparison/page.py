"""What a comparison writes: tables, figures, videos, a verdict in words, and the pages that show them, HTML and Markdown."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rad_jax import media
from rad_jax.comparison.costs import Costs, read_costs
from rad_jax.comparison.runs import Comparison
from rad_jax.comparison.tables import COMPARED, colours_of, make_tables, seeds_of, steps_of
from rad_jax.config import diff_configs
from rad_jax.config.messages import show_value
from rad_jax.data import Episodes
from rad_jax.evaluation.evaluate import provenance, shown_episodes
from rad_jax.evaluation.stored import read_figure3, read_set
from rad_jax.files import write_bytes
from rad_jax.reports.episodes import EpisodeFrames
from rad_jax.reports.figures import Line, Panel, draw_panels, figure3
from rad_jax.reports.page import Drawing, write_page
from rad_jax.reports.statistics import Scores
from rad_jax.reports.tables import Table, to_csv, to_markdown, to_text, write_csv
from rad_jax.reports.text import METRICS, error_text, number, side
from rad_jax.tokenizer import Tokenizer

FOLDER = "comparison"
CELL = 128  # height of a frame in the videos, px; they have many columns
COLUMNS = 6  # at most, in one row of a video
DASHES = {"": "-", "f": "-", "c": "--", "s": ":"}  # by mode of the window
FLOOR, FLOOR_DASHES = "#a4abb6", ("-", (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
SIDES = {"above": "better", "below": "worse", "equal": "the same within two standard errors"}

FIGURE6 = (
    "Figure 6",
    "PSNR and SSIM by frame",
    "Mean over episodes by index of the frame. One colour per memory, lighter with settings of its own; solid: frame-wise, "
    "dashed: chunk-wise, dotted: with a stride between; grey: trivial predictors. The line is the first predicted frame; left "
    "of it is the context, which is not scored. The tokenizer's round trip and the perfect map are in Table 1.",
)
FIGURE3 = (
    "Figure 3: effective attention",
    "frames that a predicted frame sees",
    "Rows: predicted frames of the first episode; columns: the frames that their prediction sees, measured by gradients and "
    "relative to the largest of the row; white: less than a ten-thousandth. The red line is the start of the attention window: "
    "what is left of it can be seen through the memory alone.",
)


def write(comparison: Comparison, workdir: Path, sets: Mapping[str, Episodes], tokenizer: Tokenizer) -> Path:
    """Writes ``WORKDIR/comparison/`` of runs that are finished and scored; returns the path of its page."""
    directory, config = workdir / FOLDER, comparison.runs[0].config
    folders = {
        run.name: (workdir / run.name, "baseline" if run.memory == "none" else "model")
        for run in comparison.runs
    }
    results = [read_set(name, episodes, folders, directory) for name, episodes in sets.items()]
    costs = {run.name: read_costs(workdir / run.name, run.config.train.steps) for run in comparison.variants}
    tables = make_tables(comparison, results, costs)
    written = {f"{table.name}.csv": to_csv(table) for table in tables}
    written["episodes.csv"] = write_csv(_long_rows(results))
    for path in directory.glob("*.csv"):  # of an earlier comparison of other variants
        if path.name not in written:
            path.unlink()
    seen = {run.name: read_figure3(workdir / run.name, results[0].name) for run in comparison.variants}
    drawings = [
        Drawing("figure6.png", *FIGURE6, figure6(comparison, results)),
        Drawing("figure3.png", *FIGURE3, figure3(seen, results[0].videos[0]["context_frames"])),
    ]
    how = _provenance(comparison, sets, results, costs)
    written["comparison.md"] = markdown(comparison, results, tables, drawings, how)
    for file, text in written.items():
        write_bytes(directory / file, text.encode())
    variants = {run.name: folders[run.name] for run in comparison.variants}
    write_page(
        directory / "index.html",
        title=title(comparison),
        facts=_facts(comparison, results),
        verdicts=[verdict(comparison, scores) for scores in results],
        tables=tables,
        drawings=drawings,
        episodes={
            f"What it looks like: {name}": shown_episodes(
                name, episodes, config, tokenizer, variants, f"{name}-"
            )
            for name, episodes in sets.items()
        },
        encode=lambda episode: video(comparison, episode, config.evaluate.fps),
        provenance=how,
        config=configurations(comparison),
    )
    for table in tables:
        if table.name.startswith("table1-"):
            print("\n" + to_text(table), end="", flush=True)
    return directory / "index.html"


def verdict(comparison: Comparison, scores: Scores) -> str:
    """Names the best variant, and compares it with no memory, all variants with the best floor, and frame- with chunk-wise."""
    names, baseline, floor = (
        [run.name for run in comparison.variants],
        comparison.baseline,
        scores.best_floor(),
    )
    best = max(names, key=scores.psnr)
    sentences = [
        f"{scores.name}: of {len(names)} variants {best} has the highest PSNR, {number(scores.psnr(best))} dB."
    ]
    if baseline and baseline.name == best:
        sentences.append("It has no memory: on this set memory does not pay.")
    elif baseline:
        gap = scores.difference(best, baseline.name)
        error = error_text(gap["standard_error"])
        words = " ".join(filter(None, [number(gap["mean"], sign=True), error, "dB"]))
        sentences.append(f"That is {words} against no memory ({baseline.name}).")
    if floor:
        above = [name for name in names if side(scores.difference(name, floor)) == "above"]
        few = f": {', '.join(above)}" if 0 < len(above) <= 4 else ""
        clearly = " by more than two standard errors" if len(scores.videos) > 1 else ""
        sentences.append(
            f"The best trivial predictor, {floor}, has {number(scores.psnr(floor))} dB; {len(above)} of "
            f"{len(names)} variants are above it{clearly}{few}."
        )
    found = {where: [] for where in SIDES}
    for memory in comparison.memories:
        frame, chunk = comparison.find(memory, "f"), comparison.find(memory, "c")
        if frame and chunk:
            found[side(scores.difference(frame.name, chunk.name))].append(memory)
    phrases = [f"{SIDES[where]} for {', '.join(memories)}" for where, memories in found.items() if memories]
    if phrases:
        sentences.append(f"Frame-wise against chunk-wise, PSNR is {'; '.join(phrases)}.")
    return " ".join(sentences)


def _long_rows(results: Sequence[Scores]) -> list[list]:
    """Every number of every episode, one per line."""
    lines = [["set", "episode", "context frames", "predicted frames", "row", "metric", "value"]]
    for scores in results:
        for row, summary in scores.rows.items():
            for metric, values in summary["per_video"].items():
                for about, value in zip(scores.videos, values, strict=True):
                    frames = about["context_frames"], about["predicted_frames"]
                    lines.append([scores.name, about["name"], *frames, row, metric, value])
    return lines


def markdown(
    comparison: Comparison,
    sets: Sequence[Scores],
    tables: Sequence[Table],
    drawings: Sequence[Drawing],
    provenance: Mapping[str, Any],
) -> str:
    """The page as Markdown, without videos; its drawings are the files beside it."""
    verdicts = [f"{verdict(comparison, scores)}\n" for scores in sets]
    pictures = [f"## {d.title}\n\n![{d.alt}]({d.file})\n\n{d.caption}\n" for d in drawings]
    how = [f"- {name}: {value}" for name, value in provenance.items() if value is not None]
    lines = [f"# {title(comparison)}", "", *verdicts, *map(to_markdown, tables), *pictures]
    return "\n".join([*lines, "## How the numbers were computed", "", *how, ""])


def title(comparison: Comparison) -> str:
    """The title of the page: the experiment and how many variants it has."""
    return f"{comparison.runs[0].config.name.partition(':')[0]}: {len(comparison.variants)} variants compared"


def configurations(comparison: Comparison) -> str:
    """The configuration of the first run, and the keys in which each of the others differs from it."""
    first = comparison.runs[0]
    lines = [first.name, first.config.to_json()]
    for run in comparison.runs[1:]:
        changed = diff_configs(first.config, run.config).items()
        lines.append(f"{run.name}: " + ", ".join(f"{key}={show_value(new)}" for key, (_, new) in changed))
    return "\n".join(lines)


def figure6(comparison: Comparison, sets: Sequence[Scores]) -> bytes:
    """The paper's Figure 6: PSNR and SSIM of all variants and floors by index of the frame, a row for every evaluation set.

    Where contexts differ in length, frames are counted from the first predicted one.

    Returns:
        The bytes of a PNG.
    """
    variants, colours = {}, colours_of(comparison)
    for run in comparison.variants:
        width = 2.6 if run.memory == "none" else 1.9
        style = {
            "color": colours[run.name],
            "linestyle": DASHES[run.mode],
            "linewidth": width,
        }
        variants[run.name] = Line(style)
    panels = []
    for scores in sets:
        names = [name for name, row in scores.rows.items() if row["kind"] == "floor"]
        # A floor's median sets the scale: its first frame, nearly a copy of the last given one, would squeeze the rest.
        floors = {
            name: Line({"color": FLOOR, "linewidth": 1.1, "linestyle": dashes, "zorder": 1.5}, "median")
            for name, dashes in zip(names, itertools.cycle(FLOOR_DASHES), strict=False)
        }
        context = scores.metrics_spec["context_frames"]
        first = context + 1 if isinstance(context, int) else 1
        panels.append(
            [
                Panel(f"{METRICS[metric].heading}: {scores.name}", scores, metric, variants | floors, first)
                for metric in COMPARED
            ]
        )
    return draw_panels(panels, (13.0, 5 * len(sets) + 1.1))


def video(comparison: Comparison, episode: EpisodeFrames, fps: int | float) -> bytes:
    """An mp4 of one episode: the truth, no memory and chunk-wise memories, and below them the others if they are many."""
    videos = episode.videos()
    rows = [["truth"], []]
    for run in comparison.variants:
        rows[run.mode in ("f", "s")].append(run.name)
    rows = [rows[0] + rows[1]] if len(videos) <= COLUMNS else [row for row in rows if row]
    bands = [media.side_by_side({name: videos[name] for name in row}, episode.context, CELL) for row in rows]
    width = max(frames.shape[2] for frames in bands)
    padded = [
        np.pad(frames, ((0, 0), (0, 0), (0, width - frames.shape[2]), (0, 0)), constant_values=255)
        for frames in bands
    ]
    return media.encode_video(np.concatenate(padded, axis=1), fps)


def _facts(comparison: Comparison, results: Sequence[Scores]) -> dict[str, str]:
    config = comparison.runs[0].config
    return {
        "condition": config.data.condition,
        "evaluation sets": ", ".join(f"{s.name} ({len(s.videos)} episodes)" for s in results),
        "attention window": f"{config.model.window} frames",
        "model": f"width {config.model.width}, {config.model.depth} blocks",
        "training": f"{steps_of(comparison)} of {config.train.batch} clips of {config.data.clip} frames",
        "trained with": seeds_of(comparison),
        "sampler": f"DDIM, {config.sample.steps} steps",
    }


def _provenance(
    comparison: Comparison,
    sets: Mapping[str, Episodes],
    results: Sequence[Scores],
    costs: Mapping[str, Costs],
) -> dict[str, Any]:
    own = provenance(next(iter(sets.values())))
    scored = {scores.about[run.name]["hardware"] for scores in results for run in comparison.runs}
    spec = {key: value for key, value in results[0].metrics_spec.items() if not key.endswith("_frames")}
    return {
        "command": own["command"],
        "versions": own["versions"],
        "trained on": ", ".join(sorted({cost.hardware for cost in costs.values()})),
        "generated and scored on": ", ".join(sorted(scored)),
        "seeds": f"{seeds_of(comparison)}, for parameters, data order, noise of training and noise of generation",
        "noise": "a function of seed, episode and frame, the same for all variants of a seed",
        **{f"episodes of {name}": episodes.spec.info.get("command") for name, episodes in sets.items()},
        "metrics_spec": spec,
    }
