"""Every exception of both packages ends a command in a line or two, and so do failures of the system."""

import ast
import builtins

from rad_jax.config import ConfigError
from rad_jax.errors import Stopped, UserError, explain
from tests.toy_run import ROOT

CAUGHT = {"NoWalkError"}  # always caught: another world is tried


def test_every_exception_class_is_a_user_error():
    files = [path for package in ("rad_jax", "data_prep") for path in (ROOT / package).rglob("*.py")]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text()))]
    bases = {
        node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        for node in nodes
        if isinstance(node, ast.ClassDef)
    }

    def above(name: str) -> set[str]:
        """The names of a class and of all that it derives from."""
        return {name}.union(*map(above, bases.get(name, ())))

    known = {
        name
        for name, kind in vars(builtins).items()
        if isinstance(kind, type) and issubclass(kind, BaseException)
    }
    exceptions = {name for name in bases if above(name) & known and not name.startswith("_")} - CAUGHT
    assert len(exceptions) > 15
    assert {name for name in exceptions if "UserError" not in above(name)} == set()


def test_statuses():
    assert explain(UserError("a")) == (1, "error: a")
    assert explain(ConfigError("a")) == (2, "error: a")
    assert explain(OSError(28, "No space left", "file"))[0] == 1
    assert explain(Stopped("a")) == (130, "a")
    assert explain(KeyboardInterrupt())[0] == 130
    assert explain(KeyError("a")) is None
