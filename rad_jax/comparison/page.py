"""The page of a comparison: tables, Figure 6, videos side by side, and how it was computed; one file that opens offline."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

from rad_jax import media
from rad_jax.comparison.plan import Comparison
from rad_jax.comparison.tables import SetResult
from rad_jax.comparison.text import verdict
from rad_jax.config import diff_configs
from rad_jax.config.messages import show_value
from rad_jax.reports.page import LEGEND, Film, document, film, header, pairs
from rad_jax.reports.report import Sample
from rad_jax.reports.tables import Table, to_html, to_markdown
from rad_jax.reports.text import MEMORY_METRICS

STYLE = "td .kind{width:92px}td .note{padding-left:96px}"
CELL = 128  # height of a frame in the videos, which have many
COLUMNS = 6  # how many stand in one row at most
FIGURE = (
    "Mean over episodes by index of the frame. One colour per memory; solid: frame-wise, dashed: chunk-wise, dotted: with a "
    "stride between; grey: trivial predictors. The line is the first predicted frame; left of it is the context, which is not "
    "scored. The tokenizer's round trip and the perfect map are in Table 1."
)


FIGURE3 = (
    "Rows: predicted frames of the first episode; columns: the frames that their prediction sees, measured by gradients and "
    "relative to the largest of the row; white: less than a ten-thousandth. The red line is the start of the attention window: "
    "what is left of it can be seen through the memory alone."
)


class Figures(NamedTuple):
    """Addresses of pictures."""

    figure3: str
    figure6: str


def page(
    comparison: Comparison,
    sets: Sequence[SetResult],
    tables: Sequence[Table],
    figures: Figures,
    films: Mapping[str, Sequence[Film]],
    facts: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> str:
    """The whole page. ``films`` are by evaluation set."""
    verdicts = "".join(f"<p class='verdict'>{escape(verdict(comparison, result))}</p>" for result in sets)
    reading = "".join(
        f"<div><dt>{title}</dt><dd>{text}</dd></div>" for title, _, text in MEMORY_METRICS.values()
    )
    shown = "".join(
        f"<section><h2>What it looks like: {escape(name)}</h2>{LEGEND}{''.join(map(film, found))}</section>"
        for name, found in films.items()
        if found
    )
    sections = [
        header(title(comparison), facts),
        f"<section>{verdicts}</section>",
        *map(to_html, tables),
        _picture("Figure 6", figures.figure6, "PSNR and SSIM by frame", FIGURE),
        _picture(
            "Figure 3: effective attention", figures.figure3, "frames that a predicted frame sees", FIGURE3
        ),
        shown,
        f"<section><h2>Reading the memory metrics</h2><dl class='reading'>{reading}</dl></section>",
        f"<section><h2>How it was computed</h2>{pairs(provenance, 'provenance')}"
        f"<details><summary>the configurations</summary><pre>{escape(configurations(comparison))}</pre></details></section>",
    ]
    return document(title(comparison), sections, STYLE)


def _picture(name: str, address: str, alt: str, caption: str) -> str:
    picture = f"<div class='scroll'><img class='curves' src='{address}' alt='{alt}'></div>"
    return f"<section><h2>{name}</h2>{picture}<p class='caption'>{caption}</p></section>"


def markdown(
    comparison: Comparison, sets: Sequence[SetResult], tables: Sequence[Table], provenance: Mapping[str, Any]
) -> str:
    """The same without videos."""
    how = [f"- {name}: {value}" for name, value in provenance.items()]
    return "\n".join([
        f"# {title(comparison)}", "", *(line for result in sets for line in (verdict(comparison, result), "")),
        *map(to_markdown, tables), "## Figure 6", "", "![PSNR and SSIM by frame](figure6.png)", "", FIGURE, "",
        "## Figure 3: effective attention", "", "![frames that a predicted frame sees](figure3.png)", "", FIGURE3, "",
        "## How it was computed", "", *how, "",
    ])  # fmt: skip


def title(comparison: Comparison) -> str:
    """Of the page."""
    return f"{comparison.runs[0].config.name.partition(':')[0]}: {len(comparison.variants)} variants compared"


def configurations(comparison: Comparison) -> str:
    """The configuration of the first run, and in what each of the others differs from it."""
    first = comparison.runs[0]
    lines = [first.name, first.config.to_json()]
    for run in comparison.runs[1:]:
        changed = diff_configs(first.config, run.config).items()
        lines.append(f"{run.name}: " + ", ".join(f"{key}={show_value(new)}" for key, (_, new) in changed))
    return "\n".join(lines)


def video(comparison: Comparison, sample: Sample, fps: int) -> bytes:
    """An mp4 of one episode: the truth, no memory and chunk-wise memories, and below them the others if they are many."""
    context = media.to_uint8(sample.context)
    whole = {
        name: np.concatenate([context, media.to_uint8(frames)])
        for name, frames in {"truth": sample.truth, **sample.predictions}.items()
    }
    modes = {run.name: run.mode for run in comparison.variants if run.name in whole}
    rows = [["truth"], []]
    for name, mode in modes.items():
        rows[mode in ("f", "s")].append(name)
    rows = [rows[0] + rows[1]] if len(whole) <= COLUMNS else [row for row in rows if row]
    strips = [media.side_by_side({name: whole[name] for name in row}, len(context), CELL) for row in rows]
    width = max(frames.shape[2] for frames in strips)
    padded = [
        np.pad(frames, ((0, 0), (0, 0), (0, width - frames.shape[2]), (0, 0)), constant_values=255)
        for frames in strips
    ]
    return media.encode_video(np.concatenate(padded, axis=1), fps)
