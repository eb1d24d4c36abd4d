"""One table, four ways to write it: plain text, Markdown and CSV here, HTML in ``templates/macros.html``.

A cell is a text, a number, a number with its standard error, or None where a value is undefined. An undefined number is
shown as a dash, and an undefined error is not shown, see `rad_jax.reports.text.number`.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rad_jax.reports.text import error_text, is_defined, number


class Measured(NamedTuple):
    """A mean with its standard error, which is None for a single video."""

    mean: int | float | None
    error: int | float | None


Cell = str | int | float | Measured | None


@dataclass(frozen=True)
class Column:
    """How the cells of a column are written.

    Attributes:
        title: what the numbers are.
        digits: behind the decimal point; integers are written without.
        sign: whether positive numbers have a plus sign, as differences do.
        errors: whether its cells are `Measured`; CSV then has a second column for the errors.
        unit: unit or best value, in small letters below the title on a page, after a comma elsewhere.
        bar: on a page, the number that fills the whole bar below a cell; None for no bars.
    """

    title: str
    digits: int = 2
    sign: bool = False
    errors: bool = False
    unit: str = ""
    bar: float | None = None

    @property
    def heading(self) -> str:
        """Title and unit in one line."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    def filled(self, cell: Cell) -> float:
        """The part of the bar that a cell fills, in [0, 1]."""
        value = cell.mean if isinstance(cell, Measured) else cell
        return min(1.0, max(0.0, value / self.bar)) if is_defined(value) else 0.0


@dataclass(frozen=True)
class TableRow:
    """A row of a table.

    Attributes:
        name: of the predictor or the comparison.
        cells: one for every column.
        kind: what the row is, such as "model" or "floor"; empty where all rows are of one kind.
        note: a few words below the name.
        colour: of its dot and its bar on a page, as CSS writes colours.
    """

    name: str
    cells: Sequence[Cell]
    kind: str = ""
    note: str = ""
    colour: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells with what a reader needs to know about them.

    Attributes:
        name: of its CSV file, and its anchor on a page.
        title: its heading.
        columns: without that of the names.
        rows: from top to bottom.
        caption: the convention under which the numbers were computed.

    Raises:
        ValueError: a row has not one cell for every column.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[TableRow]
    caption: str

    def __post_init__(self):
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ValueError(
                    f"table {self.name}, row {row.name!r}: {len(row.cells)} cells for {len(self.columns)} columns"
                )


def cell_text(cell: Cell, column: Column) -> tuple[str, str]:
    """A cell as it is read: its value, and its error such as "± 0.10" or nothing."""
    if isinstance(cell, str):
        return cell, ""
    if isinstance(cell, int):
        return f"{cell:,}", ""
    mean, error = cell if isinstance(cell, Measured) else (cell, None)
    return number(mean, column.digits, column.sign), error_text(error, column.digits)


def to_text(table: Table) -> str:
    """Aligned columns, for a terminal."""
    headings, *body = _text_rows(table)
    widths = [max(map(len, column)) for column in zip(headings, *body, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in (headings, *body)
    ]
    return "\n".join([table.title, *(line.rstrip() for line in lines)]) + "\n"


def to_markdown(table: Table) -> str:
    """A heading, the table and its caption."""
    headings, *body = _text_rows(table)
    rule = ["---", *("---:" for _ in table.columns)]
    lines = ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in (headings, rule, *body)]
    notes = [f"{row.name}: {row.note}." for row in table.rows if row.note]
    return "\n".join([f"## {table.title}", "", *lines, "", " ".join([*notes, table.caption])]) + "\n"


def to_csv(table: Table) -> str:
    """All digits of every number; undefined values are empty cells."""
    headings = ["row", "kind"]
    for column in table.columns:
        headings += (
            [column.heading, f"{column.heading}: standard error"] if column.errors else [column.heading]
        )
    rows = []
    for row in table.rows:
        cells = [row.name, row.kind]
        for cell, column in zip(row.cells, table.columns, strict=True):
            if not column.errors:
                cells.append(cell)
            else:
                cells += cell if isinstance(cell, Measured) else (cell, None)
        rows.append(cells)
    return write_csv([headings, *rows])


def write_csv(rows: Sequence[Sequence[Cell]]) -> str:
    """Rows as CSV; None and NaN as empty cells."""
    file = io.StringIO()
    cells = ([cell if isinstance(cell, str) or is_defined(cell) else None for cell in row] for row in rows)
    csv.writer(file, lineterminator="\n").writerows(cells)
    return file.getvalue()


def _text_rows(table: Table) -> list[list[str]]:
    """Headings and rows as texts; the first column has the names."""
    body = [
        [
            row.name,
            *(" ".join(filter(None, cell_text(c, column))) for c, column in zip(row.cells, table.columns)),
        ]
        for row in table.rows
    ]
    return [["", *(column.heading for column in table.columns)], *body]
