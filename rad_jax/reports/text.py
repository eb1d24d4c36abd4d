"""What the numbers of an evaluation say, in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

EXACT_DB = 60.0  # rows above are copies of the truth: a distance to them says nothing, and they would squeeze every scale

# Metric -> column title, which way is better, and what it tells. Order of the table.
MEMORY_METRICS = {
    "histogram_intersection": (
        "colours in common",
        "1 is best",
        "Share of the pixels that have the right colour, wherever they are. Low: the colours of the place are "
        "forgotten. Blur and noise lower it too, so compare it with the ceiling.",
    ),
    "psnr_coarse": (
        "PSNR at 1/8, dB",
        "higher is better",
        "PSNR after a wide blur. It forgives small shifts; far above the plain PSNR means remembered, but drifted.",
    ),
    "retrieval_error": (
        "place error, frames",
        "0 is best",
        "How far the true frame that looks most like the predicted one lies from the right one. High: lost, or elsewhere.",
    ),
    "yaw_error": (
        "turn error, px",
        "0 is best",
        "Predicted against true horizontal motion from frame to frame. High: actions are not followed.",
    ),
    "sharpness": (
        "sharpness",
        "1 is best",
        "Fine detail relative to the truth. Below 1: blurred; above: noisy.",
    ),
    "motion": (
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


def number(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """A number for the eye: a true minus, and a dash for what is undefined."""
    if value is None:
        return "\u2013"
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "\u2212")


def error_text(error: float | None, digits: int = 2) -> str:
    """A standard error behind its sign; nothing where there is none, as for a single video."""
    return "" if error is None else f"± {number(error, digits)}"


def counted(value: int | list[int], noun: str = "") -> str:
    """A count, or from where to where, with its noun: "1 frame", "40 to 120 frames"."""
    text = f"{value[0]} to {value[1]}" if isinstance(value, list) else str(value)
    return f"{text} {noun}{'' if value == 1 else 's'}" if noun else text


def verdict(metrics: Mapping[str, Any]) -> str:
    """Two sentences: how well the model does, and what its memory and the trivial predictors say about that."""
    spec, model = metrics["metrics_spec"], metrics["model"]
    predicted, context = counted(spec["predicted_frames"], "frame"), counted(spec["context_frames"], "frame")
    first = (
        f"{model} predicts {predicted} of {counted(spec['videos'], 'video')}, after {context} of context, at "
        f"{number(metrics['rows'][model]['mean']['psnr'])} dB."
    )
    return " ".join([first, *_twin(metrics), *_floor(metrics)])


def cards(metrics: Mapping[str, Any]) -> list[Card]:
    """The model's PSNR, then its distance to its twins, to the best floor and to the bounds that are not exact."""
    model = metrics["rows"][metrics["model"]]
    psnr, error = model["mean"]["psnr"], model["standard_error"]["psnr"]
    result = [Card("model", number(psnr), error_text(error), f"PSNR of {metrics['model']}")]
    floor = best_floor(metrics)
    for name, other in metrics["rows"].items():
        if name == metrics["model"] or other["mean"]["psnr"] > EXACT_DB:
            continue
        if other["kind"] != "floor" or name == floor:
            difference = metrics["differences"][name]["psnr"]
            what = "best floor" if other["kind"] == "floor" else other["kind"]
            kind = "bound" if other["kind"] in ("ceiling", "oracle") else _side(difference)
            value, error = number(difference["mean"], sign=True), error_text(difference["standard_error"])
            result.append(Card(kind, value, error, f"against the {what}, {name}"))
    return result


def best_floor(metrics: Mapping[str, Any]) -> str | None:
    """The floor of the highest PSNR, if the table has floors."""
    floors = {name: row["mean"]["psnr"] for name, row in metrics["rows"].items() if row["kind"] == "floor"}
    return max(floors, key=floors.get) if floors else None


def convention(spec: Mapping[str, Any]) -> str:
    """The line under every table: how the numbers were computed."""
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
    """How it was measured, or why not."""
    return spec.get("status") or f"{spec['net']}, version {spec['version']}, on {spec['range']}"


def _side(difference: Mapping[str, Any]) -> str:
    """Whether a paired difference is above, below, or within two standard errors of zero."""
    mean, error = difference["mean"], difference["standard_error"] or 0.0
    if abs(mean) <= 2 * error:
        return "equal"
    return "above" if mean > 0 else "below"


def _twin(metrics: Mapping[str, Any]) -> list[str]:
    sentences = []
    for name, row in metrics["rows"].items():
        if row["kind"] == "baseline" and name != metrics["model"]:
            difference = metrics["differences"][name]["psnr"]
            gain, side = number(abs(difference["mean"])), _side(difference)
            sentences.append(
                {
                    "above": f"That is {gain} dB above the baseline, {name}.",
                    "below": f"That is {gain} dB below the baseline, {name}: here its memory does not pay.",
                    "equal": f"The baseline, {name}, scores the same within two standard errors: no gain can be seen.",
                }[side]
            )
    return sentences


def _floor(metrics: Mapping[str, Any]) -> list[str]:
    floor = best_floor(metrics)
    if floor in (None, metrics["model"]):
        return []
    difference = metrics["differences"][floor]["psnr"]
    gap = number(abs(difference["mean"]))
    return [
        {
            "above": f"The best trivial predictor, {floor}, is {gap} dB below.",
            "below": f"The trivial predictor {floor} is {gap} dB better: this is not yet a model of the world.",
            "equal": f"The trivial predictor {floor} scores the same within two standard errors.",
        }[_side(difference)]
    ]
