"""The paper's Figure 6: PSNR and SSIM against the index of the frame, all variants in one drawing."""

import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rad_jax.comparison.plan import Comparison, Run
from rad_jax.config import NAMES

METRICS = {"psnr": "PSNR, dB", "ssim": "SSIM"}
# By place in the table of memories; the model without one is nearly black.
NO_MEMORY = "#23262c"
PALETTE = ("#1d5fd1", "#d9730d", "#1a8a55", "#b3307f", "#8a6d00", "#0d8ba1", "#7c4bc4", "#c2382e")
COLOUR = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(NAMES[1:])} | {"none": NO_MEMORY}
LINES = {"": "-", "f": "-", "c": "--", "s": ":"}
FLOOR, INK, FAINT = "#a4abb6", "#23262c", "#4a4f58"
FLOOR_DASHES = ("-", (0, (1, 1.5)))


def figure6(comparison: Comparison, sets: Sequence[Any]) -> bytes:
    """Draws a row of two panels for every evaluation set (`compare_tables.SetResult`); returns the bytes of a PNG.

    One colour per memory; frame-wise solid, chunk-wise dashed, strides dotted; floors thin and grey. The field on the left
    is the end of the context, the line the first predicted frame. Where contexts differ in length, frames are counted from
    there.
    """
    figure = Figure(figsize=(13, 5 * len(sets) + 1.1), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(sets), len(METRICS), squeeze=False)
    for result, panels in zip(sets, axes, strict=True):
        for panel, (metric, label) in zip(panels, METRICS.items(), strict=True):
            _draw_panel(panel, comparison, result, metric)
            panel.set_title(f"{label}: {result.name}", loc="left", fontsize=12, fontweight="bold", color=INK)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(len(labels), 6), frameon=False, fontsize=10.5,
        handlelength=3.2,
    )  # fmt: skip
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    return file.getvalue()


def _draw_panel(panel, comparison: Comparison, result: Any, metric: str) -> None:
    context = result.metrics_spec["context_frames"]
    first = context + 1 if isinstance(context, int) else 1
    lines = [(run.name, style(run)) for run in comparison.variants]
    floors = [name for name, row in result.rows.items() if row["kind"] == "floor"]
    lines += [
        (name, {"color": FLOOR, "linewidth": 1.1, "linestyle": dashes, "zorder": 1.5})
        for name, dashes in zip(floors, itertools.cycle(FLOOR_DASHES), strict=False)
    ]
    curves = {
        name: np.array(result.rows[name]["per_frame"][metric]["value"], dtype=float) for name, _ in lines
    }
    for name, look in lines:
        panel.plot(first + np.arange(len(curves[name])), curves[name], label=name, **look)
    frames = max(map(len, curves.values()))
    # The variants set the scale: the frame after the last given one is nearly a copy of it, which would squeeze the rest.
    shown = [curves[run.name] for run in comparison.variants] + [np.median(curves[name]) for name in floors]
    low, high = min(map(np.min, shown)), max(map(np.max, shown))
    panel.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    _mark_context(panel, first, frames, context)
    panel.set_xlabel("frame" if isinstance(context, int) else "predicted frame", fontsize=10, color=FAINT)
    panel.grid(axis="y", color="#e6e8ec", linewidth=0.8)
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.tick_params(colors=FAINT, length=0)


def style(run: Run) -> Mapping[str, Any]:
    """Colour, dashes and width of a variant's line."""
    return {
        "color": COLOUR[run.memory],
        "linestyle": LINES[run.mode],
        "linewidth": 2.6 if run.memory == "none" else 1.9,
    }


def _mark_context(panel, first: int, frames: int, context: int | list[int]) -> None:
    left = first - max(1.0, 0.14 * frames)
    panel.set_xlim(left, first + frames - 1 + max(0.3, 0.02 * frames))
    panel.axvspan(left, first, color="#f1f2f5", linewidth=0)
    panel.axvline(first, color="#6c737f", linewidth=1.2)
    length = f"{context} frames" if isinstance(context, int) else f"{context[0]} to {context[1]} frames"
    panel.text(
        (left + first) / 2, 0.5, f"context\n({length})", rotation=90, transform=panel.get_xaxis_transform(),
        ha="center", va="center", fontsize=9, color="#8a919c",
    )  # fmt: skip
    ticks = first + np.unique(np.linspace(0, frames - 1, min(frames, 6)).round().astype(int))
    panel.set_xticks(ticks)
