"""The HTML of an evaluation report: one page with its pictures inside, readable on a telephone, without scripts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from rad_jax.reports.style import CSS
from rad_jax.reports.text import (
    EXACT_DB,
    MEMORY_METRICS,
    cards,
    convention,
    error_text,
    number,
    verdict,
)

OPEN_LINES = 3  # lines of a filmstrip that are shown at once; the others are folded away


@dataclass(frozen=True)
class Line:
    """A stretch of a filmstrip: the numbers of its frames, and for every row the address of a picture of them."""

    numbers: Sequence[int]
    strips: Sequence[str]


@dataclass(frozen=True)
class Film:
    """One sample as the page shows it. Addresses are data URIs or relative paths.

    Attributes:
        title: what it is.
        video: address of the side-by-side video.
        height: of a frame on the page, px.
        context: address of the strip of context frames, empty if left out.
        context_frames: how many there were, of which ``context_shown`` are in the strip.
        rows: name -> mean PSNR in dB; None for the truth.
        lines: the predicted frames, empty if left out.
    """

    title: str
    video: str
    height: int
    context: str
    context_frames: int
    context_shown: int
    rows: Mapping[str, float | None]
    lines: Sequence[Line]

    @property
    def size(self) -> int:
        """Bytes of the page that it takes."""
        return sum(
            map(len, [self.video, self.context, *(strip for line in self.lines for strip in line.strips)])
        )

    def linked(self, path: str) -> "Film":
        """The same with its video in a file beside the page."""
        return replace(self, video=path)

    def without_pictures(self) -> "Film":
        """The same without its strips."""
        return replace(self, context="", lines=())


def page(
    title: str,
    facts: Mapping[str, Any],
    metrics: Mapping[str, Any],
    curves: str,
    films: Sequence[Film],
    provenance: Mapping[str, Any],
    config: str,
) -> str:
    """The whole page. ``metrics`` is what ``scores.score_rows`` returned, ``curves`` the address of a picture."""
    rule = f"<p class='caption'>{escape(convention(metrics['metrics_spec']))}</p>"
    sections = [
        header(title, facts),
        f"<section><p class='verdict'>{escape(verdict(metrics))}</p>{_cards(metrics)}</section>",
        f"<section><h2>Scores</h2>{_score_table(metrics)}{rule}</section>",
        f"<section><h2>Frame by frame</h2>{_curves(curves)}</section>",
        f"<section><h2>What it looks like</h2>{LEGEND}{''.join(map(film, films))}</section>" if films else "",
        f"<section><h2>Forgotten, or drifted?</h2>{_memory_table(metrics)}{_reading(metrics)}</section>",
        f"<section><h2>Where the numbers come from</h2>{pairs(provenance, 'provenance')}{_config(config)}</section>",
    ]
    return document(title, sections)


def document(title: str, sections: Sequence[str], style: str = "") -> str:
    """A whole page from its parts; ``style`` is added to that of reports."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{CSS}{style}</style>
