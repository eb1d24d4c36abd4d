"""The shape of the source: imports point down and never in a circle, and packages stay small."""

import graphlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import grimp

PACKAGES = ("rad_jax", "data_prep", "experiments")
MOST_FILES, MOST_AT_THE_TOP = 12, 9
ALTERNATIVES = ("rad_jax/model/mixers", "data_prep/recordings/formats")  # as many files as there are choices
UPWARD = [
    ("rad_jax/model/rope.py", "rad_jax.training.loop"),
    ("rad_jax/media.py", "data_prep.common.command"),
    ("rad_jax/data/spec.py", "experiments.base"),
    ("data_prep/common/pool.py", "data_prep.recordings"),
    ("data_prep/recordings/files.py", "data_prep.worlds.maze.motion"),
    ("data_prep/worlds/maze/motion.py", "data_prep.recordings.actions"),
    ("data_prep/worlds/maze/motion.py", "data_prep.worlds.voxel.motion"),
    ("data_prep/recordings/survey.py", "data_prep.latents.source"),
    ("data_prep/latents/source.py", "data_prep.convert"),
    ("data_prep/look.py", "data_prep.convert"),
    ("data_prep/worlds/voxel/motion.py", "data_prep.worlds.luanti.world"),
]
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(cache_dir=None))"


def lint(directory: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", LINT], cwd=directory, capture_output=True, text=True)


def test_the_contracts_are_kept(root):
    result = lint(root)
    assert result.returncode == 0, result.stdout


def test_an_import_that_points_up_is_found_wherever_it_stands(root, tmp_path):
    for name in PACKAGES:
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / ".importlinter", tmp_path)
    for module, imported in UPWARD:
        with open(tmp_path / module, "a") as file:
            file.write(f"\n\ndef hidden():\n    import {imported}\n")
    result = lint(tmp_path)
    found = re.findall(r"(\S+) -> (\S+)", result.stdout)
    expected = {(module.removesuffix(".py").replace("/", "."), imported) for module, imported in UPWARD}
    assert result.returncode == 1 and expected <= set(found), result.stdout


def test_no_module_imports_itself_in_a_circle():
    """Imports within functions count."""
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    tuple(graphlib.TopologicalSorter(imports).static_order())  # raises, naming the circle


def test_packages_stay_small(root):
    folders = {path.parent for name in PACKAGES for path in (root / name).rglob("*.py")}
    files = {str(folder.relative_to(root)): len(list(folder.glob("*.py"))) for folder in folders}
    large = {name: n for name, n in files.items() if n > MOST_FILES and name not in ALTERNATIVES}
    assert not large and files["rad_jax"] <= MOST_AT_THE_TOP
