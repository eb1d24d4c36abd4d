"""How the benchmarks measure: compiled once, run to the end, the fastest of several runs."""

import argparse
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


def options(doc: str, parser: argparse.ArgumentParser | None = None, **numbers: int) -> argparse.Namespace:
    """The command line of a benchmark, whose whole ``numbers`` have these defaults; prints it behind the hardware.

    Args:
      doc: of the benchmark's module; its first line is the description.
      parser: what else the command line has, if it has more.
    """
    parser = parser or argparse.ArgumentParser()
    parser.description = doc.splitlines()[0]
    for name, value in numbers.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    options = parser.parse_args()
    hardware = f"jax {jax.__version__}, {jax.device_count()} x {jax.devices()[0].device_kind}"
    print(hardware, *(f"{name} {value}" for name, value in vars(options).items()), sep=", ")
    return options
