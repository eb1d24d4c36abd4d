"""The page of a comparison: tables, figures, videos side by side, and how they were computed; one file that opens offline."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rad_jax import media
from rad_jax.comparison.plan import Comparison, Run
from rad_jax.comparison.tables import SetResult
from rad_jax.comparison.text import verdict
from rad_jax.config import diff_configs
from rad_jax.config.messages import show_value
from rad_jax.reports.episodes import EpisodeFrames, EpisodeView
from rad_jax.reports.figures import MEMORY_COLOURS, METRICS, Curve, Panel, draw_panels, frame_values
from rad_jax.reports.html import render
from rad_jax.reports.tables import Table, to_markdown
from rad_jax.reports.text import MEMORY_METRICS

CELL = 128  # height of a frame in the videos, px; they have many columns
COLUMNS = 6  # at most, in one row of a video
DASHES = {"": "-", "f": "-", "c": "--", "s": ":"}  # by mode of the window
FLOOR, FLOOR_DASHES = "#a4abb6", ("-", (0, (1, 1.5)))


class Figures(NamedTuple):
    """Addresses of pictures."""

    figure3: str
    figure6: str


class _Caption(NamedTuple):
    title: str
    alt: str
    caption: str


FIGURE6 = _Caption(
    "Figure 6",
    "PSNR and SSIM by frame",
    "Mean over episodes by index of the frame. One colour per memory; solid: frame-wise, dashed: chunk-wise, dotted: with a "
    "stride between; grey: trivial predictors. The line is the first predicted frame; left of it is the context, which is not "
    "scored. The tokenizer's round trip and the perfect map are in Table 1.",
)
FIGURE3 = _Caption(
    "Figure 3: effective attention",
    "frames that a predicted frame sees",
    "Rows: predicted frames of the first episode; columns: the frames that their prediction sees, measured by gradients and "
    "relative to the largest of the row; white: less than a ten-thousandth. The red line is the start of the attention window: "
    "what is left of it can be seen through the memory alone.",
)


def page(
    comparison: Comparison,
    sets: Sequence[SetResult],
    tables: Sequence[Table],
    figures: Figures,
    films: Mapping[str, Sequence[EpisodeView]],
    facts: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> str:
    """The HTML of the page.

    Args:
        comparison: the runs.
        sets: what was scored, by evaluation set.
        tables: in the order of the page.
        figures: addresses of the drawings.
        films: name of an evaluation set -> the episodes that are shown.
        facts: what was compared; shown below the title.
        provenance: where the numbers come from.
    """
    return render(
        "comparison.html",
        title=title(comparison),
        facts=facts,
        verdicts=[verdict(comparison, result) for result in sets],
        tables=tables,
        figures=[
            FIGURE6._asdict() | {"address": figures.figure6},
            FIGURE3._asdict() | {"address": figures.figure3},
        ],
        episodes=films,
        memory_metrics=MEMORY_METRICS,
        provenance=provenance,
        config_title="the configurations",
        config=configurations(comparison),
    )


def markdown(
    comparison: Comparison, sets: Sequence[SetResult], tables: Sequence[Table], provenance: Mapping[str, Any]
) -> str:
    """The page as Markdown, without videos; drawings are ``figure6.png`` and ``figure3.png`` beside it."""
    verdicts = [line for result in sets for line in (verdict(comparison, result), "")]
    drawings = [
        line
        for file, (heading, alt, caption) in (("figure6.png", FIGURE6), ("figure3.png", FIGURE3))
        for line in (f"## {heading}", "", f"![{alt}]({file})", "", caption, "")
    ]
    how = [f"- {name}: {value}" for name, value in provenance.items() if value is not None]
    lines = [f"# {title(comparison)}", "", *verdicts, *map(to_markdown, tables), *drawings]
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


def figure6(comparison: Comparison, sets: Sequence[SetResult]) -> bytes:
    """The paper's Figure 6: PSNR and SSIM of all variants and floors by index of the frame, a row for every evaluation set.

    Where contexts differ in length, frames are counted from the first predicted one.

    Returns:
        The bytes of a PNG.
    """
    panels = [
        [
            _panel(comparison, result, metric, f"{METRICS[metric]}: {result.name}")
            for metric in ("psnr", "ssim")
        ]
        for result in sets
    ]
    return draw_panels(panels, (13.0, 5 * len(sets) + 1.1))


def _panel(comparison: Comparison, result: SetResult, metric: str, heading: str) -> Panel:
    def curve(name: str, style: Mapping[str, Any], scaled: str) -> Curve:
        return Curve(name, frame_values(result.rows[name], metric), None, style, scaled)

    variants = [curve(run.name, _style(run), "all") for run in comparison.variants]
    names = [name for name, row in result.rows.items() if row["kind"] == "floor"]
    # A floor's median sets the scale: its first frame, nearly a copy of the last given one, would squeeze the rest.
    floors = [
        curve(name, {"color": FLOOR, "linewidth": 1.1, "linestyle": dashes, "zorder": 1.5}, "median")
        for name, dashes in zip(names, itertools.cycle(FLOOR_DASHES), strict=False)
    ]
    context = result.metrics_spec["context_frames"]
    return Panel(heading, variants + floors, context, context + 1 if isinstance(context, int) else 1)


def _style(run: Run) -> dict[str, Any]:
    return {
        "color": MEMORY_COLOURS[run.memory],
        "linestyle": DASHES[run.mode],
        "linewidth": 2.6 if run.memory == "none" else 1.9,
    }


def video(comparison: Comparison, episode: EpisodeFrames, fps: int | float) -> bytes:
    """An mp4 of one episode: the truth, no memory and chunk-wise memories, and below them the others if they are many."""
    videos, context = episode.videos(), len(episode.context)
    modes = {run.name: run.mode for run in comparison.variants if run.name in videos}
    rows = [["truth"], []]
    for name, mode in modes.items():
        rows[mode in ("f", "s")].append(name)
    rows = [rows[0] + rows[1]] if len(videos) <= COLUMNS else [row for row in rows if row]
    bands = [media.side_by_side({name: videos[name] for name in row}, context, CELL) for row in rows]
    width = max(frames.shape[2] for frames in bands)
    padded = [
        np.pad(frames, ((0, 0), (0, 0), (0, width - frames.shape[2]), (0, 0)), constant_values=255)
        for frames in bands
    ]
    return media.encode_video(np.concatenate(padded, axis=1), fps)
