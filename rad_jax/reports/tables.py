"""One table, four ways to write it: plain text, Markdown and CSV here, HTML in ``templates/macros.html``.

A cell is a text, a number, a number with its standard error, or None where a value is undefined. An undefined number is
shown as a dash, and an undefined error is not shown, see `rad_jax.reports.text.number`.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rad_jax.reports.statistics import Scores
from rad_jax.reports.text import MEMORY_METRICS, METRICS, error_text, is_defined, number


class Measured(NamedTuple):
    """A mean with its standard error, which is None for a single video."""

    mean: int | float | None
    error: int | float | None


Cell = str | int | float | Measured | None


@dataclass(frozen=True)
class Column:
    """A column and how its cells are written.

    Attributes:
        title: what the numbers are.
        cells: from top to bottom.
        digits: behind the decimal point; integers are written without.
        sign: whether positive numbers have a plus sign, as differences do.
        errors: whether its cells are `Measured`; CSV then has a second column for the errors.
        note: in small letters below the title on a page, in brackets behind it elsewhere.
        bar: on a page, the number that fills the whole bar below a cell; None for no bars.
    """

    title: str
    cells: Sequence[Cell]
    digits: int = 2
    sign: bool = False
    errors: bool = False
    note: str = ""
    bar: float | None = None

    @property
    def heading(self) -> str:
        """Title and note in one line."""
        return f"{self.title} ({self.note})" if self.note else self.title

    def text(self, cell: Cell) -> tuple[str, str]:
        """A cell as it is read: its value, and its error such as "± 0.10" or nothing."""
        if isinstance(cell, str):
            return cell, ""
        if isinstance(cell, int):
            return f"{cell:,}", ""
        mean, error = cell if isinstance(cell, Measured) else (cell, None)
        return number(mean, self.digits, self.sign), error_text(error, self.digits)

    def filled(self, cell: Cell) -> float:
        """The part of the bar that a cell fills, in [0, 1]."""
        value = cell.mean if isinstance(cell, Measured) else cell
        return min(1.0, max(0.0, value / self.bar)) if is_defined(value) else 0.0


class Head(NamedTuple):
    """What stands in front of a row.

    Attributes:
        name: of the predictor or the comparison.
        kind: what the row is, such as "model" or "floor"; empty where all rows are of one kind.
        note: a few words below the name.
        colour: of its dot and its bar on a page, as CSS writes colours.
    """

    name: str
    kind: str = ""
    note: str = ""
    colour: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells with what a reader needs to know about them.

    Attributes:
        name: of its CSV file, and its anchor on a page.
        title: its heading.
        heads: of the rows, from top to bottom.
        columns: without that of the heads.
        caption: the convention under which the numbers were computed.
    """

    name: str
    title: str
    heads: Sequence[Head]
    columns: Sequence[Column]
    caption: str

    def rows(self) -> Iterator[tuple[Head, list[Cell]]]:
        """Every row: its head, and a cell for every column.

        Raises:
            ValueError: a column has not one cell for every head.
        """
        for head, *cells in zip(self.heads, *(column.cells for column in self.columns), strict=True):
            yield head, cells


def measured(scores: Scores, metric: str, names: Iterable[str], **options: str | float) -> Column:
    """The means of a metric in some rows; "n/a" where it was not measured."""
    rows = [scores.rows[name] for name in names]
    cells = [
        Measured(row["mean"][metric], row["standard_error"][metric]) if metric in row["mean"] else "n/a"
        for row in rows
    ]
    about = METRICS[metric]
    return Column(about.heading, cells, about.digits, errors=True, **options)


def difference(
    scores: Scores, metric: str, pairs: Iterable[tuple[str, str | None]], other: str = ""
) -> Column:
    """First minus second row of every pair, paired by video; undefined where they are the same or there is no second.

    Args:
        other: what the second row is, if it is not named in the head of the row.
    """
    cells = []
    for first, second in pairs:
        found = scores.difference(first, second, metric) if second not in (None, first) else None
        cells.append(found and Measured(found["mean"], found["standard_error"]))
    about = METRICS[metric]
    against = about._replace(title=f"{about.title} \u2212 {other}") if other else about
    return Column(against.heading, cells, about.digits, sign=True, errors=True)


def memory_columns(scores: Scores, names: Sequence[str]) -> list[Column]:
    """The metrics that tell a model that forgot from one that remembers but drifts."""
    return [measured(scores, metric, names, note=METRICS[metric].best) for metric in MEMORY_METRICS]


def cost_columns(scores: Scores, names: Sequence[str]) -> list[Column]:
    """What the models among some rows cost: bytes of the memory of a video, parameters, matrix products of a frame."""
    about = [scores.about.get(name, {}) for name in names]
    units = (("state_bytes", 2**10), ("parameters", 1e6), ("frame_flops", 1e9))
    state, parameters, flops = ([a.get(key) and a[key] / unit for a in about] for key, unit in units)
    return [
        Column("memory of a video, KiB", state, 1),
        Column("parameters, M", parameters),
        Column("GFLOP per frame", flops, 3),
    ]


def to_text(table: Table) -> str:
    """Aligned columns, for a terminal."""
    rows = _texts(table)
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = [
        "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], others))])
        for row in rows
    ]
    return "\n".join([table.title, *(line.rstrip() for line in lines)]) + "\n"


def to_markdown(table: Table) -> str:
    """A heading, the table and its caption."""
    headings, *body = _texts(table)
    rule = ["---", *("---:" for _ in table.columns)]
    lines = ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in (headings, rule, *body)]
    notes = [f"{head.name}: {head.note}." for head in table.heads if head.note]
    return "\n".join([f"## {table.title}", "", *lines, "", " ".join([*notes, table.caption])]) + "\n"


def to_csv(table: Table) -> str:
    """All digits of every number; undefined values are empty cells."""
    lines = [["row", "kind"], *([head.name, head.kind] for head in table.heads)]
    for column in table.columns:
        titles = [column.heading, f"{column.heading}: standard error"] if column.errors else [column.heading]
        lines[0] += titles
        for line, cell in zip(lines[1:], column.cells, strict=True):
            line += cell if isinstance(cell, Measured) else [cell, None][: len(titles)]
    return write_csv(lines)


def write_csv(rows: Sequence[Sequence[Cell]]) -> str:
    """Rows as CSV; None and NaN as empty cells."""
    file = io.StringIO()
    cells = ([cell if isinstance(cell, str) or is_defined(cell) else None for cell in row] for row in rows)
    csv.writer(file, lineterminator="\n").writerows(cells)
    return file.getvalue()


def _texts(table: Table) -> list[list[str]]:
    """Headings and rows; the first column has the names."""
    body = [
        [head.name, *(" ".join(filter(None, c.text(cell))) for c, cell in zip(table.columns, cells))]
        for head, cells in table.rows()
    ]
    return [["", *(column.heading for column in table.columns)], *body]