</head>
<body>
<main>
{chr(10).join(sections)}
</main>
</body>
</html>
"""


def header(title: str, facts: Mapping[str, Any]) -> str:
    """The top of a page."""
    return f"<header><h1>{escape(title)}</h1>{pairs(facts, 'facts')}</header>"


LEGEND = """<p>Every video first shows what the model was given (<span class="given">red</span>), then what it predicts beside
what was there (<span class="made">green</span>). Below it, every predicted frame under the true one.</p>"""


def pairs(facts: Mapping[str, Any], kind: str) -> str:
    """Names and values, as "facts" (a row of boxes) or as "provenance" (a list)."""
    items = (
        f"<div><dt>{escape(str(key))}</dt><dd>{escape(str(value))}</dd></div>" for key, value in facts.items()
    )
    return f"<dl class='{kind}'>{''.join(items)}</dl>"


def _cards(metrics: Mapping[str, Any]) -> str:
    items = (
        f"<div class='card {card.kind}'><b>{card.value}</b> dB<p>{escape(card.text)}<small>{card.error}</small></p></div>"
        for card in cards(metrics)
    )
    return f"<div class='cards'>{''.join(items)}</div>"


def _row_name(name: str, row: Mapping[str, Any]) -> str:
    note = f"<span class='note'>{escape(row['note'])}</span>" if row["note"] else ""
    return f"<td><span class='kind'>{row['kind']}</span> {escape(name)}{note}</td>"


def _table(heads: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f"<th>{text}</th>" for text in heads)
    return f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"


def _cell(row: Mapping[str, Any], metric: str, digits: int) -> str:
    if metric not in row["mean"]:
        return "n/a"
    return f"{number(row['mean'][metric], digits)} <small>{error_text(row['standard_error'][metric], digits)}</small>"


def _score_table(metrics: Mapping[str, Any]) -> str:
    # Perfect copies, at the cap of 100 dB, do not squeeze the bars of the others.
    values = [row["mean"]["psnr"] for row in metrics["rows"].values()]
    longest = max([value for value in values if value < EXACT_DB] or values)
    rows = []
    for name, row in metrics["rows"].items():
        share = min(1.0, max(0.0, row["mean"]["psnr"] / longest))
        difference = metrics["differences"].get(name)
        lead = "" if difference is None else number(-difference["psnr"]["mean"], sign=True)
        error = "" if difference is None else error_text(difference["psnr"]["standard_error"])
        rows.append(
            f"<tr class='{row['kind']}' style='--dot:var(--{row['kind']})'>{_row_name(name, row)}"
            f"<td>{_cell(row, 'psnr', 2)}<span class='bar' style='--share:{100 * share:.0f}%'></span></td>"
            f"<td>{lead} <small>{error}</small></td><td>{_cell(row, 'ssim', 3)}</td><td>{_cell(row, 'lpips', 3)}</td>"
            f"<td>{number(row['mean']['psnr_pooled'])}</td></tr>"
        )
    against = f"PSNR against<i>{escape(metrics['model'])}, dB</i>"
    heads = [
        "PSNR<i>dB</i>",
        against,
        "SSIM<i>1 is best</i>",
        "LPIPS<i>0 is best</i>",
        "PSNR<i>pooled, dB</i>",
    ]
    return _table(["", *heads], rows)


def _memory_table(metrics: Mapping[str, Any]) -> str:
    digits = {"histogram_intersection": 3, "psnr_coarse": 2}
    rows = [
        f"<tr class='{row['kind']}' style='--dot:var(--{row['kind']})'>{_row_name(name, row | {'note': ''})}"
        + "".join(
            f"<td>{number(row['mean'][metric], digits.get(metric, 2))}</td>" for metric in MEMORY_METRICS
        )
        + "</tr>"
        for name, row in metrics["rows"].items()
    ]
    return _table(["", *(f"{title}<i>{better}</i>" for title, better, _ in MEMORY_METRICS.values())], rows)


def _reading(metrics: Mapping[str, Any]) -> str:
    items = (f"<div><dt>{title}</dt><dd>{text}</dd></div>" for title, _, text in MEMORY_METRICS.values())
    coarse = metrics["metrics_spec"]["psnr_coarse"]
    return (
        "<p class='caption'>PSNR and SSIM do not tell a model that forgot from one that remembers and stands a step aside; "
        f"these numbers do, read together. Means over videos; 1/8 means every {coarse['decimation']} px here, after a Gaussian "
        f"of sigma {coarse['blur_sigma']:g} px.</p><dl class='reading'>{''.join(items)}</dl>"
    )


def _curves(address: str) -> str:
    return (
        f"<div class='scroll'><img class='curves' src='{address}' alt='PSNR, SSIM and colours in common by frame'></div>"
        "<p class='caption'>Mean over videos by index of the predicted frame; bands are one standard error. The line marks "
        "the first predicted frame. Where videos differ in length, later frames average fewer of them.</p>"
    )


def film(film: Film) -> str:
    """A video and its pictures."""
    video = f"<video src='{escape(film.video)}' controls loop muted playsinline autoplay preload='metadata'></video>"
    if not film.lines:
        rest = f"<p class='caption'>Its pictures would make this page too large; the video is {escape(film.video)}.</p>"
        return f"<article class='film'><h3>{escape(film.title)}</h3>{video}{rest}</article>"
    count = f"{film.context_frames} frames"
    if film.context_shown < film.context_frames:
        count = f"{film.context_shown} of {count}"
    context = (
        f"<div class='scroll'><div class='strips'><div class='name'>context <small>{count}</small></div>"
        f"<img class='context' height='{film.height * 2 // 3 + 7}' src='{film.context}' alt='context frames'></div></div>"
    )
    lines = [_line(film, line) for line in film.lines]
    shown, folded = lines[:OPEN_LINES], lines[OPEN_LINES:]
    more = f"<details><summary>the other frames</summary>{''.join(folded)}</details>" if folded else ""
    return (
        f"<article class='film'><h3>{escape(film.title)}</h3>{video}{context}{''.join(shown)}{more}</article>"
    )


def _line(film: Film, line: Line) -> str:
    ticks = "".join(f"<span>{index}</span>" for index in line.numbers)
    parts = [f"<div class='name'></div><div class='ticks'>{ticks}</div>"]
    for (name, psnr), strip in zip(film.rows.items(), line.strips, strict=True):
        score = "" if psnr is None else f"<small>{number(psnr, 1)} dB</small>"
        parts.append(
            f"<div class='name'>{escape(name)}{score}</div>"
            f"<img height='{film.height}' src='{strip}' alt='{escape(name)}, frames {line.numbers[0]} to {line.numbers[-1]}'>"
        )
    return f"<div class='scroll'><div class='strips'>{''.join(parts)}</div></div>"


def _config(config: str) -> str:
    return (
        f"<details><summary>the whole configuration</summary><pre>{escape(config)}</pre></details>"
        if config
        else ""
    )
