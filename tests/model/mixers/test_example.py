"""The example memory of the documentation: one file and one line make it a memory like the others."""

import os
import re
import shutil
import subprocess
import sys
import textwrap

PROGRAM = """
    from functools import partial
    import jax, jax.numpy as jnp, numpy as np
    from rad_jax.config import MemoryConfig, config_from_dict
    from rad_jax.model import RAD
    from rad_jax.training.step import init_state, train_step
    from tests.model.mixers import contract

    with jax.enable_x64(True):
        for check in contract.CHECKS:
            check(contract.subject(MemoryConfig(kind="ema", action=True, action_width=4)))

    config = config_from_dict({
        "data.clip": 6, "model.latent": (4, 4, 3), "model.action_dim": 3, "model.width": 16, "model.depth": 2,
        "model.heads": 2, "model.window": 4, "model.dtype": "float32", "memory.kind": "ema", "memory.gate_init": 1.0,
        "train.batch": 2, "train.windows": 2, "optimizer.warmup": 0,
    })
    model, noise = RAD(config.model), np.random.default_rng(0).normal
    batch = {"latents": jnp.asarray(noise(size=(2, 6, 4, 4, 3)), "float16"),
             "actions": jnp.asarray(noise(size=(2, 6, 3)), "float32")}
    step = jax.jit(partial(train_step, model, config))
    before = init_state(model, config)
    state = before
    for _ in range(2):  # at first the last layer is zero, and nothing below it has a gradient
        state, metrics = step(None, state, batch)
    assert metrics["finite"]
    mixer, old = (s.params["block"]["memory"]["mixer"] for s in (state, before))
    assert set(mixer) == {"value", "out", "rate"}
    assert np.any(mixer["value"]["kernel"] != old["value"]["kernel"])
    print("a memory")
"""


def test_one_file_and_one_line_add_a_memory(root, tmp_path):
    package = tmp_path / "rad_jax"
    shutil.copytree(root / "rad_jax", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "docs" / "examples" / "ema_memory.py", package / "model" / "mixers" / "ema.py")
    table = package / "config" / "memories.py"
    line = r'\1    "ema": None,\n'
    text, found = re.subn(r"(^MEMORIES\b.*\{\n)", line, table.read_text(), flags=re.MULTILINE)
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


def test_the_guide_for_contributors_shows_this_example(root):
    example = (root / "docs" / "examples" / "ema_memory.py").read_text()
    code = example[example.index("import jax\n") :].rstrip()
    assert f"```python\n{code}\n```" in (root / "CONTRIBUTING.md").read_text()
