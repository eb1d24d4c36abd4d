"""The costs of a run: size of its recurrent branch, and memory, time and hardware as measured during training."""

import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path

import jax

from rad_jax.model import RAD
from rad_jax.model.names import is_memory, named_leaves
from rad_jax.runs import manifest
from rad_jax.runs.hardware import PEAK_DEVICE, PEAK_PROCESS, STEP_SECONDS
from rad_jax.runs.stored_config import read_config
from rad_jax.training.step import init_state


@dataclass(frozen=True)
class Costs:
    """Costs of one run; None where they were not measured.

    Attributes:
        memory_parameters, parameters: of the recurrent branches of all blocks, and of the whole model.
        peak_bytes: peak memory of training, of a device or else of the process (``peak_of``).
        step_seconds: median over the intervals between two lines of metrics.jsonl, without the first interval of each
            process, which includes compilation.
        hardware: of the process that finished the run.
    """

    memory_parameters: int
    parameters: int
    peak_bytes: int | None
    peak_of: str
    step_seconds: float | None
    hardware: str


def read_costs(workdir: Path, step: int) -> Costs:
    """The costs of a run up to its checkpoint of a step."""
    memory, total = count_parameters(workdir)
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    peaks = [(line[name], of) for line in lines for name, of in PEAKS.items() if name in line]
    seconds = [line[STEP_SECONDS] for line in lines if STEP_SECONDS in line]
    peak, of = max(peaks, default=(None, ""))
    metadata = manifest.read(workdir / "checkpoints" / str(step)).metadata
    return Costs(
        memory,
        total,
        None if peak is None else int(peak),
        of,
        statistics.median(seconds) if seconds else None,
        metadata.get("hardware", "not recorded"),
    )


PEAKS = {PEAK_DEVICE: "device", PEAK_PROCESS: "process"}


def count_parameters(workdir: Path) -> tuple[int, int]:
    """Counts the parameters of a run's recurrent branches and of its whole model, from shapes alone."""
    config = read_config(workdir)
    leaves = named_leaves(jax.eval_shape(lambda: init_state(RAD(config.model), config)).params)
    sizes = {name: math.prod(leaf.shape) for name, leaf in leaves.items()}
    return sum(size for name, size in sizes.items() if is_memory(name)), sum(sizes.values())
