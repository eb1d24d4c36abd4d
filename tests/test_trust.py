"""No code comes out of a file: the source calls nothing that could run what it reads, except an experiment of the user's."""

import ast
from collections.abc import Iterator

import pytest

from tests.toy_run import ROOT

PACKAGES = ("rad_jax", "data_prep", "experiments", "benchmarks", "docs/examples")
UNSAFE = {"dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml", "jsonpickle"}
# What the user wrote or typed: an experiment, and the command of a configuration that was not read from a file.
ALLOWED = {
    ("rad_jax/config/load.py", "runpy.run_path"),
    ("rad_jax/runs/datasets.py", "shell=True"),
}


def unsafe(tree: ast.AST) -> Iterator[str]:
    """What in a module could run code that it reads."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=found):
                yield from (alias.name for alias in found if alias.name.split(".")[0] in UNSAFE)
            case ast.ImportFrom(module=str(name), names=found):
                if name.split(".")[0] in UNSAFE | {"pickle", "runpy"}:
                    yield from (f"{name}.{alias.name}" for alias in found if "Error" not in alias.name)
            case ast.Name(id="eval" | "exec" | "__import__" as name):
                yield name
            case ast.Attribute(value=ast.Name(id="pickle"), attr=name) if not name.endswith("Error"):
                yield f"pickle.{name}"
            case ast.Attribute(value=ast.Name(id="runpy" | "os" as module), attr=name):
                if module == "runpy" or name in ("system", "popen"):
                    yield f"{module}.{name}"
            case ast.Call(func=function, keywords=keywords):
                given = {word.arg: getattr(word.value, "value", None) for word in keywords}
                yield from (f"{name}=True" for name in ("shell", "allow_pickle") if given.get(name, False))
                name = ast.unparse(function)
                if name == "torch.load" and given.get("weights_only") is not True:
                    yield "torch.load without weights_only"
                if name in ("np.load", "numpy.load") and given.get("allow_pickle") is not False:
                    yield "np.load without allow_pickle=False"


def test_nothing_that_is_read_is_run():
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(files) > 150
    found = {
        (path.relative_to(ROOT).as_posix(), what)
        for path in files
        for what in unsafe(ast.parse(path.read_text()))
    }
    assert found == ALLOWED


@pytest.mark.parametrize(
    "line",
    [
        "import dill",
        "from pickle import loads",
        "import pickle; pickle.load(file)",
        "eval(text)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
    ],
)
def test_it_would_be_found(line):
    assert list(unsafe(ast.parse(line)))
