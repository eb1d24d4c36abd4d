"""What every test runs under: JAX on the CPU, exact matrix products, a compilation cache, programs that compile soon.

It is set in the environment, so that processes that tests start run under it too. `pyproject.toml` adds the rest: warnings
are errors, and every annotated shape in rad_jax is checked at run time. Nothing of rad_jax may be imported here, or its
modules would be loaded before that check is in place. Tests that need several devices start a process of their own.
"""

import gc
import os
import signal
from importlib.metadata import version
from pathlib import Path

import pytest
from absl import flags

ROOT = Path(__file__).parent.parent
# Compiling is most of the suite's time; these leave out what makes programs fast. The last ones take most of the time
# away, but newer versions do not know them, and XLA aborts on what it does not know.
COMPILE_SOON = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if version("jaxlib").startswith("0.10."):
    COMPILE_SOON += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"

# Before jax is imported, which reads them.
os.environ["XLA_FLAGS"] = f"{COMPILE_SOON} {os.environ.get('XLA_FLAGS', '')}".strip()
for name, value in {
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",  # small programs are most of the suite
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "JAX_DEFAULT_MATMUL_PRECISION": "highest",
}.items():
    os.environ.setdefault(name, value)


# Tracing makes millions of objects that stay, and the collector looks at all of them again and again: a tenth of the suite.
gc.set_threshold(100_000, 50, 100)
# A shell lets its background jobs ignore interrupts, which processes that tests start would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config):
    flags.FLAGS.mark_as_parsed()  # Grain reads flags, which absl.app would have parsed


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository, where relative paths of experiments and data sets start."""
    return ROOT


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """Data sets, configurations and runs that tests share, see `tests.toy_run`."""
    from tests.toy_run import Toy

    return Toy(tmp_path_factory.mktemp("toy"))
