"""The memory of the guide: checked and trained as a package of a user's, and built in by one file and one line."""

import os
import re
import shutil
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

from rad_jax.config import ConfigError
from rad_jax.config import own as kinds
from rad_jax.main import main
from rad_jax.model import mixers
from rad_jax.model.mixers import check
from rad_jax.runs import load_pretrained, load_trained
from tests.model.mixers.own import guide, write_package

PROGRAM = """
    import jax, jax.numpy as jnp, numpy as np
    from rad_jax.config import config_from_dict
    from rad_jax.model import RAD

    config = config_from_dict({
        "data.clip": 6, "model.latent": (4, 4, 3), "model.action_dim": 3, "model.width": 16, "model.depth": 2,
        "model.heads": 2, "model.window": 4, "model.dtype": "float32", "memory.kind": "ema", "memory.gate_init": 1.0,
        "train.batch": 2, "train.windows": 2,
    })
    model, noise = RAD(config.model), np.random.default_rng(0).normal
    inputs = noise(size=(2, 4, 4, 4, 3)), np.zeros((2, 4), int), noise(size=(2, 4, 3))
    frames, levels, actions = map(jnp.asarray, inputs)
    shapes = jax.eval_shape(model.init, jax.random.key(0), frames, levels, actions)
    variables = jax.tree.map(lambda s: jnp.asarray(noise(size=s.shape), s.dtype), shapes)
    assert set(variables["params"]["block"]["memory"]["mixer"]) == {"value", "out", "rate"}
    predict = jax.jit(model.apply)
    first, memory = predict(variables, frames, levels, actions)
    second, _ = predict(variables, frames, levels, actions, memory)
    assert np.isfinite(second).all() and np.any(first != second)
    print("a memory")
"""
SETTINGS = {"memory__own": "decay=0.8", "memory__gate_init": 1.0, "optimizer__warmup": 0, "train__steps": 2}


@pytest.fixture
def kind(tmp_path, monkeypatch):
    """The class of the guide in a package that Python finds, which nobody has named yet."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(kinds, "_trusted", set())
    return write_package(tmp_path, "memories_of_the_guide")


def test_a_package_of_the_users_is_checked_trained_exported_and_read_with_trust(kind, toy, tmp_path, capsys):
    assert check.main([kind, "--own", "decay=0.9"]) == 0
    assert capsys.readouterr().out.count("ok      ") == len(check.contract.CHECKS) + 2
    workdir = tmp_path / "run"
    own = {"memory__kind": kind, **SETTINGS}
    assert main(toy.arguments(workdir, **own)) == 0
    assert main(toy.arguments(workdir, "--mode", "export", **own)) == 0
    capsys.readouterr()

    kinds._trusted.clear()
    for read in (lambda: load_trained(workdir), lambda: load_pretrained(workdir / "export")):
        with pytest.raises(ConfigError, match=f"memory.kind={kind} is code"):
            read()
    mixers.trust(kind)
    trained = load_pretrained(workdir / "export")
    memory = trained.config.memory
    assert (memory.kind, memory.own, memory.shared, trained.step) == (kind, "decay=0.8", True, 2)
    mixer = trained.params["block"]["memory"]["mixer"]
    assert set(mixer) == {"value", "out", "rate"}
    rate = np.log(0.8 / 0.2)
    assert np.all(mixer["rate"] != np.float32(rate)) and np.allclose(mixer["rate"], rate, atol=0.01)
    jax.tree.map(np.testing.assert_array_equal, trained.params, load_trained(workdir).params)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"memory__own": "decay=1"}, "memory.own: decay=1: expected a number > 0 and < 1"),
        (
            {"memory__kind": "memories_of_the_guide.no:EMA"},
            "module memories_of_the_guide.no cannot be imported",
        ),
        ({"memory__kind": "memories_of_the_guide.ema:Ema"}, "memories_of_the_guide.ema has no class Ema"),
        ({"memory__kind": "lstm"}, "memory.own=decay=0.8: memory.kind=lstm has no settings of its own"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(changes, words, kind, toy, tmp_path, capsys):
    for mode in ("train", "plan"):
        arguments = toy.arguments(
            tmp_path / "run", "--mode", mode, **{"memory__kind": kind, **SETTINGS, **changes}
        )
        assert main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
    assert not (tmp_path / "run").exists()


def test_one_file_and_one_line_build_a_memory_in(root, tmp_path):
    package = tmp_path / "rad_jax"
    shutil.copytree(root / "rad_jax", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "model" / "mixers" / "ema.py").write_text(guide() + "\n\nMIXER = EMA\n")
    table = package / "config" / "memories.py"
    line = re.search(r'^    ("ema": Kind\(.*\),)$', (root / "CONTRIBUTING.md").read_text(), re.MULTILINE)[1]
    text, found = re.subn(r"(^MEMORIES\b.*\{\n)", rf"\1    {line}\n", table.read_text(), flags=re.MULTILINE)
    assert found == 1
    table.write_text(text)
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(PROGRAM)],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "a memory\n"


def test_the_guide_shows_the_example_and_its_commands(root):
    example = (root / "docs" / "examples" / "ema_memory.py").read_text()
    assert example[example.index("from dataclasses") :] == guide()
    for page in ("docs/memories.md", "CONTRIBUTING.md"):
        command = 'python -m rad_jax.model.mixers.check my_memories.ema:EMA --own "decay=0.9"'
        assert command in (root / page).read_text()
