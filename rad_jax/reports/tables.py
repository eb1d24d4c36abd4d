"""One table, four ways to write it: plain text, Markdown, CSV and HTML.

A cell is a text, a number, a number with its standard error, or None where a value is undefined.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from rad_jax.reports.text import number


class Measured(NamedTuple):
    """A mean with its standard error; None where there is none, as for a single video."""

    mean: float | None
    error: float | None


Cell = str | int | float | Measured | None


@dataclass(frozen=True)
class Column:
    """A column of cells.

    Attributes:
        title: what it is, with its unit.
        digits: behind the point; whole numbers have none.
        sign: whether positive numbers have one too, as differences do.
        errors: whether its cells are `Measured`: in CSV the errors are a column of their own.
    """

    title: str
    digits: int = 2
    sign: bool = False
    errors: bool = False


@dataclass(frozen=True)
class Line:
    """A row: its name, its cells, what kind of thing it is, a few words below the name, and its colour on the page."""

    name: str
    cells: Sequence[Cell]
    kind: str = ""
    note: str = ""
    colour: str = ""


@dataclass(frozen=True)
class Table:
    """``name`` is that of its CSV file; ``caption`` says how the numbers came about."""

    name: str
    title: str
    columns: Sequence[Column]
    lines: Sequence[Line]
    caption: str

    def __post_init__(self):
        for line in self.lines:
            if len(line.cells) != len(self.columns):
                raise ValueError(
                    f"table {self.name}, row {line.name!r}: {len(line.cells)} cells for {len(self.columns)} columns"
                )


def show(cell: Cell, column: Column) -> str:
    """A cell for the eye: "15.28 ± 0.10"."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, Measured):
        error = "" if cell.error is None else f" ± {number(cell.error, column.digits)}"
        return number(cell.mean, column.digits, column.sign) + error
    return number(cell, column.digits, column.sign)


def to_text(table: Table) -> str:
    """Aligned columns, for a terminal."""
    heads = ["", *(column.title for column in table.columns)]
    body = [[line.name, *map(show, line.cells, table.columns)] for line in table.lines]
    widths = [max(map(len, column)) for column in zip(heads, *body, strict=True)]
    rows = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in (heads, *body)
    ]
    return "\n".join([table.title, *(row.rstrip() for row in rows)]) + "\n"


def to_markdown(table: Table) -> str:
    """A heading, the table and its caption."""
    rows = [
        ["", *(column.title for column in table.columns)],
        ["---", *("---:" for _ in table.columns)],
        *([line.name, *map(show, line.cells, table.columns)] for line in table.lines),
    ]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    notes = [f"{line.name}: {line.note}." for line in table.lines if line.note]
    return "\n".join([f"## {table.title}", "", *lines, "", " ".join([*notes, table.caption])]) + "\n"


def to_csv(table: Table) -> str:
    """Every digit that there is; undefined values are empty."""
    heads = ["row", "kind"]
    for column in table.columns:
        heads += [column.title, f"{column.title}: standard error"] if column.errors else [column.title]
    rows = []
    for line in table.lines:
        row = [line.name, line.kind]
        for cell, column in zip(line.cells, table.columns, strict=True):
            if not column.errors:
                row.append(cell)
            else:
                row += cell if isinstance(cell, Measured) else (cell, None)
        rows.append(row)
    return write_csv([heads, *rows])


def write_csv(rows: Sequence[Sequence[Cell]]) -> str:
    """Rows as CSV, None as an empty cell."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def to_html(table: Table) -> str:
    """A section of the page."""
    head = "".join(f"<th>{escape(column.title)}</th>" for column in table.columns)
    body = "".join(_html_row(table, line) for line in table.lines)
    return (
        f"<section id='{escape(table.name)}'><h2>{escape(table.title)}</h2><div class='scroll'><table>"
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        f"<p class='caption'>{escape(table.caption)}</p></section>"
    )


def _html_row(table: Table, line: Line) -> str:
    note = f"<span class='note'>{escape(line.note)}</span>" if line.note else ""
    kind = f"<span class='kind'>{line.kind}</span> " if line.kind else ""
    cells = ""
    for cell, column in zip(line.cells, table.columns, strict=True):
        value, sign, error = show(cell, column).partition(" ± ")
        cells += f"<td>{escape(value)}{f' <small>± {error}</small>' if sign else ''}</td>"
    dot = f" style='--dot:{line.colour}'" if line.colour else ""
    return f"<tr{dot}><td>{kind}{escape(line.name)}{note}</td>{cells}</tr>"
