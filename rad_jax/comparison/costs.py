"""The costs of a run: size of its recurrent branch, and memory, time and hardware as measured during training."""

import math
import statistics
from pathlib import Path
from typing import NamedTuple

from rad_jax.errors import UserError
from rad_jax.files.json_files import check_form, parse_json
from rad_jax.model.names import is_memory, parameter_shapes
from rad_jax.reports.hardware import PEAK_DEVICE, PEAK_PROCESS, STEP_SECONDS
from rad_jax.runs import manifest
from rad_jax.runs.stored_config import read_config

PEAKS = {PEAK_DEVICE: "device", PEAK_PROCESS: "process"}


class DamagedRecord(UserError, ValueError):
    """The record of a training is not what was written."""


class Costs(NamedTuple):
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
    shapes = parameter_shapes(read_config(workdir).model)
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    memory = sum(size for name, size in sizes.items() if is_memory(name))
    lines = _read_metrics(workdir / "metrics.jsonl")
    peaks = [(int(line[name]), of) for line in lines for name, of in PEAKS.items() if name in line]
    seconds = [line[STEP_SECONDS] for line in lines if STEP_SECONDS in line]
    median = statistics.median(seconds) if seconds else None
    metadata = manifest.read(workdir / "checkpoints" / str(step)).metadata
    hardware = str(metadata.get("hardware", "not recorded"))
    return Costs(memory, sum(sizes.values()), *max(peaks, default=(None, "")), median, hardware)


def _read_metrics(path: Path) -> list[dict[str, int | float]]:
    """What was measured, line by line; nothing where the record could not be written, which does not end a training."""
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            values = parse_json(line, {"step": int})
            measured = {name: value for name, value in values.items() if name in (*PEAKS, STEP_SECONDS)}
            check_form(measured, {"*": float})
        except ValueError as error:
            raise DamagedRecord(f"{path}, line {number} is damaged ({error}); delete the line") from None
        found.append(measured)
    return found
