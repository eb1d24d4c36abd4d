"""What a run costs is what it measured itself."""

import json
import shutil

import jax
import pytest

from rad_jax.comparison.costs import DamagedRecord, read_costs
from rad_jax.model.names import named_leaves
from rad_jax.reports import hardware
from rad_jax.runs.restore import load_trained
from tests.toy_run import STEPS


class Device:
    def __init__(self, peak):
        self.peak = peak

    def memory_stats(self):
        return self.peak and {"peak_bytes_in_use": self.peak}


def test_peak_memory_is_of_the_fullest_device_or_of_the_process(monkeypatch):
    ((name, peak),) = hardware.peak_memory().items()
    assert name == hardware.PEAK_PROCESS and 2**26 < peak < 2**40
    monkeypatch.setattr(jax, "local_devices", lambda: [Device(5), Device(7)])
    assert hardware.peak_memory() == {hardware.PEAK_DEVICE: 7}
    monkeypatch.setattr(jax, "local_devices", lambda: [Device(5), Device(None)])
    assert list(hardware.peak_memory()) == [hardware.PEAK_PROCESS]


def test_hardware_is_the_cores_of_this_process(monkeypatch):
    monkeypatch.setattr(hardware.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda _: {3})
    assert hardware.hardware().startswith("1 CPU core of 8 (")
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda _: set(range(8)))
    assert hardware.hardware().startswith("8 CPU cores (")


def test_costs_are_medians_and_peaks_of_what_was_logged(toy, tmp_path):
    """Two processes, whose first intervals have no seconds per step because they compiled."""
    workdir = tmp_path / "run"
    shutil.copytree(toy.written("lstm-f"), workdir)
    lines = [
        {"step": 2, "time/peak_bytes_process": 100},
        {"step": 4, "time/seconds_per_step": 0.5, "time/peak_bytes_process": 300},
        {"step": 6, "time/seconds_per_step": 9.0, "time/peak_bytes_process": 300},
        {"step": 8, "time/peak_bytes_process": 200},
        {"step": 10, "time/seconds_per_step": 0.25, "time/peak_bytes_process": 250},
    ]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    costs = read_costs(workdir, STEPS)
    assert (costs.step_seconds, costs.peak_bytes, costs.peak_of) == (0.5, 300, "process")
    assert costs.hardware == "not recorded"
    sizes = {name: leaf.size for name, leaf in named_leaves(load_trained(workdir).params).items()}
    assert costs.parameters == sum(sizes.values())
    assert costs.memory_parameters == sum(size for name, size in sizes.items() if "/memory/" in name) > 0
    (workdir / "metrics.jsonl").write_text('{"step": 2}\n')
    nothing = read_costs(workdir, STEPS)
    assert (nothing.step_seconds, nothing.peak_bytes) == (None, None)
    for line in ("{", "[]", '{"step": 2.5}', '{"step": 2, "time/seconds_per_step": "1"}', "[" * 90_000):
        (workdir / "metrics.jsonl").write_text(f'{{"step": 2}}\n{line}\n')
        with pytest.raises(DamagedRecord, match=r"metrics\.jsonl, line 2 ") as info:
            read_costs(workdir, STEPS)
        assert len(str(info.value).splitlines()) == 1 and len(str(info.value)) < 500
    (workdir / "metrics.jsonl").unlink()  # a record that could not be written costs the record
    assert read_costs(workdir, STEPS) == nothing
