"""The glossary explains every axis that an annotation names."""

import ast
import re

from rad_jax import axes

ARRAYS = {"Bool", "Float", "Int", "Key", "Shaped", "UInt8"}


def glossary() -> set[str]:
    """The names: every other column of the indented lines."""
    lines = [line.strip() for line in axes.__doc__.splitlines() if line.startswith("    ")]
    columns = [re.split(r"\s{2,}", line)[::2] for line in lines]
    return {name for row in columns for entry in row for name in re.findall(r"\w+", entry)}


def test_every_axis_is_explained(root):
    known, missing = glossary(), {}
    assert {"b", "t", "n", "d", "gates", "two_i"} <= known
    for path in sorted((root / "rad_jax").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Subscript) or getattr(node.value, "id", "") not in ARRAYS:
                continue
            names = re.findall(r"[A-Za-z]\w*", ast.literal_eval(node.slice.elts[-1]))
            if unknown := set(names) - known:
                missing.setdefault(str(path.relative_to(root)), set()).update(unknown)
    assert not missing
