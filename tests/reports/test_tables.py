"""One table as text, Markdown, CSV and HTML."""

import csv
import io
import math

import pytest

from rad_jax.reports.html import TEMPLATES
from rad_jax.reports.tables import Column, Measured, Table, TableRow, to_csv, to_markdown, to_text, write_csv
from tests.reports.parsed_page import ParsedPage

DASH, MINUS = "\u2013", "\u2212"
TABLE = Table(
    "table1-loop",
    "Table 1: loop",
    [Column("PSNR, dB", errors=True), Column("to df", 2, True, True), Column("LPIPS", 3), Column("parameters", 0)],
    [
        TableRow("df", [Measured(15.2849, 0.104), None, "n/a", 0], "no memory", colour="#23262c"),
        TableRow("a <b> | c", [Measured(14.0, None), Measured(-1.2849, 0.05), 0.5, 1234567], "memory", "half & half"),
    ],
    "Predicted frames only.",
)  # fmt: skip


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
    assert heads == [
        "row",
        "kind",
        "PSNR, dB",
        "PSNR, dB: standard error",
        "to df",
        "to df: standard error",
        "LPIPS",
        "parameters",
    ]
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


def test_a_unit_follows_the_title():
    table = Table(
        "t", "T", [Column("PSNR", unit="dB", bar=20.0)], [TableRow("x", [5.0]), TableRow("y", [None])], ""
    )
    html = TEMPLATES.get_template("macros.html").module.table(table)
    assert ParsedPage(html).cells[1] == "PSNRdB" and "--share:25%" in html and "--share:0%" in html
    assert "| PSNR, dB |" in to_markdown(table) and to_csv(table).startswith('row,kind,"PSNR, dB"\n')


def test_a_row_has_a_cell_for_every_column():
    with pytest.raises(ValueError, match=r"table t, row 'x': 1 .* 2"):
        Table("t", "T", [Column("a"), Column("b")], [TableRow("x", [1])], "")
