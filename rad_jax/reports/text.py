"""What the numbers of an evaluation say, in words, and how a number is written for the eye."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

# Rows with a higher PSNR are copies of the truth: they are left out of comparisons and of the scale of bars and curves.
EXACT_DB = 60.0


class MemoryMetric(NamedTuple):
    """How a metric is shown: the title of its column, which value is best, and what high and low values mean."""

    title: str
    best: str
    reading: str


# In the order of the table.
MEMORY_METRICS = {
    "histogram_intersection": MemoryMetric(
        "colours in common",
        "1 is best",
        "Share of the pixels that have the right colour, wherever they are. Low: the colours of the place are "
        "forgotten. Blur and noise lower it too, so compare it with the ceiling.",
    ),
    "psnr_coarse": MemoryMetric(
        "PSNR at 1/8, dB",
        "higher is better",
        "PSNR after a wide blur. It forgives small shifts; far above the plain PSNR means remembered, but drifted.",
    ),
    "retrieval_error": MemoryMetric(
        "place error, frames",
        "0 is best",
        "How far the true frame that looks most like the predicted one lies from the right one. High: lost, or elsewhere.",
    ),
    "yaw_error": MemoryMetric(
        "turn error, px",
        "0 is best",
        "Predicted against true horizontal motion from frame to frame. High: actions are not followed.",
    ),
    "sharpness": MemoryMetric(
        "sharpness",
        "1 is best",
        "Fine detail relative to the truth. Below 1: blurred; above: noisy.",
    ),
    "motion": MemoryMetric(
        "motion",
        "1 is best",
        "Change from frame to frame relative to the truth. 0: a still picture; above 1: flicker.",
    ),
}


@dataclass(frozen=True)
class Card:
    """One number of the headline. ``kind`` is "model", "bound", or where the model stands: "above", "below", "equal"."""

    kind: str
    value: str
    error: str
    text: str


def is_defined(value: int | float | None) -> bool:
    """Whether there is a number: neither None nor NaN nor infinite."""
    return value is not None and math.isfinite(value)


def number(value: int | float | None, digits: int = 2, sign: bool = False) -> str:
    """A number with a true minus sign, or a dash if it is undefined."""
    if not is_defined(value):
        return "\u2013"
    # "z" writes what rounds to zero without its minus.
    return f"{value:{'+' if sign else ''}z.{digits}f}".replace("-", "\u2212")


def error_text(error: int | float | None, digits: int = 2) -> str:
    """A standard error, "± 0.10"; nothing if it is undefined, as it is for a single video."""
    return f"± {number(error, digits)}" if is_defined(error) else ""


def with_error(
    mean: int | float | None, error: int | float | None, digits: int = 2, sign: bool = False
) -> str:
    """A mean and its standard error: "15.28 ± 0.10"."""
    return f"{number(mean, digits, sign)} {error_text(error, digits)}".rstrip()


def counted(value: int | list[int], noun: str = "") -> str:
    """A count or a range of counts with its noun: "1 frame", "40 to 120 frames"."""
    text = f"{value[0]} to {value[1]}" if isinstance(value, list) else str(value)
    return f"{text} {noun}{'' if value == 1 else 's'}" if noun else text


def side(difference: Mapping[str, Any]) -> str:
    """Where a paired difference lies: "above" or "below" zero by more than two standard errors, or else "equal".

    A single video has no standard error; there the sign of the difference decides.
    """
    mean, error = difference["mean"], difference["standard_error"]
    if abs(mean) <= (2 * error if is_defined(error) else 0.0):
        return "equal"
    return "above" if mean > 0 else "below"


def best_floor(rows: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The name of the floor with the highest PSNR; None if no row is a floor."""
    floors = {name: row["mean"]["psnr"] for name, row in rows.items() if row["kind"] == "floor"}
    return max(floors, key=floors.get) if floors else None


