"""The page of promises names tests and commands that exist."""

import ast
import re

import pytest

from tests.toy_run import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text()
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)))


def test_every_promise_has_a_test():
    rows = re.findall(r"^\| (\d+)\. .* \| (.*) \| .* \|$", PAGE, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 19))
    assert all("::" in tests or tests == "as 1" for _, tests in rows)


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_the_tests_that_it_names_exist(file):
    tree = ast.parse((ROOT / "tests" / file).read_text())
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert {name for path, name in NAMED if path == file} <= defined
