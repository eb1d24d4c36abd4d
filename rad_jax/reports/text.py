"""How metrics and numbers are written for the eye, and what the numbers of an evaluation say in words."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from rad_jax.reports.statistics import Scores

# Rows with a higher PSNR are copies of the truth: they are left out of comparisons and of the scale of bars and curves.
EXACT_DB = 60.0


class Metric(NamedTuple):
    """How a metric is shown.

    Attributes:
        short: its name in a terminal.
        title: its name elsewhere.
        unit: empty for a pure number.
        digits: behind the decimal point.
        best: which value is best, in words.
    """

    short: str
    title: str
    unit: str
    digits: int
    best: str

    @property
    def heading(self) -> str:
        """Title and unit: "PSNR, dB"."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


# In the order of the tables.
METRICS = {
    "psnr": Metric("psnr", "PSNR", "dB", 2, "higher is better"),
    "ssim": Metric("ssim", "SSIM", "", 3, "1 is best"),
    "lpips": Metric("lpips", "LPIPS", "", 3, "0 is best"),
    "histogram_intersection": Metric("hist-int", "colours in common", "", 3, "1 is best"),
    "psnr_coarse": Metric("psnr-1/8", "PSNR at 1/8", "dB", 2, "higher is better"),
    "retrieval_error": Metric("retr.err", "place error", "frames", 2, "0 is best"),
    "yaw_error": Metric("yaw-err", "turn error", "px", 2, "0 is best"),
    "sharpness": Metric("sharp", "sharpness", "", 2, "1 is best"),
    "motion": Metric("motion", "motion", "", 2, "1 is best"),
}
# The metrics that tell a model that forgot from one that remembers but drifts, and what their values mean.
MEMORY_METRICS = {
    "histogram_intersection": "Share of the pixels that have the right colour, wherever they are. Low: the colours of the "
    "place are forgotten. Blur and noise lower it too, so compare it with the ceiling.",
    "psnr_coarse": "PSNR after a wide blur. It forgives small shifts; far above the plain PSNR means remembered, but drifted.",
    "retrieval_error": "How far the true frame that looks most like the predicted one lies from the right one. High: lost, or "
    "elsewhere.",
    "yaw_error": "Predicted against true horizontal motion from frame to frame. High: actions are not followed.",
    "sharpness": "Fine detail relative to the truth. Below 1: blurred; above: noisy.",
    "motion": "Change from frame to frame relative to the truth. 0: a still picture; above 1: flicker.",
}

# What the verdict says of the model beside a row of a kind, by the `side` on which the model lies.
BESIDE = {
    "baseline": {
        "above": "That is {gap} dB above the baseline, {name}.",
        "below": "That is {gap} dB below the baseline, {name}: here its memory does not pay.",
        "equal": "The baseline, {name}, scores the same within two standard errors: no gain can be seen.",
    },
    "emptied": {
        "above": "Emptied before the first prediction, its memory is worth {gap} dB less.",
        "below": "Emptied before the first prediction, its memory does better by {gap} dB: it misleads.",
        "equal": "Emptied before the first prediction, its memory makes no difference of two standard errors.",
    },
    "floor": {
        "above": "The best trivial predictor, {name}, is {gap} dB below.",
        "below": "The trivial predictor {name} is {gap} dB better: this is not yet a model of the world.",
        "equal": "The trivial predictor {name} scores the same within two standard errors.",
    },
}


class Card(NamedTuple):
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


def verdict(scores: Scores, model: str) -> str:
    """How well the model does, and how it compares with its baseline and with the best floor."""
    spec, floor = scores.metrics_spec, scores.best_floor()
    predicted, context = counted(spec["predicted_frames"], "frame"), counted(spec["context_frames"], "frame")
    sentences = [
        f"{model} predicts {predicted} of {counted(spec['videos'], 'video')}, after {context} of context, at "
        f"{number(scores.psnr(model))} dB."
    ]
    for name, row in scores.rows.items():
        own = row["kind"] == "baseline" or (row["kind"] == "emptied" and name.startswith(f"{model}, "))
        if own or name == floor:
            difference = scores.difference(model, name)
            sentence = BESIDE[row["kind"]][side(difference)]
            sentences.append(sentence.format(gap=number(abs(difference["mean"])), name=name))
    return " ".join(sentences)


def cards(scores: Scores, model: str) -> list[Card]:
    """The model's PSNR, then its distance to the baseline, to the best floor, and to the bounds that are not exact."""
    error = scores.rows[model]["standard_error"]["psnr"]
    result = [Card("model", number(scores.psnr(model)), error_text(error), f"PSNR of {model}")]
    floor = scores.best_floor()
    for name, row in scores.rows.items():
        other = row["kind"] in ("floor", "emptied") and name != floor
        if name == model or other or (row["kind"] != "floor" and scores.psnr(name) > EXACT_DB):
            continue
        difference = scores.difference(model, name)
        what = "best floor" if row["kind"] == "floor" else row["kind"]
        kind = "bound" if row["kind"] in ("ceiling", "oracle") else side(difference)
        value, error = number(difference["mean"], sign=True), error_text(difference["standard_error"])
        result.append(Card(kind, value, error, f"against the {what}, {name}"))
    return result


def convention(spec: Mapping[str, Any]) -> str:
    """The caption of every table: how the numbers were computed."""
    ssim, cap, lpips = spec["ssim"], spec["psnr"]["cap_db"], spec["lpips"]
    network = lpips.get("status") or f"{lpips['net']}, version {lpips['version']}, on {lpips['range']}"
    return (
        f"{counted(spec['videos'], 'video')}, {counted(spec['context_frames'], 'context frame')}, "
        f"{counted(spec['predicted_frames'])} predicted. "
        f"Predicted frames only, RGB in [0, 1], clipped; ground truth: {spec['gt']} frames. "
        f"PSNR: data range {spec['psnr']['data_range']:g}, per frame (at most {cap:g} dB), mean over frames, then over videos; "
        f"pooled: one squared error over everything. "
        f"SSIM: {ssim['window']}, K {ssim['k'][0]} / {ssim['k'][1]}, {ssim['region']} region, {ssim['channels']}. "
        f"LPIPS: {network}. ± is one standard error over videos; differences are paired by video."
    )
