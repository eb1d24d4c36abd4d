"""What is freed is kept: the same memory again costs the system nothing."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from rad_jax.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
import jax, jax.numpy as jnp

@jax.jit
def step(x):
    return (jnp.outer(x, x) @ jnp.outer(x, jnp.sin(x))).sum()

x = jnp.ones(1024)
step(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    step(x).block_until_ready()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_steps_take_no_new_pages_from_the_system():
    def faults(how: str) -> int:
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True
        )
        return int(ended.stdout)

    pages = 4 * 1024**2 * 4 // 4096  # of one matrix of a step, four times
    kept = faults("keep")
    assert kept < pages // 20
    assert faults("leave") > max(5 * kept, pages // 4)  # or there would be nothing to save
