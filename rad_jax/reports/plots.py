"""The curves of an evaluation: every row by index of the predicted frame."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rad_jax.reports.text import EXACT_DB

# Colour by what a row is; rows of one kind differ by dashes.
COLOURS = {
    "model": "#1d5fd1",
    "baseline": "#d9730d",
    "floor": "#7a828e",
    "ceiling": "#1a8a55",
    "oracle": "#7c4bc4",
}
DASHES = ("-", "--", ":", "-.")
PANELS = {"psnr": "PSNR, dB", "ssim": "SSIM", "histogram_intersection": "colours in common"}


def curves(metrics: Mapping[str, Any]) -> bytes:
    """Draw PSNR, SSIM and histogram intersection per predicted frame, all rows of ``metrics`` (see ``scores.score_rows``).

    Bands are one standard error over videos; the grey field on the left is the context, which is not scored.

    Returns:
        The bytes of a PNG.
    """
    figure = Figure(figsize=(12, 4.6), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(PANELS))
    styles = row_styles(metrics)
    for panel, (metric, label) in zip(axes, PANELS.items(), strict=True):
        for name, row in metrics["rows"].items():
            _draw(panel, row["per_frame"][metric], name, row["kind"], styles[name])
        _mark_context(panel, len(row["per_frame"][metric]["value"]))
        panel.set_title(label, loc="left", fontsize=12, fontweight="bold", color="#23262c")
        panel.set_xlabel("predicted frame", fontsize=10, color="#4a4f58")
        panel.grid(axis="y", color="#e6e8ec", linewidth=0.8)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.tick_params(colors="#4a4f58", length=0)
    axes[0].set_ylim(top=_scale(metrics))
    handles, labels = axes[0].get_legend_handles_labels()
    labels = [f"{name} (above the scale)" if _exact(metrics["rows"][name]) else name for name in labels]
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(len(labels), 5), frameon=False, fontsize=10.5
    )
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    return file.getvalue()


def row_styles(metrics: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Colour and dashes of every row."""
    seen: dict[str, int] = {}
    styles = {}
    for name, row in metrics["rows"].items():
        order = seen[row["kind"]] = seen.get(row["kind"], -1) + 1
        start = 1 if row["kind"] in ("floor", "ceiling", "oracle") else 0
        styles[name] = COLOURS[row["kind"]], DASHES[(start + order) % len(DASHES)]
    return styles


def _exact(row: Mapping[str, Any]) -> bool:
    """Whether a row is so near the truth that showing its PSNR would squeeze all others."""
    return row["mean"]["psnr"] > EXACT_DB


def _scale(metrics: Mapping[str, Any]) -> float | None:
    """Top of the PSNR panel, if a row is above it."""
    rows = metrics["rows"].values()
    others = [value for row in rows if not _exact(row) for value in row["per_frame"]["psnr"]["value"]]
    return max(others) + 2 if others and any(map(_exact, rows)) else None


def _draw(panel, curve: Mapping[str, list], name: str, kind: str, style: tuple[str, str]) -> None:
    value = np.array(curve["value"], dtype=float)
    error = np.array(curve["standard_error"], dtype=float)
    frame = np.arange(1, len(value) + 1)
    colour, dashes = style
    main = kind in ("model", "baseline")
    marker = "o" if main and len(value) <= 40 else None
    width = 2.4 if main else 1.5
    panel.plot(frame, value, dashes, color=colour, linewidth=width, marker=marker, markersize=4, label=name)
    panel.fill_between(frame, value - error, value + error, color=colour, alpha=0.15, linewidth=0)


def _mark_context(panel, frames: int) -> None:
    """A grey field where the context ends and a line at the first predicted frame."""
    left = 1 - max(1.0, 0.12 * frames)
    panel.set_xlim(left, frames + max(0.3, 0.02 * frames))
    panel.axvspan(left, 1, color="#f1f2f5", linewidth=0)
    panel.axvline(1, color="#9aa1ac", linewidth=1)
    middle = (left + 1) / 2
    panel.text(
        middle, 0.5, "context", rotation=90, transform=panel.get_xaxis_transform(), ha="center", va="center",
        fontsize=9, color="#8a919c",
    )  # fmt: skip
    ticks = np.unique(np.linspace(1, frames, min(frames, 6)).round().astype(int))
    panel.set_xticks(ticks)
