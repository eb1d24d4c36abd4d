"""The figures of evaluations and comparisons: scores by index of the frame, and the paper's Figure 3.

All of them are drawn without pyplot, which has a state for the whole process, and returned as the bytes of a PNG.
"""

import io
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.axes
import numpy as np
from matplotlib.colors import LogNorm, to_hex, to_rgb
from matplotlib.figure import Figure

from rad_jax.axes import Float, Int
from rad_jax.config import NAMES
from rad_jax.reports.statistics import Row, Scores
from rad_jax.reports.text import EXACT_DB, METRICS, counted

INK, SOFT, FAINT, GRID, FIELD = "#23262c", "#4a4f58", "#8a919c", "#e6e8ec", "#f1f2f5"
# By kind of row; rows of one kind differ by their dashes.
COLOURS = {
    "model": "#1d5fd1",
    "baseline": "#d9730d",
    "emptied": "#b3307f",
    "floor": "#7a828e",
    "ceiling": "#1a8a55",
    "oracle": "#7c4bc4",
}
DASHES = ("-", "--", ":", "-.")
# By memory, where all rows are models; the one without memory is nearly black.
PALETTE = ("#1d5fd1", "#d9730d", "#1a8a55", "#b3307f", "#8a6d00", "#0d8ba1", "#7c4bc4", "#c2382e")
MEMORY_COLOURS = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(NAMES[1:])} | {"none": INK}
OWN_COLOUR = "#56616e"  # of a kind of the user's
TINTS = (0.35, 0.55, 0.7)  # shares of white in further colours of one memory
WEAKEST = 1e-4  # of a row's largest influence; Figure 3 leaves weaker ones white


def tinted(colour: str, number: int) -> str:
    """The ``number``-th further colour of a memory, from 0, which are lighter; they repeat."""
    white = TINTS[number % len(TINTS)]
    return to_hex([white + (1 - white) * part for part in to_rgb(colour)])


class Line(NamedTuple):
    """How a row is drawn.

    Attributes:
        style: keyword arguments of matplotlib's ``plot``.
        scaled: what has to fit into the panel: "all" values, their "median" or "none".
        label: in the legend; empty for the name of the row.
    """

    style: Mapping[str, Any]
    scaled: str = "all"
    label: str = ""


class Panel(NamedTuple):
    """A metric of some rows by index of the predicted frame, in one pair of axes.

    Attributes:
        title: what is drawn, with its unit.
        scores: of all rows.
        metric: a name in `METRICS`.
        lines: name of a row -> how it is drawn, from back to front.
        first: index of the first predicted frame on the axis.
        bands: whether a band of one standard error surrounds every line.
    """

    title: str
    scores: Scores
    metric: str
    lines: Mapping[str, Line]
    first: int = 1
    bands: bool = False


def draw_panels(panels: Sequence[Sequence[Panel]], size: tuple[float, float]) -> bytes:
    """A PNG of rows of panels with the legend of the first one below; ``size`` is (width, height) in inches."""
    figure = Figure(size, layout="constrained", facecolor="white")
    axes = figure.subplots(len(panels), len(panels[0]), squeeze=False)
    for ax, panel in zip(axes.flat, itertools.chain(*panels)):
        _draw_panel(ax, panel)
    handles, labels = axes[0][0].get_legend_handles_labels()
    style = {"frameon": False, "fontsize": 10.5, "handlelength": 3.2}
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), **style)
    return _png(figure)


def curves(scores: Scores) -> bytes:
    """A PNG of PSNR, SSIM and common colours by index of the predicted frame, with bands of one standard error."""
    panels = []
    for metric in ("psnr", "ssim", "histogram_intersection"):
        lines = {}
        for name, style in _row_styles(scores.rows).items():
            exact = scores.psnr(name) > EXACT_DB
            scaled = "none" if exact and metric == "psnr" else "all"
            lines[name] = Line(style, scaled, f"{name} (above the scale)" if exact else "")
        panels.append(Panel(METRICS[metric].heading, scores, metric, lines, bands=True))
    return draw_panels([panels], (12.0, 4.6))


def _row_styles(rows: Mapping[str, Row]) -> dict[str, dict[str, Any]]:
    """Styles by name of the row: a colour for every kind, dashes for every row of it, strong lines for models."""
    seen = Counter()
    styles = {}
    for name, row in rows.items():
        kind = row["kind"]
        order = seen[kind]
        seen[kind] += 1
        strong = kind in ("model", "baseline")
        styles[name] = {
            "color": COLOURS[kind],
            "linestyle": DASHES[(order + (not strong)) % len(DASHES)],
            "linewidth": 2.4 if strong else 1.5,
            "marker": "o" if strong and len(row["per_frame"]["psnr"]["value"]) <= 40 else None,
            "markersize": 4,
        }
    return styles


