"""How the benchmarks measure: compiled once, run to the end, the fastest of several runs."""

import time
from collections.abc import Callable

import jax


def compiled(function: Callable, *arguments):
    """``function`` compiled for these arguments; its ``memory_analysis()`` is XLA's own."""
    return jax.jit(function).lower(*arguments).compile()


def seconds(function: Callable, *arguments, repeats: int = 3) -> float:
    """Wall time of the fastest of ``repeats`` runs, after one that does not count."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - begin)
    return min(times[1:])


def hardware() -> str:
    return f"jax {jax.__version__}, {jax.device_count()} x {jax.devices()[0].device_kind}"
