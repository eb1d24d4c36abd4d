"""What every test runs under: JAX on the CPU, exact matrix products, a compilation cache, no silent broadcasting.

`pyproject.toml` adds the rest: warnings are errors, and every annotated shape in rad_jax is checked at run time. Nothing
of rad_jax may be imported here, or its modules would be loaded before that check is in place. Tests that need several
devices start a process of their own.
"""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before jax is imported

import jax
import pytest
from absl import flags

CACHE = Path(__file__).parent.parent / ".jax_cache"


def pytest_configure(config):
    jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", str(CACHE)))
    jax.config.update(
        "jax_persistent_cache_min_compile_time_secs", 0.0
    )  # small programs are most of the suite
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_default_matmul_precision", "highest")
    flags.FLAGS.mark_as_parsed()  # Grain reads flags, which absl.app would have parsed


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository, where relative paths of experiments and data sets start."""
    return Path(__file__).parent.parent
