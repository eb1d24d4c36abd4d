"""One table as text, Markdown, CSV and HTML."""

import csv
import io
import math

import pytest

from rad_jax.reports.page import TEMPLATES
from rad_jax.reports.tables import Column, Head, Measured, Table, to_csv, to_markdown, to_text, write_csv
from tests.reports.parsed_page import ParsedPage

DASH, MINUS = "\u2013", "\u2212"
TABLE = Table(
    "table1-loop",
    "Table 1: loop",
    [Head("df", "no memory", colour="#23262c"), Head("a <b> | c", "memory", "half & half")],
    [
        Column("PSNR, dB", [Measured(15.2849, 0.104), Measured(14.0, None)], errors=True),
        Column("to df", [None, Measured(-1.2849, 0.05)], sign=True, errors=True),
        Column("LPIPS", ["n/a", 0.5], 3),
        Column("parameters", [0, 1234567]),
    ],
    "Predicted frames only.",
)


def test_text_is_aligned():
    title, heads, *rows = to_text(TABLE).splitlines()
    assert title == "Table 1: loop"
    assert heads.split() == ["PSNR,", "dB", "to", "df", "LPIPS", "parameters"]
    assert rows[0].split() == ["df", "15.28", "±", "0.10", DASH, "n/a", "0"]
    assert rows[1].split()[-6:] == ["14.00", f"{MINUS}1.28", "±", "0.05", "0.500", "1,234,567"]
    assert len({len(row) for row in (heads, *rows)}) == 1


def test_markdown_has_a_heading_a_table_and_the_caption():
    text = to_markdown(TABLE)
    lines = text.splitlines()
    assert lines[0] == "## Table 1: loop"
    table = [line for line in lines if line.startswith("| ")]
    assert table[0] == "|  | PSNR, dB | to df | LPIPS | parameters |"
    assert table[1] == "| --- | ---: | ---: | ---: | ---: |"
    assert table[2] == f"| df | 15.28 ± 0.10 | {DASH} | n/a | 0 |"
    assert table[3] == f"| a <b> \\| c | 14.00 | {MINUS}1.28 ± 0.05 | 0.500 | 1,234,567 |"
    assert lines[-1] == "a <b> | c: half & half. Predicted frames only."


def test_csv_keeps_every_digit_and_gives_errors_a_column():
    heads, *rows = csv.reader(io.StringIO(to_csv(TABLE)))
    assert heads[:4] == ["row", "kind", "PSNR, dB", "PSNR, dB: standard error"]
    assert heads[4:] == ["to df", "to df: standard error", "LPIPS", "parameters"]
    assert rows[0] == ["df", "no memory", "15.2849", "0.104", "", "", "n/a", "0"]
    assert rows[1] == ["a <b> | c", "memory", "14.0", "", "-1.2849", "0.05", "0.5", "1234567"]


def test_what_is_undefined_is_an_empty_cell():
    assert write_csv([["x", 0, 0.5, None, math.nan, math.inf]]) == "x,0,0.5,,,\n"


def test_html_is_escaped_and_whole():
    html = TEMPLATES.get_template("macros.html").module.table(TABLE)
    assert "<b>" not in html and "--dot:#23262c" in html
    cells = ParsedPage(html).cells
    assert cells[:5] == ["", "PSNR, dB", "to df", "LPIPS", "parameters"]
    assert cells[5:10] == ["no memory df", "15.28 ± 0.10", DASH, "n/a", "0"]
    assert cells[10:] == ["memory a <b> | chalf & half", "14.00", f"{MINUS}1.28 ± 0.05", "0.500", "1,234,567"]


def test_a_note_follows_the_title():
    columns = [Column("PSNR", [5.0, None], note="dB", bar=20.0)]
    table = Table("t", "T", [Head("x"), Head("y")], columns, "")
    html = TEMPLATES.get_template("macros.html").module.table(table)
    assert ParsedPage(html).cells[1] == "PSNRdB" and "--share:25%" in html and "--share:0%" in html
    assert "| PSNR (dB) |" in to_markdown(table) and to_csv(table).startswith("row,kind,PSNR (dB)\n")


@pytest.mark.parametrize("writer", [to_text, to_csv])
def test_a_column_has_a_cell_for_every_row(writer):
    with pytest.raises(ValueError, match="argument 2"):
        writer(Table("t", "T", [Head("x")], [Column("a", [1, 2])], ""))
