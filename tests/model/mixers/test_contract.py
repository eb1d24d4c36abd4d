"""Every memory of `rad_jax.config.memories` keeps the contract, also one without a test file of its own."""

from pathlib import Path

import pytest

from rad_jax.config import NAMES, MemoryConfig
from rad_jax.model.mixers import contract

# The files of these run the contract on variants of the memory.
TESTED = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
KINDS = [kind for kind in NAMES if kind != "none"]


@pytest.mark.parametrize("check", contract.CHECKS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in TESTED] or ["lstm"])
def test_contract(kind, check, float64):
    check(contract.subject(MemoryConfig(kind=kind, action=True, action_width=4)))
