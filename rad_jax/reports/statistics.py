"""Statistics of an evaluation set: of every row over its videos, and of the paired differences between two rows.

A row is what one predictor scored. All statistics are strict JSON values; what is undefined, such as the standard error over
a single video, is None.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rad_jax.axes import Float
from rad_jax.metrics.video import REDUCTION, VideoScore, reduce

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Scores:
    """What was scored on one evaluation set.

    Attributes:
        name: of the set.
        metrics_spec: how the numbers were computed.
        videos: of each "name", "context_frames" and "predicted_frames".
        rows: by name what `summarise` gives, in the order of the tables.
        about: by name of a row the "hardware" and "seconds" of its scoring; of a run also "steps" and "parameters".
        protocol: of the walks in the videos.
    """

    name: str
    metrics_spec: Mapping[str, Any]
    videos: Sequence[Mapping[str, Any]]
    rows: Mapping[str, Row]
    about: Mapping[str, Mapping[str, Any]]
    protocol: str = "not recorded"

    def psnr(self, name: str) -> float:
        """The mean PSNR of a row, in dB."""
        return self.rows[name]["mean"]["psnr"]

    def difference(self, first: str, second: str, metric: str = "psnr") -> dict[str, Any]:
        """First minus second row, paired by video: "mean", "standard_error" and number of "videos"."""
        values = (np.asarray(self.rows[row]["per_video"][metric], np.float64) for row in (first, second))
        return jsonable(_over_videos(np.subtract(*values)))

    def best_floor(self) -> str | None:
        """The name of the floor with the highest PSNR; None if no row is a floor."""
        floors = [name for name, row in self.rows.items() if row["kind"] == "floor"]
        return max(floors, key=self.psnr, default=None)


def summarise(kind: str, note: str, videos: Sequence[VideoScore]) -> dict[str, Any]:
    """Statistics of a row over its videos.

    Returns:
        ``kind``, ``note``, ``mean``, ``standard_error``, ``per_video``, and ``per_frame``: value, standard error and count by
        index of the predicted frame.
    """
    reduction = {metric: how for metric, how in REDUCTION.items() if metric in videos[0].video}
    per_video = {metric: np.array([score.video[metric] for score in videos]) for metric in reduction}
    over_videos = {metric: _over_videos(values) for metric, values in per_video.items()}
    squared_errors = 10 ** (-np.concatenate([score.frames["psnr"] for score in videos]) / 10)
    pooled = {"psnr_pooled": -10 * np.log10(squared_errors.mean())}
    return jsonable(
        {
            "kind": kind,
            "note": note,
            "mean": {metric: over_videos[metric]["mean"] for metric in reduction} | pooled,
            "standard_error": {metric: over_videos[metric]["standard_error"] for metric in reduction},
            "per_video": per_video,
            "per_frame": {
                m: _curve([score.frames[m] for score in videos], how) for m, how in reduction.items()
            },
        }
    )


def jsonable(value: Any) -> Any:
    """Converts to what strict JSON can hold: lists, dicts and Python numbers; NaN and infinities become None."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _over_videos(values: Float[np.ndarray, " v"]) -> dict[str, Any]:
    """Mean over the videos where the value is defined, and the standard error of that mean (NaN for a single video)."""
    values = values[np.isfinite(values)]
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    return {"mean": reduce(values, "mean"), "standard_error": error, "videos": len(values)}


def _curve(videos: Sequence[Float[np.ndarray, "_"]], how: str) -> dict[str, list]:
    """A metric by index of the predicted frame, over the videos that are long enough and where it is defined."""
    padded = np.full((len(videos), max(map(len, videos))), np.nan)
    for row, values in zip(padded, videos, strict=True):
        row[: len(values)] = values
    over_videos = [_over_videos(column) for column in padded.T]
    return {
        "value": [reduce(column, how) for column in padded.T],
        "standard_error": [column["standard_error"] if how == "mean" else None for column in over_videos],
        "count": [column["videos"] for column in over_videos],
    }