def verdict(metrics: Mapping[str, Any]) -> str:
    """How well the model does, and how it compares with its baselines and with the best floor.

    Args:
        metrics: what `rad_jax.evaluation.scores.score_rows` returns.
    """
    spec, model = metrics["metrics_spec"], metrics["model"]
    predicted, context = counted(spec["predicted_frames"], "frame"), counted(spec["context_frames"], "frame")
    first = (
        f"{model} predicts {predicted} of {counted(spec['videos'], 'video')}, after {context} of context, at "
        f"{number(metrics['rows'][model]['mean']['psnr'])} dB."
    )
    return " ".join([first, *_against_baselines(metrics), *_against_floor(metrics)])


def cards(metrics: Mapping[str, Any]) -> list[Card]:
    """The model's PSNR, then its distance to each baseline, to the best floor, and to the bounds that are not exact."""
    model = metrics["rows"][metrics["model"]]
    psnr, error = model["mean"]["psnr"], model["standard_error"]["psnr"]
    result = [Card("model", number(psnr), error_text(error), f"PSNR of {metrics['model']}")]
    floor = best_floor(metrics["rows"])
    for name, other in metrics["rows"].items():
        if name == metrics["model"] or other["mean"]["psnr"] > EXACT_DB:
            continue
        if other["kind"] != "floor" or name == floor:
            difference = metrics["differences"][name]["psnr"]
            what = "best floor" if other["kind"] == "floor" else other["kind"]
            kind = "bound" if other["kind"] in ("ceiling", "oracle") else side(difference)
            value, error = number(difference["mean"], sign=True), error_text(difference["standard_error"])
            result.append(Card(kind, value, error, f"against the {what}, {name}"))
    return result


def convention(spec: Mapping[str, Any]) -> str:
    """The caption of every table: how the numbers were computed."""
    ssim, cap = spec["ssim"], spec["psnr"]["cap_db"]
    return (
        f"{counted(spec['videos'], 'video')}, {counted(spec['context_frames'], 'context frame')}, "
        f"{counted(spec['predicted_frames'])} predicted. "
        f"Predicted frames only, RGB in [0, 1], clipped; ground truth: {spec['gt']} frames. "
        f"PSNR: data range {spec['psnr']['data_range']:g}, per frame (at most {cap:g} dB), mean over frames, then over videos; "
        f"pooled: one squared error over everything. "
        f"SSIM: {ssim['window']}, K {ssim['k'][0]} / {ssim['k'][1]}, {ssim['region']} region, {ssim['channels']}. "
        f"LPIPS: {_lpips(spec['lpips'])}. ± is one standard error over videos; differences are paired by video."
    )


def _lpips(spec: Mapping[str, Any]) -> str:
    """Which network measured LPIPS, or why none did."""
    return spec.get("status") or f"{spec['net']}, version {spec['version']}, on {spec['range']}"


def _against_baselines(metrics: Mapping[str, Any]) -> list[str]:
    sentences = []
    for name, row in metrics["rows"].items():
        if row["kind"] == "baseline" and name != metrics["model"]:
            difference = metrics["differences"][name]["psnr"]
            gain = number(abs(difference["mean"]))
            sentences.append(
                {
                    "above": f"That is {gain} dB above the baseline, {name}.",
                    "below": f"That is {gain} dB below the baseline, {name}: here its memory does not pay.",
                    "equal": f"The baseline, {name}, scores the same within two standard errors: no gain can be seen.",
                }[side(difference)]
            )
    return sentences


def _against_floor(metrics: Mapping[str, Any]) -> list[str]:
    floor = best_floor(metrics["rows"])
    if floor in (None, metrics["model"]):
        return []
    difference = metrics["differences"][floor]["psnr"]
    gap = number(abs(difference["mean"]))
    return [
        {
            "above": f"The best trivial predictor, {floor}, is {gap} dB below.",
            "below": f"The trivial predictor {floor} is {gap} dB better: this is not yet a model of the world.",
            "equal": f"The trivial predictor {floor} scores the same within two standard errors.",
        }[side(difference)]
    ]
