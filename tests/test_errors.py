"""Every exception of both packages ends a command in a line or two, and so do failures of the system."""

import ast
import builtins

from rad_jax.config import ConfigError
from rad_jax.errors import Stopped, UserError, explain
from tests.toy_run import ROOT

CAUGHT = {"NoWalkError"}  # always caught: another world is tried


def test_every_exception_class_is_a_user_error():
    bases = {}
    for package in ("rad_jax", "data_prep"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    bases[node.name] = [
                        base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
                        for base in node.bases
                    ]

    def is_exception(name: str) -> bool:
        builtin = getattr(builtins, name, None)
        if isinstance(builtin, type) and issubclass(builtin, BaseException):
            return True
        return any(map(is_exception, bases.get(name, [])))

    def is_user_error(name: str) -> bool:
        return name == "UserError" or any(map(is_user_error, bases.get(name, [])))

    exceptions = {name for name in bases if is_exception(name) and not name.startswith("_")} - CAUGHT
    assert len(exceptions) > 15
    assert {name for name in exceptions if not is_user_error(name)} == set()


def test_statuses():
    assert explain(UserError("a")) == (1, "error: a")
    assert explain(ConfigError("a")) == (2, "error: a")
    assert explain(OSError(28, "No space left", "file"))[0] == 1
    assert explain(Stopped("a")) == (130, "a")
    assert explain(KeyboardInterrupt())[0] == 130
    assert explain(KeyError("a")) is None
