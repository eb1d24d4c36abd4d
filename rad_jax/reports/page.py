"""A page that is one file and opens offline: verdict, tables, drawings, episodes, and how the numbers were computed.

Its files in ``templates/`` are Jinja's: everything that is put into them is escaped, and a name that they lack is an error.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from rad_jax import media
from rad_jax.files import write_bytes
from rad_jax.reports.episodes import EpisodeFrames, write_episodes
from rad_jax.reports.tables import Table
from rad_jax.reports.text import MEMORY_METRICS, METRICS, Card, number

PAGE_BYTES = 12_000_000  # about the most that a page takes; videos and pictures that do not fit are linked
TEMPLATES = Environment(
    loader=PackageLoader("rad_jax.reports"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.globals |= {
    "number": number,
    "memory_metrics": {METRICS[name].heading: reading for name, reading in MEMORY_METRICS.items()},
    "colours": {"given": f"rgb{media.CONTEXT_COLOUR}", "predicted": f"rgb{media.PREDICTED_COLOUR}"},
}


class Drawing(NamedTuple):
    """A PNG under a heading, with its name as a file."""

    file: str
    title: str
    alt: str
    caption: str
    png: bytes

    @property
    def address(self) -> str:
        """The picture itself, as a data URI."""
        return media.data_uri(self.png, "image/png")


def write_page(
    path: Path,
    *,
    title: str,
    facts: Mapping[str, Any],
    verdicts: Sequence[str],
    tables: Sequence[Table],
    drawings: Sequence[Drawing],
    episodes: Mapping[str, Sequence[EpisodeFrames]],
    encode: Callable[[EpisodeFrames], bytes],
    provenance: Mapping[str, Any],
    config: str,
    cards: Sequence[Card] = (),
) -> None:
    """Writes a page, and beside it its drawings and ``videos/*.mp4``, each in one step.

    Args:
        path: its directory is made if it is missing; files of an earlier page are replaced or removed.
        facts: what was evaluated; shown below the title, without what is None.
        verdicts: what the numbers say, a paragraph each.
        episodes: heading -> episodes to show, the most telling first.
        encode: the mp4 of an episode.
        provenance: where the numbers come from: command, data, versions, hardware.
        config: the configuration as text; folded away at the end.
        cards: the numbers of the headline.
    """
    for drawing in drawings:
        write_bytes(path.parent / drawing.file, drawing.png)
    views, bytes_left = {}, PAGE_BYTES - sum(len(drawing.address) for drawing in drawings)
    for heading, shown in episodes.items():
        views[heading] = write_episodes(path.parent, shown, encode, bytes_left)
        bytes_left -= sum(view.size for view in views[heading])
    html = TEMPLATES.get_template("page.html").render(
        title=title,
        facts=facts,
        verdicts=verdicts,
        cards=cards,
        tables=tables,
        drawings=drawings,
        episodes=views,
        provenance=provenance,
        config=config,
    )
    write_bytes(path, html.encode())
    written = {f"{episode.file}.mp4" for shown in episodes.values() for episode in shown}
    for video in path.parent.glob("videos/*.mp4"):  # of an earlier page with more of them
        if video.name not in written and re.fullmatch(r"(.*-)?\d\d+", video.stem):
            video.unlink()