def figure3(
    panels: Mapping[str, tuple[Int[np.ndarray, "k"], Int[np.ndarray, "k"], Float[np.ndarray, "k t"]]],
    context: int,
) -> bytes:
    """The paper's Figure 3: the frames (columns) that the prediction of a frame (row) depends on.

    Each row is relative to its largest influence; a line marks where the window of the predicted frame begins.

    Args:
        panels: name of a model -> indices of the predicted frames, where the window of each starts, and the influence of
            every frame on them, at least 0 (`rad_jax.evaluation.effective_attention.EffectiveAttention`).
        context: frames that were given before the first predicted one.
    """
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure((4.2 * columns, 2.9 * rows + 0.4), layout="constrained", facecolor="white")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax, (name, (predicted, window_starts, influence)) in zip(axes.flat, panels.items(), strict=False):
        relative = influence / np.maximum(influence.max(1, keepdims=True), 1e-30)
        frames = np.arange(influence.shape[1] + 1) - 0.5
        edges = np.arange(len(predicted) + 1) - 0.5
        shown = np.ma.masked_less(relative, WEAKEST)
        image = ax.pcolormesh(frames, edges, shown, norm=LogNorm(WEAKEST, 1), cmap="viridis")
        ax.step(np.append(window_starts, window_starts[-1]) - 0.5, edges, color="#d2335c", lw=1.4)
        ax.axvline(context - 0.5, color="#9aa1ac", lw=1)
        ticks = _ticks(len(predicted), 5)
        ax.set_yticks(ticks, [str(predicted[tick]) for tick in ticks])
        ax.set_ylim(edges[-1], edges[0])
        ax.set_title(_plain(name), fontsize=10)
    figure.supxlabel("frame that is seen (red: start of the window; grey: end of the context)", fontsize=9)
    figure.supylabel("predicted frame", fontsize=9)
    figure.colorbar(image, ax=axes, label="influence, relative to the row's largest", shrink=0.8)
    return _png(figure, dpi=110)


def _draw_panel(ax: matplotlib.axes.Axes, panel: Panel) -> None:
    drawn = []
    for name, line in panel.lines.items():
        curve = panel.scores.rows[name]["per_frame"][panel.metric]
        values, errors = (np.array(curve[key], float) for key in ("value", "standard_error"))
        frames = panel.first + np.arange(len(values))
        ax.plot(frames, values, label=_plain(line.label or name), **line.style)
        if panel.bands:
            band = {"color": line.style["color"], "alpha": 0.15, "linewidth": 0}
            ax.fill_between(frames, values - errors, values + errors, **band)
        drawn.append((values, line.scaled))
    _set_scale(ax, drawn)
    _mark_context(ax, panel, max(len(values) for values, _ in drawn))
    ax.set_title(_plain(panel.title), loc="left", fontsize=12, fontweight="bold", color=INK)
    ax.set_xlabel("frame" if panel.first > 1 else "predicted frame", fontsize=10, color=SOFT)
    ax.grid(axis="y", color=GRID, linewidth=0.8)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(colors=SOFT, length=0)


def _set_scale(ax: matplotlib.axes.Axes, drawn: Sequence[tuple[Float[np.ndarray, "_"], str]]) -> None:
    """Limits of the panel; matplotlib's own where everything has to fit, bands included."""
    if all(scaled == "all" for _, scaled in drawn):
        return
    finite = [(values[np.isfinite(values)], scaled) for values, scaled in drawn]
    shown = [values for values, scaled in finite if scaled == "all"]
    shown += [[np.median(values)] for values, scaled in finite if scaled == "median" and len(values)]
    shown = np.concatenate(shown)
    if len(shown):
        margin = 0.06 * (shown.max() - shown.min()) or 1.0
        ax.set_ylim(shown.min() - margin, shown.max() + margin)


def _mark_context(ax: matplotlib.axes.Axes, panel: Panel, frames: int) -> None:
    """A grey field where the context ends, and a line at the first of the predicted frames."""
    first = panel.first
    left = first - max(1.0, 0.13 * frames)
    ax.set_xlim(left, first + frames - 1 + max(0.3, 0.02 * frames))
    ax.axvspan(left, first, color=FIELD, linewidth=0)
    ax.axvline(first, color="#9aa1ac", linewidth=1)
    words = f"context\n({counted(panel.scores.metrics_spec['context_frames'], 'frame')})"
    style = {"rotation": 90, "ha": "center", "va": "center", "fontsize": 9, "color": FAINT}
    ax.text((left + first) / 2, 0.5, words, transform=ax.get_xaxis_transform(), **style)
    ax.set_xticks(first + _ticks(frames, 6))


def _ticks(count: int, at_most: int) -> Int[np.ndarray, "k"]:
    """Evenly spaced indices of ``count`` things, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, at_most)).round().astype(int))


def _plain(text: str) -> str:
    """Text that matplotlib writes as it is: what stands between two dollar signs would be a formula."""
    return text.replace("$", r"\$")


def _png(figure: Figure, dpi: int = 150) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    return file.getvalue()
