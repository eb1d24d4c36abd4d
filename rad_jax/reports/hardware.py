"""The hardware of this process, and its peak memory."""

import os
import platform
import resource
import sys

import jax

PEAK_DEVICE, PEAK_PROCESS = "time/peak_bytes_device", "time/peak_bytes_process"
STEP_SECONDS = "time/seconds_per_step"


def hardware() -> str:
    """The devices, such as "8 x TPU v5 lite"; on a CPU the cores that this process may use: "1 CPU core of 2 (x86_64)"."""
    if jax.default_backend() != "cpu":
        return f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    every = os.cpu_count()
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else every
    count = f"{mine} CPU core{'' if mine == 1 else 's'}"
    return f"{count}{'' if mine == every else f' of {every}'} ({platform.machine()})"


def peak_memory() -> dict[str, int]:
    """Peak memory so far in bytes: of this process's fullest device, or on a CPU of the process, compiler included.

    The one entry is named `PEAK_DEVICE` or `PEAK_PROCESS`. Both begin with "time/", which marks values that depend on the
    machine (`rad_jax.training.log`).
    """
    devices = [device.memory_stats() for device in jax.local_devices()]
    if all(stats and "peak_bytes_in_use" in stats for stats in devices):
        return {PEAK_DEVICE: max(stats["peak_bytes_in_use"] for stats in devices)}
    unit = 1 if sys.platform == "darwin" else 1024
    return {PEAK_PROCESS: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
