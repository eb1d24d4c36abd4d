"""The evaluation of a model to look at: curves, side-by-side videos, and ``report.html``, one file that opens offline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rad_jax import media
from rad_jax.files import write_bytes
from rad_jax.reports.episodes import EpisodeFrames, EpisodeView, write_episodes
from rad_jax.reports.figures import COLOURS, curves
from rad_jax.reports.html import render
from rad_jax.reports.tables import Cell, Column, Measured, Table, TableRow
from rad_jax.reports.text import EXACT_DB, MEMORY_METRICS, cards, convention, verdict

PAGE_BYTES = 12_000_000  # about the most that a page takes; videos and pictures that do not fit are linked
DIGITS = {"ssim": 3, "lpips": 3, "histogram_intersection": 3}  # behind the point; of other metrics 2


def write_report(
    directory: Path | str,
    metrics: Mapping[str, Any],
    episodes: Sequence[EpisodeFrames],
    *,
    title: str,
    facts: Mapping[str, Any],
    provenance: Mapping[str, Any],
    config: str,
    fps: int | float,
) -> Path:
    """Writes ``curves.png``, ``videos/*.mp4`` and ``report.html`` into ``directory``, each in one step.

    Args:
        directory: made if it is missing; files of an earlier report are replaced.
        metrics: what `rad_jax.evaluation.scores.score_rows` returns.
        episodes: those to show, the most telling first.
        title: of the page.
        facts: what the model is: variant, memory, parameters, steps, condition, sampler; shown below the title.
        provenance: where the numbers come from: command, commit, data set, versions, hardware, time.
        config: the resolved configuration as text; folded away at the end.
        fps: frames per second of the videos.

    Returns:
        The path of the page.
    """
    directory = Path(directory)
    drawing = curves(metrics)
    write_bytes(directory / "curves.png", drawing)
    address = media.data_uri(drawing, "image/png")
    views = write_episodes(
        directory,
        {f"{number:02d}": episode for number, episode in enumerate(episodes)},
        lambda episode: media.encode_video(media.side_by_side(episode.videos(), len(episode.context)), fps),
        PAGE_BYTES - len(address),
    )
    html = page(title, facts, metrics, address, views, provenance, config)
    write_bytes(directory / "report.html", html.encode())
    return directory / "report.html"


def page(
    title: str,
    facts: Mapping[str, Any],
    metrics: Mapping[str, Any],
    curves: str,
    episodes: Sequence[EpisodeView],
    provenance: Mapping[str, Any],
    config: str,
) -> str:
    """The HTML of the page; ``curves`` is the address of a picture, the other arguments are those of `write_report`."""
    return render(
        "report.html",
        title=title,
        facts=facts,
        verdict=verdict(metrics),
        cards=cards(metrics),
        scores=score_table(metrics),
        curves=curves,
        episodes=episodes,
        memory=memory_table(metrics),
        memory_metrics=MEMORY_METRICS,
        provenance=provenance,
        config_title="the whole configuration",
        config=config,
    )


def score_table(metrics: Mapping[str, Any]) -> Table:
    """PSNR, SSIM and LPIPS of every row, and every other row's PSNR minus the model's."""
    # Perfect copies, at the cap of 100 dB, do not squeeze the bars of the others.
    values = [row["mean"]["psnr"] for row in metrics["rows"].values()]
    longest = max([value for value in values if value < EXACT_DB] or values)
    columns = [
        Column("PSNR", errors=True, unit="dB", bar=longest),
        Column("PSNR against", sign=True, errors=True, unit=f"{metrics['model']}, dB"),
        Column("SSIM", DIGITS["ssim"], errors=True, unit="1 is best"),
        Column("LPIPS", DIGITS["lpips"], errors=True, unit="0 is best"),
        Column("PSNR", unit="pooled, dB"),
    ]
    rows = []
    for name, row in metrics["rows"].items():
        difference: Cell = ""
        if name in metrics["differences"]:
            psnr = metrics["differences"][name]["psnr"]  # the model minus the row
            difference = Measured(-psnr["mean"], psnr["standard_error"])
        psnr, ssim, lpips = (_measured(row, metric) for metric in ("psnr", "ssim", "lpips"))
        cells = [psnr, difference, ssim, lpips, row["mean"]["psnr_pooled"]]
        rows.append(TableRow(name, cells, row["kind"], row["note"], COLOURS[row["kind"]]))
    return Table("scores", "Scores", columns, rows, convention(metrics["metrics_spec"]))


def memory_table(metrics: Mapping[str, Any]) -> Table:
    """The metrics that tell a model that forgot from one that remembers but drifts."""
    columns = [Column(m.title, DIGITS.get(name, 2), unit=m.best) for name, m in MEMORY_METRICS.items()]
    rows = [
        TableRow(
            name,
            [row["mean"][metric] for metric in MEMORY_METRICS],
            row["kind"],
            colour=COLOURS[row["kind"]],
        )
        for name, row in metrics["rows"].items()
    ]
    coarse = metrics["metrics_spec"]["psnr_coarse"]
    caption = (
        "PSNR and SSIM do not tell a model that forgot from one that remembers and stands a step aside; these numbers do, "
        f"read together. Means over videos; 1/8 means every {coarse['decimation']} px here, after a Gaussian of sigma "
        f"{coarse['blur_sigma']:g} px."
    )
    return Table("memory", "Forgotten, or drifted?", columns, rows, caption)


def _measured(row: Mapping[str, Any], metric: str) -> Cell:
    if metric not in row["mean"]:
        return "n/a"
    return Measured(row["mean"][metric], row["standard_error"][metric])
